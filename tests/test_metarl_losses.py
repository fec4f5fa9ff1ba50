"""From trajectories to batches, and the surrogate losses."""

import dataclasses
import math

import pytest
import torch
from synthetic_batches import Wrapped, random_batch, random_params
from torch.distributions import Independent, Normal, kl_divergence

from metarl.losses import AutogradSurrogate, Linearised, linearise_with, mean_kl, surrogate_loss, task_batches
from metarl.policies import ClosedFormSurrogate, GaussianMLP
from metarl.rollout import Rollout
from metarl.workers import Workers

LENGTHS = [[9, 9, 9, 9], [9, 4, 1, 7], [1, 1, 1, 1]]
"""Steps of each episode of three tasks: none ends, some end, all end at once."""


def make_rollout(seed: int = 0, lengths: list[list[int]] = LENGTHS, reward: torch.Tensor | None = None) -> Rollout:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    n_tasks, n_envs, time = len(lengths), len(lengths[0]), 9
    valid = torch.arange(time) < torch.tensor(lengths)[..., None]
    shape, log_std = (n_tasks, n_envs, time), 0.3 * normal(n_tasks, 2)
    mean = normal(*shape, 2) * valid[..., None]
    return Rollout(
        obs=normal(*shape, 3) * valid[..., None],
        action=mean + log_std.exp()[:, None, None] * normal(*shape, 2) * valid[..., None],
        mean=mean,
        log_std=log_std,
        reward=(normal(*shape) if reward is None else reward) * valid,
        valid=valid,
        terminated=~valid[..., -1],
        n_diverged=0,
    )


def with_guesses(rollout: Rollout) -> Rollout:
    """The last observation stays what it is at the first step, as a guess does."""
    obs = rollout.obs.clone()
    obs[..., -1] = torch.where(rollout.valid, obs[..., :1, -1], 0.0)
    return dataclasses.replace(rollout, obs=obs, n_guess=1)


@pytest.fixture(params=[torch.float32, torch.float64])
def dtype(request) -> torch.dtype:
    return request.param


def test_a_batch_holds_the_valid_steps_in_order(dtype):
    rollout = make_rollout()
    for i, batch in enumerate(task_batches(rollout, 0.99, 1.0, Workers(2), dtype)):
        n = sum(LENGTHS[i])
        rows = [(env, t) for env, length in enumerate(LENGTHS[i]) for t in range(length)]
        assert len(batch.weight) == n
        for k, (env, t) in enumerate(rows):
            assert torch.equal(batch.obs[k], rollout.obs[i, env, t].to(dtype))
            assert torch.equal(batch.action[k], rollout.action[i, env, t].to(dtype))
            assert torch.equal(batch.mean_old[k], rollout.mean[i, env, t].to(dtype))
        assert torch.equal(batch.log_std_old, rollout.log_std[i].to(dtype))
        values = [getattr(batch, f.name) for f in dataclasses.fields(batch)]
        assert {value.dtype for value in values if value is not None} == {dtype}


def test_shares_sum_to_one_and_weights_are_standardised_advantages_times_the_share(dtype):
    for batch in task_batches(make_rollout(), 0.99, 0.9, Workers(1), dtype)[:2]:
        n = len(batch.weight)
        torch.testing.assert_close(batch.row_weight, torch.full((n,), 1 / n, dtype=dtype))
        advantage = batch.weight.double() * n
        assert abs(float(advantage.mean())) < 1e-5
        assert float((advantage**2).mean()) == pytest.approx(1.0, abs=1e-4)


def test_log_prob_is_that_of_the_policy_that_acted(dtype):
    rollout = make_rollout()
    for i, batch in enumerate(task_batches(rollout, 0.99, 1.0, Workers(1), dtype)):
        acted = Independent(Normal(rollout.mean[i].double(), rollout.log_std[i].double().exp()), 1)
        expected = acted.log_prob(rollout.action[i].double())[rollout.valid[i]]
        torch.testing.assert_close(batch.log_prob_old.double(), expected, rtol=1e-5, atol=1e-5)


def test_a_reward_offset_that_the_baseline_knows_does_not_matter():
    """With lambda 1 and discount 1, r + c adds c * (steps left) to every return: linear in the baseline's features."""
    rollout = make_rollout(lengths=[[9] * 12])
    shifted = dataclasses.replace(rollout, reward=rollout.reward + 3.0)
    one, other = (task_batches(r, 1.0, 1.0, Workers(1), torch.float64)[0] for r in (rollout, shifted))
    torch.testing.assert_close(one.weight, other.weight, rtol=0, atol=1e-4)


def test_what_lies_behind_an_episodes_end_does_not_matter():
    rollout = with_guesses(make_rollout())
    garbage = dataclasses.replace(
        rollout,
        obs=torch.where(rollout.valid[..., None], rollout.obs, 5.0),
        action=torch.where(rollout.valid[..., None], rollout.action, 5.0),
        mean=torch.where(rollout.valid[..., None], rollout.mean, -5.0),
    )
    for one, other in zip(
        *(task_batches(r, 0.99, 0.9, Workers(1), guess_weight=1.0) for r in (rollout, garbage)), strict=True
    ):
        for field in dataclasses.fields(one):
            assert torch.equal(getattr(one, field.name), getattr(other, field.name)), field.name


def test_a_task_with_fewer_steps_than_features_has_finite_weights():
    batch = task_batches(make_rollout(), 0.99, 1.0, Workers(1))[2]
    assert len(batch.weight) == 4
    assert torch.isfinite(batch.weight).all()


def test_one_single_step_has_weight_zero():
    batch = task_batches(make_rollout(lengths=[[1]]), 0.99, 1.0, Workers(1))[0]
    assert batch.weight.tolist() == [0.0]


def test_zero_rewards_have_weight_zero(dtype):
    for batch in task_batches(make_rollout(reward=torch.zeros(3, 4, 9)), 0.99, 1.0, Workers(1), dtype):
        assert not batch.weight.any()


def test_centred_advantages_keep_the_unit_of_the_reward(dtype):
    """Ten times the reward: ten times the weights, where standardised ones stay. Each task sums to zero."""
    reward = make_rollout().reward.float()
    one, ten = (make_rollout(reward=scale * reward) for scale in (1, 10))
    for kind, factor in (("centred", 10), ("standardised", 1)):
        pairs = zip(*(task_batches(r, 0.99, 0.9, Workers(1), dtype, kind)[:2] for r in (one, ten)), strict=True)
        for a, b in pairs:
            torch.testing.assert_close(b.weight, factor * a.weight, rtol=1e-3, atol=1e-4)
            assert abs(float(a.weight.sum())) < 1e-5


def test_the_number_of_threads_changes_nothing():
    rollout = with_guesses(make_rollout())
    batches = (task_batches(rollout, 0.99, 0.9, Workers(n), guess_weight=1.0) for n in (1, 3))
    for one, other in zip(*batches, strict=True):
        for field in dataclasses.fields(one):
            assert torch.equal(getattr(one, field.name), getattr(other, field.name)), field.name


def test_a_subset_scales_its_shares_to_one():
    batch = task_batches(make_rollout(), 0.99, 1.0, Workers(1), torch.float64)[1]
    rows = torch.tensor([0, 3, 4, 11, 20])
    part = batch.subset(rows)
    assert float(part.row_weight.sum()) == pytest.approx(1.0, rel=1e-12)
    torch.testing.assert_close(part.weight, batch.weight[rows] * 21 / 5)
    for name in ("obs", "action", "mean_old", "log_prob_old"):
        assert torch.equal(getattr(part, name), getattr(batch, name)[rows])
    assert torch.equal(part.log_std_old, batch.log_std_old)


def test_a_subset_estimates_the_loss_without_bias():
    """The mean over all subsets of one row each is the loss itself."""
    policy = GaussianMLP(3, 2, (4,))
    params = random_params(policy, 0)
    batch = random_batch(policy, params, 12, 1)
    for kind in ("log_prob", "ratio"):
        parts = [surrogate_loss(policy, params, batch.subset(torch.tensor([i])), kind) for i in range(12)]
        torch.testing.assert_close(torch.stack(parts).mean(), surrogate_loss(policy, params, batch, kind))


@pytest.mark.parametrize("kind", ["log_prob", "ratio"])
def test_surrogate_loss_by_torch_distributions(kind):
    policy = GaussianMLP(3, 2, (4,))
    params = random_params(policy, 0)
    batch = random_batch(policy, params, 12, 1)
    mean, log_std = policy.distribution(params[None], batch.obs[None])
    log_prob = Independent(Normal(mean[0], log_std[0].exp()), 1).log_prob(batch.action)
    term = log_prob if kind == "log_prob" else (log_prob - batch.log_prob_old).exp()
    torch.testing.assert_close(surrogate_loss(policy, params, batch, kind), -(batch.weight * term).sum())


def test_mean_kl_by_torch_distributions():
    policy = GaussianMLP(3, 2, (4,))
    params = random_params(policy, 0)
    batch = random_batch(policy, params, 12, 1)
    mean, log_std = policy.distribution(params[None], batch.obs[None])
    old, new = Normal(batch.mean_old, batch.log_std_old.exp()), Normal(mean[0], log_std[0].exp())
    torch.testing.assert_close(mean_kl(policy, params, batch), kl_divergence(old, new).sum(-1).mean())
    assert mean_kl(policy, params, batch) > 0


def test_the_gaussian_mlp_is_linearised_in_closed_form_and_any_other_policy_by_autograd():
    policy = GaussianMLP(3, 2, (4,))
    params = random_params(policy, 0)
    batch = random_batch(policy, params, 12, 1)
    closed, generic = (linearise_with(p)(params, batch, "ratio") for p in (policy, Wrapped(policy)))
    assert isinstance(closed, ClosedFormSurrogate)
    assert isinstance(generic, AutogradSurrogate)
    assert isinstance(closed, Linearised)
    assert isinstance(generic, Linearised)
    torch.testing.assert_close(closed.loss, generic.loss)
    torch.testing.assert_close(closed.gradient(), generic.gradient())


def test_autograd_results_carry_no_graph():
    policy = Wrapped(GaussianMLP(3, 2, (4,)))
    params = random_params(policy, 0).requires_grad_()
    batch = random_batch(policy.policy, params.detach(), 12, 1)
    surrogate = AutogradSurrogate(policy, params, batch, "ratio")
    with torch.no_grad():
        gradient = surrogate.gradient(keep=True)
        products = surrogate.hvp(gradient), surrogate.fisher_vector_product(gradient, batch.row_weight)
    assert not any(x.requires_grad for x in (surrogate.loss, gradient, *products))


def test_a_nan_reward_spoils_its_own_task_only():
    reward = torch.randn(3, 4, 9, generator=torch.Generator().manual_seed(0))
    reward[0, 1, 2] = math.nan
    batches = task_batches(make_rollout(reward=reward), 0.99, 1.0, Workers(1))
    assert batches[0].weight.isnan().all()
    assert torch.isfinite(batches[1].weight).all()
    assert torch.isfinite(batches[2].weight).all()


def test_the_likelihood_of_guesses_is_that_of_a_normal_draw_around_the_context():
    """Against autograd through torch's own density, at the context that acted and elsewhere."""
    policy = GaussianMLP(2, 2, (4,), context_dim=1, context_scale=3.0, guess_std=0.7)
    rollout = with_guesses(make_rollout())
    plain, weighted = (
        task_batches(rollout, 0.99, 1.0, Workers(1), torch.float64, guess_weight=weight) for weight in (0.0, 2.0)
    )
    theta = random_params(policy, 3)
    at = policy.layout.slices["context"]
    for i, (without, batch) in enumerate(zip(plain, weighted, strict=True)):
        guess, score = rollout.obs[i, :, 0, -1].double(), rollout.episode_return[i].double()
        advantage = (score - score.mean()) / score.std(correction=0)
        drawn = 3.0 * theta[at] + guess  # the context that acted, and the guess
        for moved in (0.0, 0.4):
            params = (theta + moved).requires_grad_()
            density = Normal(3.0 * params[at], torch.tensor(0.7, dtype=torch.float64))
            loss = -2.0 * (advantage * density.log_prob(drawn)).mean()
            (expected,) = torch.autograd.grad(loss, params)
            params = params.detach()
            difference = linearise_with(policy)(params, batch, "log_prob").gradient()
            difference -= linearise_with(policy)(params, without, "log_prob").gradient()
            torch.testing.assert_close(difference, expected, rtol=1e-6, atol=1e-7)


def test_guesses_have_no_likelihood_where_nothing_was_guessed():
    assert task_batches(make_rollout(), 0.99, 1.0, Workers(1), guess_weight=1.0)[0].guess_slope is None
    assert task_batches(with_guesses(make_rollout()), 0.99, 1.0, Workers(1))[0].guess_slope is None


def test_equal_returns_say_nothing_about_guesses():
    rollout = with_guesses(make_rollout(reward=torch.ones(3, 4, 9), lengths=[[9] * 4] * 3))
    for batch in task_batches(rollout, 0.99, 1.0, Workers(1), guess_weight=1.0):
        assert batch.guess_slope is not None
        assert not batch.guess_slope.any()
