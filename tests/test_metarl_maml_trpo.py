"""MAML-TRPO: derivatives against plain autograd and finite differences in float64, the update's contract, learning."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_maml import (
    N_TASKS,
    LayerNormPolicy,
    directional_difference,
    make_batches,
    make_meta,
    make_policy,
    packed,
    plain_distribution,
    unpacked,
)
from synthetic_batches import Wrapped, random_params
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from metarl.algorithms.maml import MetaParams, adapt_tasks, init_meta_params, meta_gradient, meta_loss
from metarl.algorithms.maml_trpo import MAMLTRPO, FisherProduct, update
from metarl.config import EnvConfig, PolicyConfig, TrainConfig
from metarl.envs import State
from metarl.envs.point import PointNav
from metarl.losses import TaskBatch, linearise_with, mean_kl, task_batches
from metarl.policies import GaussianMLP
from metarl.rollout import Collector
from metarl.stopwatch import Stopwatch
from metarl.train import initial_state, make_collector, meta_iteration
from metarl.workers import Workers

SEED = np.random.SeedSequence(0)
DERIVATIVE_CASES = [
    MAMLTRPO(inner_steps=k, learn_inner_lr=learned, surrogate=surrogate, curvature_fraction=1.0, cg_damping=0.0)
    for k, learned, surrogate in itertools.product([1, 2, 3], ["no", "scalar", "per-parameter"], ["log_prob", "ratio"])
]


def case_name(algo: MAMLTRPO) -> str:
    return f"{algo.inner_steps}-{algo.learn_inner_lr}-{algo.surrogate}"


def plain_meta_objective(
    policy: GaussianMLP, algo: MAMLTRPO, x: Tensor, meta: MetaParams, support, query
) -> tuple[Tensor, Tensor]:
    """Query loss and mean KL as one differentiable graph through the inner loop: slow and simple."""
    point = unpacked(x, meta, algo)
    losses, kls = [], []
    for i in range(N_TASKS):
        params = point.theta
        for batches in support:
            batch = batches[i]
            log_prob = plain_distribution(policy, params, batch.obs).log_prob(batch.action)
            term = log_prob if algo.surrogate == "log_prob" else torch.exp(log_prob - batch.log_prob_old)
            (gradient,) = torch.autograd.grad(-(batch.weight * term).sum(), params, create_graph=True)
            if algo.first_order:
                gradient = gradient.detach()
            params = params - point.step_size * gradient
        batch = query[i]
        new = plain_distribution(policy, params, batch.obs)
        losses.append(-(batch.weight * torch.exp(new.log_prob(batch.action) - batch.log_prob_old)).sum())
        old = Independent(Normal(batch.mean_old, batch.log_std_old.exp().expand_as(batch.mean_old)), 1)
        kls.append(kl_divergence(old, new).mean())
    return torch.stack(losses).mean(), torch.stack(kls).mean()


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("algo", DERIVATIVE_CASES, ids=case_name)
def test_meta_gradient_is_that_of_autograd_through_the_inner_loop(algo, activation):
    policy = make_policy(activation)
    meta = make_meta(algo, policy)
    support, query = make_batches(algo, policy, meta)
    loss, gradient, _ = meta_gradient(algo, policy, meta, support, query, Workers(1))
    x = packed(meta, algo).clone().requires_grad_()
    expected, _ = plain_meta_objective(policy, algo, x, meta, support, query)
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, x)[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("algo", DERIVATIVE_CASES, ids=case_name)
def test_meta_gradient_is_the_slope_of_the_meta_loss(algo):
    policy = make_policy()
    meta = make_meta(algo, policy)
    support, query = make_batches(algo, policy, meta)
    loss, gradient, _ = meta_gradient(algo, policy, meta, support, query, Workers(1))

    def value(x: Tensor) -> float:
        return meta_loss(algo, policy, unpacked(x, meta, algo), support, query, Workers(1))[0]

    x = packed(meta, algo)
    assert value(x) == pytest.approx(loss, rel=1e-13)
    generator = torch.Generator().manual_seed(3)
    for _ in range(4):
        direction = torch.randn(len(x), generator=generator, dtype=torch.float64)
        assert directional_difference(value, x, direction) == pytest.approx(float(gradient @ direction), rel=1e-6)


@pytest.mark.parametrize("learned", ["no", "scalar", "per-parameter"])
def test_first_order_meta_gradient_treats_inner_gradients_as_constants(learned):
    algo = MAMLTRPO(inner_steps=2, learn_inner_lr=learned, first_order=True)
    policy = make_policy()
    meta = make_meta(algo, policy)
    support, query = make_batches(algo, policy, meta)
    _, gradient, _ = meta_gradient(algo, policy, meta, support, query, Workers(1))
    x = packed(meta, algo).clone().requires_grad_()
    expected, _ = plain_meta_objective(policy, algo, x, meta, support, query)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, x)[0], rtol=1e-9, atol=1e-11)


def test_meta_gradient_of_a_policy_without_closed_form_is_the_slope_of_its_meta_loss():
    algo = MAMLTRPO(inner_steps=2, learn_inner_lr="scalar")
    policy, acting = LayerNormPolicy(), make_policy()
    meta = make_meta(algo, policy)
    support, query = make_batches(algo, acting, make_meta(algo, acting))
    _, gradient, _ = meta_gradient(algo, policy, meta, support, query, Workers(2))

    def value(x: Tensor) -> float:
        return meta_loss(algo, policy, unpacked(x, meta, algo), support, query, Workers(1))[0]

    x, generator = packed(meta, algo), torch.Generator().manual_seed(3)
    for _ in range(4):
        direction = torch.randn(len(x), generator=generator, dtype=torch.float64)
        assert directional_difference(value, x, direction) == pytest.approx(float(gradient @ direction), rel=1e-6)


def test_meta_loss_is_the_query_loss_and_the_mean_divergence():
    algo = MAMLTRPO(inner_steps=2)
    policy = make_policy()
    meta = make_meta(algo, policy)
    support, query = make_batches(algo, policy, meta)
    x = meta.theta.clone().requires_grad_()
    expected = [value.item() for value in plain_meta_objective(policy, algo, x, meta, support, query)]
    assert meta_loss(algo, policy, meta, support, query, Workers(1)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("algo", DERIVATIVE_CASES, ids=case_name)
def test_fisher_product_is_the_curvature_of_the_mean_divergence(algo):
    """Exact where the query was acted by the adapted policies: there the divergence has no slope."""
    policy = make_policy()
    meta = make_meta(algo, policy)
    support, query = make_batches(algo, policy, meta, on_policy=True)
    _, _, paths = meta_gradient(algo, policy, meta, support, query, Workers(1))
    product = FisherProduct(algo, policy, meta, support, query, paths, SEED, Workers(1))
    x = packed(meta, algo).clone().requires_grad_()
    _, kl = plain_meta_objective(policy, algo, x, meta, support, query)
    (slope,) = torch.autograd.grad(kl, x, create_graph=True)
    assert kl.item() == pytest.approx(0.0, abs=1e-14)
    assert slope.abs().max() < 1e-13
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        v = torch.randn(len(x), generator=generator, dtype=torch.float64)
        expected = torch.autograd.grad(slope, x, v, retain_graph=True)[0]
        torch.testing.assert_close(product(v), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("fraction", [1.0, 0.3])
def test_fisher_product_is_symmetric_and_positive_with_its_damping(fraction):
    algo = MAMLTRPO(inner_steps=2, learn_inner_lr="scalar", curvature_fraction=fraction, cg_damping=0.25)
    policy = make_policy()
    meta = make_meta(algo, policy)
    support, query = make_batches(algo, policy, meta)
    _, _, paths = meta_gradient(algo, policy, meta, support, query, Workers(1))
    product = FisherProduct(algo, policy, meta, support, query, paths, SEED, Workers(1))
    matrix = torch.stack([product(row) for row in torch.eye(len(meta.theta) + 1, dtype=torch.float64)])
    torch.testing.assert_close(matrix, matrix.t(), rtol=1e-9, atol=1e-11)
    eigenvalues = torch.linalg.eigvalsh(matrix)
    assert eigenvalues.min() > 0.25 - 1e-10
    undamped = FisherProduct(replace(algo, cg_damping=0.0), policy, meta, support, query, paths, SEED, Workers(1))
    v = random_params(policy, 5)
    v = torch.cat([v, torch.ones(1, dtype=torch.float64)])
    torch.testing.assert_close(product(v), undamped(v) + 0.25 * v)


def test_the_share_of_steps_is_a_function_of_the_seed():
    algo = MAMLTRPO(curvature_fraction=0.3)
    policy = make_policy()
    meta = make_meta(algo, policy)
    support, query = make_batches(algo, policy, meta)
    _, _, paths = meta_gradient(algo, policy, meta, support, query, Workers(1))

    def product(seed: np.random.SeedSequence, n_threads: int = 1) -> Tensor:
        return FisherProduct(algo, policy, meta, support, query, paths, seed, Workers(n_threads))(meta.theta)

    assert torch.equal(product(SEED), product(SEED, n_threads=2))
    assert not torch.equal(product(SEED), product(np.random.SeedSequence(1)))


@pytest.mark.parametrize("policy", [make_policy(), LayerNormPolicy()], ids=["mlp", "layer-norm"])
@pytest.mark.parametrize("learned", ["no", "scalar", "per-parameter"])
def test_an_update_lowers_the_loss_within_the_trust_region(policy, learned):
    algo = MAMLTRPO(inner_steps=2, learn_inner_lr=learned, max_kl=0.01, curvature_fraction=0.5)
    meta = make_meta(algo, policy)
    acting = make_policy()
    support, query = make_batches(algo, acting, make_meta(algo, acting), on_policy=isinstance(policy, GaussianMLP))
    if not isinstance(policy, GaussianMLP):
        query = [replace(batch, **old_policy(policy, algo, meta, support, batch, i)) for i, batch in enumerate(query)]
    watch = Stopwatch()
    new, _, info = update(algo, policy, meta, support, query, SEED, Workers(2), watch)
    assert 0 < info.step_fraction <= 1
    assert info.loss_after < info.loss_before
    assert 0 < info.kl <= 0.01
    loss, kl = meta_loss(algo, policy, new, support, query, Workers(1))
    assert (loss, kl) == pytest.approx((info.loss_after, info.kl), rel=1e-9)
    assert not torch.equal(new.theta, meta.theta)
    assert torch.equal(new.step_size, meta.step_size) == (learned == "no")
    assert info.gradient_norm > 0
    assert set(watch.seconds) == {"outer gradient", "conjugate gradient", "line search"}


def old_policy(policy: LayerNormPolicy, algo: MAMLTRPO, meta: MetaParams, support, batch: TaskBatch, i: int) -> dict:
    """The fields of a query batch that belong to the policy that acted, for the adapted policy of task i."""
    params, linearise = meta.theta, linearise_with(policy)
    for batches in support:
        params = params - meta.step_size * linearise(params, batches[i], algo.surrogate).gradient()
    mean, log_std = policy.distribution(params[None], batch.obs[None])
    log_prob = Independent(Normal(mean[0], log_std[0].exp()), 1).log_prob(batch.action)
    return {"mean_old": mean[0], "log_std_old": log_std[0], "log_prob_old": log_prob}


@pytest.mark.parametrize("learned", ["no", "per-parameter"])
def test_the_generic_path_makes_the_update_of_the_closed_form(learned):
    algo = MAMLTRPO(inner_steps=2, learn_inner_lr=learned, curvature_fraction=0.5)
    policy = make_policy()
    meta = make_meta(algo, policy)
    support, query = make_batches(algo, policy, meta, on_policy=True)
    closed, _, closed_info = update(algo, policy, meta, support, query, SEED, Workers(2))
    generic, _, generic_info = update(algo, Wrapped(policy), meta, support, query, SEED, Workers(2))
    assert closed_info.step_fraction == generic_info.step_fraction > 0
    torch.testing.assert_close(closed.theta, generic.theta, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(closed.step_size, generic.step_size, rtol=1e-8, atol=1e-9)
    assert not torch.allclose(closed.theta, meta.theta, rtol=0, atol=1e-4)


def test_an_update_has_the_same_bits_at_any_number_of_threads():
    algo = MAMLTRPO(curvature_fraction=0.5)
    policy = make_policy()
    meta = make_meta(algo, policy)
    support, query = make_batches(algo, policy, meta, on_policy=True)
    one, two = (update(algo, policy, meta, support, query, SEED, Workers(n))[0].theta for n in (1, 3))
    assert torch.equal(one, two)


def test_without_advantages_the_update_is_refused():
    algo = MAMLTRPO()
    policy = make_policy()
    meta = make_meta(algo, policy)
    support, query = make_batches(algo, policy, meta)
    support = [[replace(batch, weight=0 * batch.weight) for batch in batches] for batches in support]
    query = [replace(batch, weight=0 * batch.weight) for batch in query]
    new, _, info = update(algo, policy, meta, support, query, SEED, Workers(1))
    assert new is meta
    assert (info.step_fraction, info.kl, info.gradient_norm) == (0.0, 0.0, 0.0)
    assert info.loss_after == info.loss_before == 0.0


def test_a_step_that_the_line_search_refuses_leaves_the_parameters():
    """A trust region of 1e4 nats makes a full step far beyond where the quadratic model holds."""
    algo = MAMLTRPO(max_kl=1e4, backtrack_steps=1)
    policy = make_policy()
    meta = make_meta(algo, policy)
    support, query = make_batches(algo, policy, meta, on_policy=True)
    new, _, info = update(algo, policy, meta, support, query, SEED, Workers(1))
    assert new is meta
    assert info.step_fraction == 0.0
    assert info.loss_after == info.loss_before
    assert info.gradient_norm > 0


@pytest.mark.parametrize("where", ["support", "query"])
def test_a_nan_advantage_leaves_the_parameters(where):
    algo = MAMLTRPO(curvature_fraction=1.0)
    policy = make_policy()
    meta = make_meta(algo, policy)
    support, query = make_batches(algo, policy, meta)
    batch = (support[0] if where == "support" else query)[1]
    batch.weight[2] = math.nan
    new, _, info = update(algo, policy, meta, support, query, SEED, Workers(1))
    assert new is meta
    assert info.step_fraction == 0.0
    assert math.isnan(info.gradient_norm)


def test_init_meta_params():
    theta = torch.arange(3.0)
    assert init_meta_params(MAMLTRPO(inner_lr=0.2), theta).step_size.tolist() == pytest.approx(0.2)
    assert init_meta_params(MAMLTRPO(learn_inner_lr="scalar"), theta).step_size.shape == ()
    per_parameter = init_meta_params(MAMLTRPO(inner_lr=0.2, learn_inner_lr="per-parameter"), theta).step_size
    assert per_parameter.tolist() == pytest.approx([0.2] * 3)
    per_parameter[0] = 1.0
    assert per_parameter.tolist() == pytest.approx([1.0, 0.2, 0.2]), "entries share memory"


def test_adapting_tasks_is_one_gradient_step_each():
    algo = MAMLTRPO(inner_lr=0.3)
    policy = make_policy()
    meta = make_meta(algo, policy)
    (support, *_), _ = make_batches(algo, policy, meta)
    params = torch.stack([random_params(policy, i) for i in range(N_TASKS)])
    adapted = adapt_tasks(algo, policy, params, support, meta.step_size, Workers(2))
    for i in range(N_TASKS):
        x = params[i].clone().requires_grad_()
        log_prob = plain_distribution(policy, x, support[i].obs).log_prob(support[i].action)
        (gradient,) = torch.autograd.grad(-(support[i].weight * log_prob).sum(), x)
        torch.testing.assert_close(adapted[i], params[i] - 0.3 * gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("inner_lr", 0.0),
        ("inner_lr", math.nan),
        ("inner_steps", 0),
        ("discount", 0.0),
        ("discount", 1.01),
        ("gae_lambda", -0.1),
        ("advantages", "scaled"),
        ("baseline", "none"),
        ("max_kl", 0.0),
        ("cg_iterations", 0),
        ("cg_damping", -1e-9),
        ("curvature_fraction", 0.0),
        ("curvature_fraction", 1.5),
        ("backtrack_ratio", 1.0),
        ("backtrack_steps", 0),
    ],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is .*, but must be"):
        MAMLTRPO(**{name: value})


class EndsAtOnce(PointNav):
    """Every episode ends at its first step."""

    def done(self, state: State, goal: np.ndarray) -> np.ndarray:
        return np.ones(len(goal), dtype=bool)


class NoReward(PointNav):
    """Every reward is 0."""

    def reward(self, qpos_before: np.ndarray, state: State, action: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return np.zeros(len(goal))


def one_iteration(family: PointNav, inner_steps: int, n_envs: int = 3) -> tuple[MetaParams, MetaParams, float]:
    config = TrainConfig(
        EnvConfig("point-nav"),
        PolicyConfig(hidden_sizes=(8,)),
        MAMLTRPO(inner_steps=inner_steps),
        meta_batch=4,
        trajectories=n_envs,
    )
    workers = Workers(2)
    state = initial_state(config, family, workers)
    collector = Collector(family, config.policy.make(family), 4, n_envs, workers, horizon=10)
    after, record = meta_iteration(config, collector, state, workers)
    return state.meta, after.meta, record.step_fraction


@pytest.mark.parametrize("inner_steps", [1, 2, 3])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_episodes_that_all_end_at_once_do_not_break_an_iteration(inner_steps, n_envs):
    before, after, _ = one_iteration(EndsAtOnce(), inner_steps, n_envs)
    assert torch.isfinite(after.theta).all()
    if n_envs == 1:
        assert after is before, "one step has no advantage over its own mean"


@pytest.mark.parametrize("inner_steps", [1, 2])
def test_without_rewards_an_iteration_changes_nothing(inner_steps):
    before, after, fraction = one_iteration(NoReward(), inner_steps)
    assert after is before
    assert fraction == 0.0


def point_config(**algo) -> TrainConfig:
    return TrainConfig(
        EnvConfig("point-nav", horizon=20),
        PolicyConfig(hidden_sizes=(16,), init_std=0.6),
        MAMLTRPO(max_kl=0.02, **algo),
        meta_batch=10,
        trajectories=10,
    )


def meta_train(config: TrainConfig, iterations: int, n_threads: int = 2) -> tuple[MetaParams, list]:
    workers, family = Workers(n_threads), config.env.make()
    collector = make_collector(config, family, config.policy.make(family), workers)
    state, records = initial_state(config, family, workers), []
    for _ in range(iterations):
        state, record = meta_iteration(config, collector, state, workers)
        records.append(record)
    workers.close()
    return state.meta, records


@pytest.mark.usefixtures("no_type_checks")
def test_one_gradient_step_learns_to_find_the_goal():
    """Known optimum: goals are uniform in a square of side 1 m round the start, 0.38 m away on average.

    Before adaptation the goal is unknown; nothing is better than staying, -0.38 * 20 = -7.7 in expectation. After it
    the best a policy can do is to walk there straight in a few steps, about -1. Noise costs some on both sides.
    """
    _, records = meta_train(point_config(), 18)
    before = np.array([record.return_before for record in records])
    after = np.array([record.return_after for record in records])
    # Seeds 0 to 3 gave gains of 1.7 to 2.3 at first and 3.4 to 4.1 at last, and returns of -3.7 to -4.0 after it.
    assert (after - before)[-5:].mean() > (after - before)[:3].mean() + 0.5
    assert (after - before)[-5:].mean() > 2.9
    assert after[-5:].mean() > -4.8
    assert before[-5:].mean() < -6.5, "better than staying, without knowing the goal"
    assert max(record.kl for record in records) <= 0.02


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("algo", [{}, {"inner_steps": 2, "learn_inner_lr": "scalar", "surrogate": "ratio"}])
def test_meta_training_twice_with_one_seed_gives_the_same_bits(algo):
    config = point_config(**algo)
    one, other = meta_train(config, 2, n_threads=2)[0], meta_train(config, 2, n_threads=1)[0]
    assert torch.equal(one.theta, other.theta)
    assert torch.equal(one.step_size, other.step_size)
    assert not torch.equal(one.theta, meta_train(replace(config, seed=1), 2)[0].theta)


def test_the_divergence_of_the_query_is_zero_before_the_update():
    """The adaptation in the update replays the one that collected the query, so the same policies come out."""
    config = point_config()
    workers, family = Workers(1), config.env.make()
    policy = config.policy.make(family)
    collector = make_collector(config, family, policy, workers)
    meta = initial_state(config, family, workers).meta
    tasks = family.tasks.sample(10, np.random.default_rng(0))
    params = meta.theta.expand(10, -1)
    support = task_batches(collector.collect(params, tasks, SEED), 0.99, 1.0, workers)
    adapted = adapt_tasks(config.algo, policy, params, support, meta.step_size, workers)
    query = task_batches(collector.collect(adapted, tasks, np.random.SeedSequence(1)), 0.99, 1.0, workers)
    _, _, paths = meta_gradient(config.algo, policy, meta, [support], query, workers)
    for i in range(10):
        assert torch.equal(paths[i][-1], adapted[i])
        assert abs(float(mean_kl(policy, adapted[i], query[i]))) < 1e-6
