"""GaussianMLP against a plain torch.nn.Sequential, task by task, and its actor against its distribution."""

import math

import numpy as np
import pytest
import torch
from synthetic_batches import random_params
from torch import nn

from metarl.policies import GaussianMLP, ObsNormaliser, actor_from_distribution, goal_as_context

ACTIVATIONS = ["tanh", "relu"]
HIDDEN = [(7,), (6, 5, 4)]


def sequential(policy: GaussianMLP, params: torch.Tensor) -> nn.Sequential:
    """The mean network as torch builds it; torch keeps weights as (out, in)."""
    named = policy.layout.unflatten(params)
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(zip(policy.sizes[:-1], policy.sizes[1:], strict=True)):
        linear = nn.Linear(n_in, n_out, dtype=params.dtype)
        linear.load_state_dict({"weight": named[f"weight_{i}"].t(), "bias": named[f"bias_{i}"]})
        layers += [linear, nn.Tanh() if policy.activation == "tanh" else nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_mean_is_that_of_a_sequential_network(activation, hidden):
    policy = GaussianMLP(3, 2, hidden, activation)
    params = random_params(policy, 0)
    obs = torch.randn(1, 11, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mean, log_std = policy.distribution(params[None], obs)
    torch.testing.assert_close(mean[0], sequential(policy, params)(obs[0]))
    torch.testing.assert_close(log_std[0], policy.layout.unflatten(params)["log_std"], rtol=0, atol=0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_batch_of_tasks_equals_each_task_alone(activation):
    policy = GaussianMLP(3, 2, (8, 8), activation)
    params = torch.stack([random_params(policy, i) for i in range(4)])
    obs = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mean, log_std = policy.distribution(params, obs)
    for i in range(4):
        mean_i, log_std_i = policy.distribution(params[i : i + 1], obs[i : i + 1])
        torch.testing.assert_close(mean[i], mean_i[0], rtol=1e-13, atol=1e-13)
        assert torch.equal(log_std[i], log_std_i[0])


@pytest.mark.parametrize("scaled", [False, True])
def test_an_oracle_whose_goal_is_the_context_acts_as_it_did(scaled):
    """Where the scaled context is the goal, scaled like the other observations; the context starts at the mean goal."""
    mean, std = torch.tensor([0.1, -0.2, 0.3, 1.0, -1.0]), torch.tensor([1.0, 2.0, 0.5, 0.7, 1.5])
    normaliser = ObsNormaliser(tuple(mean.tolist()), tuple(std.tolist())) if scaled else None
    oracle = GaussianMLP(5, 2, (7, 6), normaliser=normaliser)
    theta = random_params(oracle, 0)
    policy, start = goal_as_context(oracle, theta, 2, context_scale=4.0)
    exploring, also = goal_as_context(oracle, theta, 2, context_scale=4.0, guess_std=0.3)
    obs = 0.5 * torch.randn(1, 9, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def oracle_mean(goal: torch.Tensor) -> torch.Tensor:
        return oracle.distribution(theta[None], torch.cat([obs, goal.expand(1, 9, 2)], -1))[0]

    centre = mean[3:].double() if scaled else torch.zeros(2, dtype=torch.float64)
    torch.testing.assert_close(policy.distribution(start[None], obs)[0], oracle_mean(centre))
    goal = torch.tensor([1.3, 0.4], dtype=torch.float64)
    told = start.clone()
    told[policy.layout.slices["context"]] = (goal - centre) / (std[3:].double() if scaled else 1.0) / 4.0
    torch.testing.assert_close(policy.distribution(told[None], obs)[0], oracle_mean(goal))
    torch.testing.assert_close(
        policy.distribution(told[None], obs)[1], oracle.distribution(theta[None], torch.zeros(1, 1, 5).double())[1]
    )
    guess = (goal - centre) / (std[3:].double() if scaled else 1.0)
    mean_, log_std = exploring.distribution(also[None], torch.cat([obs, guess.expand(1, 9, 2)], -1))
    torch.testing.assert_close(mean_, oracle_mean(goal))
    torch.testing.assert_close(log_std[0], oracle.layout.unflatten(theta)["log_std"])
    with pytest.raises(ValueError, match="has no 5 goal entries"):
        goal_as_context(oracle, theta, 5, 1.0)
    with pytest.raises(ValueError, match="2 context entries"):
        goal_as_context(policy, start, 1, 1.0)


def test_a_guess_behind_the_observation_adds_to_the_context():
    normaliser = ObsNormaliser((0.1, -0.2, 0.3), (1.0, 2.0, 0.5))
    policy = GaussianMLP(3, 2, (7, 6), normaliser=normaliser, context_dim=2, context_scale=4.0, guess_std=1.0)
    params = random_params(policy, 0)
    obs = torch.randn(1, 9, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    guess = torch.tensor([0.7, -1.2], dtype=torch.float64)
    told = params.clone()
    told[policy.layout.slices["context"]] += guess / 4.0
    guessing = policy.distribution(params[None], torch.cat([obs, guess.expand(1, 9, 2)], -1))
    told_so = policy.distribution(told[None], obs)
    torch.testing.assert_close(guessing[0], told_so[0])
    entries = policy.layout.unflatten(params)
    torch.testing.assert_close(guessing[1][0], entries["guess_log_std"])
    torch.testing.assert_close(told_so[1][0], entries["log_std"])
    for seen in (obs, torch.cat([obs, guess.expand(1, 9, 2)], -1)):
        expected = policy.distribution(params[None], seen)[0].float()
        actual = policy.actor(params[None].float())(seen.float())
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=2e-6)


def test_guesses_are_spread_over_their_range():
    policy = GaussianMLP(3, 2, context_dim=2, guess_std=0.5)
    found = policy.guesses(20, np.random.default_rng(0))
    assert (found.shape, found.dtype) == ((20, 2), np.float32)
    edges = np.linspace(-1, 1, 21) * 0.5 * np.sqrt(3)
    for entry in found.T:
        assert (np.histogram(entry, edges)[0] == 1).all(), "one in each twentieth"
    assert not np.array_equal(*np.argsort(found, axis=0).T), "entries in one order"
    assert np.array_equal(policy.guesses(20, np.random.default_rng(0)), found)
    many = policy.guesses(5000, np.random.default_rng(1))
    np.testing.assert_allclose(many.std(0), 0.5, rtol=1e-3)


@pytest.mark.parametrize(("context_dim", "guess_std"), [(0, 0.5), (2, -0.1), (2, float("nan"))])
def test_guesses_need_a_context(context_dim, guess_std):
    with pytest.raises(ValueError, match="guess_std"):
        GaussianMLP(3, 2, context_dim=context_dim, guess_std=guess_std)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_actor_is_the_mean_of_the_distribution(activation, hidden):
    """The actor's tanh is numpy's, so that equality holds to float32 rounding only."""
    policy = GaussianMLP(3, 2, hidden, activation, context_dim=2, context_scale=0.7)
    params = torch.stack([random_params(policy, i).float() for i in range(4)])
    obs = 2 * torch.randn(4, 50, 3, generator=torch.Generator().manual_seed(1))
    before = obs.clone()
    expected = policy.distribution(params, obs)[0]
    torch.testing.assert_close(policy.actor(params)(obs), expected, rtol=1e-5, atol=2e-6)
    assert torch.equal(obs, before), "the actor changed its input"


@pytest.mark.parametrize("n_envs", [1, 3, 20])
@pytest.mark.parametrize(("obs_dim", "act_dim", "hidden"), [(2, 2, (16,)), (17, 6, (100, 100)), (27, 8, (32, 33))])
def test_an_actors_bits_do_not_depend_on_the_other_tasks(n_envs, obs_dim, act_dim, hidden):
    """Nor on the place of the task among them: so results do not depend on how tasks are shared among threads."""
    policy = GaussianMLP(obs_dim, act_dim, hidden)
    params = torch.stack([policy.init(torch.Generator().manual_seed(i)) for i in range(12)])
    obs = torch.randn(12, n_envs, obs_dim, generator=torch.Generator().manual_seed(1))
    mean = policy.actor(params)(obs)
    for start, stop in [(0, 1), (1, 2), (11, 12), (3, 5), (2, 7), (5, 12)]:
        assert torch.equal(policy.actor(params[start:stop])(obs[start:stop].clone()), mean[start:stop])


def test_actor_takes_parameters_that_require_gradients():
    policy = GaussianMLP(3, 2, (8,))
    params = random_params(policy, 0).float()[None].requires_grad_()
    assert not policy.actor(params)(torch.ones(1, 1, 3)).requires_grad


def test_actor_from_distribution_is_the_mean_without_a_graph():
    policy = GaussianMLP(3, 2, (8,))
    params = random_params(policy, 0).float()[None].requires_grad_()
    obs = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(1))
    mean = actor_from_distribution(policy, params)(obs)
    assert not mean.requires_grad
    torch.testing.assert_close(mean, policy.distribution(params, obs)[0].detach(), rtol=0, atol=0)


def test_log_std_has_a_floor_without_gradient_below_it():
    policy = GaussianMLP(3, 3, (4,), min_log_std=-0.5)
    flat = torch.zeros(1, policy.layout.size, dtype=torch.float64)
    flat[0, policy.layout.slices["log_std"]] = torch.tensor([-2.0, -0.5, 0.3], dtype=torch.float64)
    flat.requires_grad_()
    _, log_std = policy.distribution(flat, torch.zeros(1, 1, 3, dtype=torch.float64))
    assert log_std[0].tolist() == [-0.5, -0.5, 0.3]
    log_std.sum().backward()
    assert flat.grad is not None
    # On the floor itself the gradient flows, else a policy that starts there could never leave it.
    assert flat.grad[0, policy.layout.slices["log_std"]].tolist() == [0.0, 1.0, 1.0]


def test_the_default_floor_is_a_standard_deviation_of_a_millionth():
    policy = GaussianMLP(3, 2, (4,))
    params = torch.full((1, policy.layout.size), -100.0, dtype=torch.float64)
    _, log_std = policy.distribution(params, torch.zeros(1, 1, 3, dtype=torch.float64))
    torch.testing.assert_close(log_std.exp(), torch.full((1, 2), 1e-6, dtype=torch.float64))


def test_init_is_xavier_uniform_with_zero_biases():
    policy = GaussianMLP(50, 20, (100, 80), init_log_std=-0.7)
    named = policy.layout.unflatten(policy.init(torch.Generator().manual_seed(0)))
    for i, (n_in, n_out) in enumerate([(50, 100), (100, 80), (80, 20)]):
        weight, bound = named[f"weight_{i}"], math.sqrt(6 / (n_in + n_out))
        assert weight.shape == (n_in, n_out)
        assert weight.abs().max() <= bound
        assert weight.abs().max() > 0.99 * bound
        assert abs(float(weight.mean())) < 5 * bound / math.sqrt(3 * weight.numel())
        assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert torch.equal(named[f"bias_{i}"], torch.zeros(n_out))
    assert torch.equal(named["log_std"], torch.full((20,), -0.7))


def test_init_is_a_function_of_its_generator():
    policy = GaussianMLP(3, 2, (8,))
    one, same, other = (policy.init(torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_an_unknown_activation_is_refused(no_type_checks):
    with pytest.raises(ValueError, match=r"unknown activation 'gelu'; allowed: tanh, relu"):
        GaussianMLP(3, 2, (8,), "gelu")  # type: ignore[arg-type]


@pytest.mark.parametrize("hidden", [(), (8, 0)])
def test_hidden_sizes_must_be_positive(hidden):
    with pytest.raises(ValueError, match="must be one or more positive numbers"):
        GaussianMLP(3, 2, hidden)
