"""Collector: reproducible to the bit, one task independent of the others, and what a rollout holds."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from metarl.envs import Family, Simulator, State, make_family
from metarl.envs.point import PointNav
from metarl.policies import GaussianMLP
from metarl.rollout import Collector, Rollout
from metarl.workers import Workers

FIELDS = ("obs", "action", "mean", "reward", "valid", "terminated")


class EndsAtOnce(PointNav):
    """Every episode ends at its first step."""

    def done(self, state: State, goal: np.ndarray) -> np.ndarray:
        return np.ones(len(goal), dtype=bool)


@pytest.fixture(scope="module", params=["point-nav", "half-cheetah-vel", "ant-dir"])
def family(request) -> Family:
    return make_family(request.param)


@pytest.fixture(scope="module")
def ant() -> Family:
    return make_family("ant-dir")


def make_policy(family: Family, log_std: float = 0.0) -> GaussianMLP:
    return GaussianMLP(family.spec.obs_dim, family.spec.act_dim, (32, 32), init_log_std=log_std)


def task_params(policy: GaussianMLP, n: int) -> torch.Tensor:
    """Different parameters for each task, log-std included."""
    params = torch.stack([policy.init(torch.Generator().manual_seed(i)) for i in range(n)])
    params[:, policy.layout.slices["log_std"]] += torch.linspace(-0.5, 0.5, n)[:, None]
    return params


def collect(
    family: Family,
    n_tasks: int = 5,
    n_envs: int = 3,
    n_threads: int = 1,
    horizon: int = 25,
    params: torch.Tensor | None = None,
    order: list[int] | None = None,
    seed: int = 7,
    deterministic: bool = False,
) -> Rollout:
    policy, workers = make_policy(family), Workers(n_threads)
    collector = Collector(family, policy, n_tasks, n_envs, workers, horizon)
    tasks = family.tasks.sample(20, np.random.default_rng(0))[list(range(n_tasks)) if order is None else order]
    params = task_params(policy, n_tasks) if params is None else params
    rollout = collector.collect(params, tasks, np.random.SeedSequence(seed), deterministic)
    workers.close()
    return rollout


def assert_same_bits(one: Rollout, other: Rollout, rows: slice = slice(None)) -> None:
    for name in FIELDS:
        assert torch.equal(getattr(one, name)[rows], getattr(other, name)[rows]), f"{name} differs"


def test_same_seed_twice_gives_the_same_bits_and_another_seed_others(family):
    rollout = collect(family)
    assert_same_bits(rollout, collect(family))
    assert not torch.equal(rollout.action, collect(family, seed=8).action)


def test_one_collector_and_one_seed_object_give_the_same_bits_again(family):
    """Neither the simulators' last states nor the seed carry over."""
    policy, tasks, seed = (
        make_policy(family),
        family.tasks.sample(2, np.random.default_rng(0)),
        np.random.SeedSequence(7),
    )
    collector = Collector(family, policy, 2, 3, Workers(1), 25)
    params = task_params(policy, 2)
    first = collector.collect(params, tasks, seed)
    collector.collect(-params, tasks[[1, 0]], np.random.SeedSequence(1))
    assert_same_bits(first, collector.collect(params, tasks, seed))


@pytest.mark.parametrize("n_threads", [2, 3, 7])
def test_the_number_of_threads_changes_nothing(family, n_threads):
    assert_same_bits(collect(family), collect(family, n_threads=n_threads))


def test_a_task_does_not_depend_on_its_neighbours(family):
    policy = make_policy(family)
    params = task_params(policy, 5)
    changed = params.clone()
    changed[2] = -changed[2]
    rollout, other = collect(family, params=params), collect(family, params=changed, order=[0, 1, 9, 3, 4])
    for rows in (slice(0, 2), slice(3, 5)):
        assert_same_bits(rollout, other, rows)
    assert not torch.equal(rollout.mean[2], other.mean[2])
    assert_same_bits(rollout, collect(family, n_tasks=2, params=params[:2]), slice(0, 2))


def test_permuting_tasks_and_parameters_permutes_the_result():
    """Without noise and with the point's fixed start the seeds, which belong to positions, do not matter."""
    family, order = make_family("point-nav"), [3, 0, 4, 1, 2]
    params = task_params(make_policy(family), 5)
    rollout = collect(family, params=params, order=[0, 1, 2, 3, 4], deterministic=True)
    permuted = collect(family, params=params[order], order=order, deterministic=True)
    for name in FIELDS:
        assert torch.equal(getattr(rollout, name)[order], getattr(permuted, name))


def test_a_task_equals_stepping_the_simulator_by_hand(family):
    n_tasks, n_envs, horizon, i = 5, 3, 25, 1
    rollout = collect(family, n_tasks, n_envs, 2, horizon)
    policy = make_policy(family)
    params = task_params(policy, n_tasks)[i : i + 1]
    tasks = family.tasks.sample(20, np.random.default_rng(0))[[i]]
    rng = np.random.default_rng(np.random.SeedSequence(7).spawn(n_tasks)[i])
    simulator, actor = Simulator(family, 1, n_envs), policy.actor(params)
    obs = simulator.reset(tasks, [rng])
    noise = rng.standard_normal((n_envs, horizon, family.spec.act_dim), dtype=np.float32)
    std = params[:, policy.layout.slices["log_std"]].exp().numpy()
    active = np.ones((1, n_envs), dtype=bool)
    for t in range(horizon):
        mean = actor(torch.from_numpy(obs.astype(np.float32))).numpy()
        action = mean + std * noise[None, :, t]
        step = simulator.step(action, active)
        for env in range(n_envs):
            row = i, env, t
            assert rollout.valid[row] == active[0, env]
            if active[0, env]:
                assert np.array_equal(rollout.obs[row], obs[0, env].astype(np.float32))
                assert np.array_equal(rollout.action[row], action[0, env])
                assert np.array_equal(rollout.mean[row], mean[0, env])
                assert float(rollout.reward[row]) == np.float32(step.reward[0, env])
        active &= ~step.terminated
        obs = step.obs
    assert np.array_equal(rollout.terminated[i].numpy(), ~active[0])


def test_an_ended_episode_leaves_zeros_behind_a_contiguous_prefix(ant):
    rollout = collect(ant, n_tasks=4, n_envs=6, horizon=30)
    lengths = rollout.valid.sum(-1)
    assert (lengths < 30).any(), "no episode ended: the test shows nothing"
    assert (lengths == 30).any(), "every episode ended: the test shows less"
    assert (lengths >= 1).all()
    assert torch.equal(rollout.valid, torch.arange(30) < lengths[..., None])
    assert rollout.terminated[lengths < 30].all()
    for name in ("obs", "action", "mean", "reward"):
        values = getattr(rollout, name)
        assert not values[~rollout.valid].any(), f"{name} after the end"
        assert values[rollout.valid].any(dim=-1).all() if values.ndim > 3 else values[rollout.valid].all()
    assert rollout.n_steps == int(lengths.sum())
    torch.testing.assert_close(rollout.episode_return, (rollout.reward * rollout.valid).sum(-1))


@pytest.mark.parametrize("n_threads", [2, 3])
def test_ended_episodes_do_not_depend_on_the_threads(ant, n_threads):
    one = collect(ant, n_tasks=4, n_envs=6, horizon=60)
    assert_same_bits(one, collect(ant, n_tasks=4, n_envs=6, horizon=60, n_threads=n_threads))


def test_episodes_that_all_end_at_their_first_step():
    rollout = collect(EndsAtOnce())
    assert rollout.valid[:, :, 0].all()
    assert not rollout.valid[:, :, 1:].any()
    assert rollout.terminated.all()
    assert rollout.action[:, :, 0].any()
    assert not rollout.action[:, :, 1:].any()


def test_an_episode_that_reaches_the_horizon_is_not_terminated():
    rollout = collect(make_family("half-cheetah-vel"))
    assert rollout.valid.all()
    assert not rollout.terminated.any()
    assert rollout.n_diverged == 0


def test_actions_are_the_mean_plus_independent_standard_noise_times_std():
    n_tasks, n_envs, horizon = 5, 40, 50
    rollout = collect(make_family("point-nav-sparse"), n_tasks, n_envs, 1, horizon)
    noise = (rollout.action - rollout.mean).double() / rollout.log_std.double().exp()[:, None, None]
    n = noise.numel()
    assert abs(float(noise.mean())) < 5 / n**0.5
    assert abs(float(noise.var()) - 1) < 5 * (2 / n) ** 0.5
    assert abs(float((noise**4).mean()) - 3) < 5 * (96 / n) ** 0.5
    # Each of task, environment, time and action component has noise of its own.
    for axis in range(4):
        first, second = noise.narrow(axis, 0, noise.shape[axis] - 1), noise.narrow(axis, 1, noise.shape[axis] - 1)
        assert abs(float((first * second).mean())) < 5 / first.numel() ** 0.5
    expected = task_params(make_policy(make_family("point-nav-sparse")), n_tasks)[:, -2:]
    assert torch.equal(rollout.log_std, expected)


def test_actions_are_stored_before_clipping():
    assert collect(make_family("point-nav")).action.abs().max() > 1.5


def test_deterministic_acts_by_the_mean(family):
    rollout = collect(family, deterministic=True)
    assert torch.equal(rollout.action, rollout.mean)
    assert not torch.equal(rollout.mean, collect(family).mean)


def test_mean_is_that_of_the_policy_at_the_stored_observations(family):
    rollout, policy = collect(family), make_policy(family)
    mean, log_std = policy.distribution(task_params(policy, 5), rollout.obs.flatten(1, 2))
    mask = rollout.valid.flatten(1, 2)
    torch.testing.assert_close(rollout.mean.flatten(1, 2)[mask], mean[mask], rtol=1e-5, atol=2e-5)
    assert torch.equal(rollout.log_std, log_std)


def test_episodes_that_explore_hold_a_guess_each(ant):
    """Behind the observations, from the task's own seed; without `explore`, or of other policies, there are none."""
    spec, tasks, seed = ant.spec, ant.tasks.sample(2, np.random.default_rng(0)), np.random.SeedSequence(7)
    plain = GaussianMLP(spec.obs_dim, spec.act_dim, (16,), context_dim=1)
    policy = replace(plain, guess_std=0.6)
    params = torch.stack([policy.init(torch.Generator().manual_seed(i)) for i in range(2)])
    params[:, policy.layout.slices["guess_log_std"]] = -2.0
    with closing(Collector(ant, policy, 2, 4, Workers(1), 60)) as collector:
        explored = collector.collect(params, tasks, seed, explore=True)
        other = collector.collect(params, tasks, seed)
    assert (explored.n_guess, other.n_guess) == (1, 0)
    assert explored.obs.shape == (2, 4, 60, spec.obs_dim + 1)
    assert other.obs.shape == (2, 4, 60, spec.obs_dim)
    guess, valid = explored.obs[..., -1], explored.valid
    assert torch.equal(guess, torch.where(valid, guess[..., :1], 0.0))
    rngs = [np.random.default_rng(child) for child in seed.spawn(2)]
    Simulator(ant, 2, 4).reset(tasks, rngs)
    for i, rng in enumerate(rngs):
        rng.standard_normal((4, 60, spec.act_dim), dtype=np.float32)
        assert np.array_equal(guess[i, :, 0], policy.guesses(4, rng)[:, 0])
    assert (explored.log_std == -2.0).all()
    assert (other.log_std == 0.0).all()
    mean = policy.distribution(params, explored.obs.flatten(1, 2))[0].unflatten(1, (4, 60))
    torch.testing.assert_close(explored.mean, mean * valid[..., None], rtol=1e-4, atol=1e-5)
    with closing(Collector(ant, plain, 2, 4, Workers(1), 60)) as collector:
        kept = params[:, : plain.layout.size].contiguous()
        assert_same_bits(collector.collect(kept, tasks, seed, explore=True), collector.collect(kept, tasks, seed))


def test_the_horizon_is_the_familys_unless_told():
    family = make_family("point-nav")
    assert Collector(family, make_policy(family), 1, 1, Workers(1)).horizon == family.spec.horizon == 100
    assert collect(family, horizon=7).reward.shape == (5, 3, 7)


def test_wrong_numbers_of_tasks_or_parameters_are_refused():
    family = make_family("point-nav")
    policy = make_policy(family)
    collector = Collector(family, policy, 3, 2, Workers(1), 5)
    tasks, params, seed = (
        family.tasks.sample(3, np.random.default_rng(0)),
        task_params(policy, 3),
        np.random.SeedSequence(0),
    )
    with pytest.raises(ValueError, match="got 2 tasks and 3 parameter rows for 3 tasks"):
        collector.collect(params, tasks[:2], seed)
    with pytest.raises(ValueError, match="got 3 tasks and 2 parameter rows for 3 tasks"):
        collector.collect(params[:2], tasks, seed)


def test_parameters_that_are_not_finite_are_reported():
    family = make_family("point-nav")
    params = task_params(make_policy(family), 5)
    params[3] = float("nan")
    with pytest.raises(ValueError, match="actions are not finite"):
        collect(family, params=params)
