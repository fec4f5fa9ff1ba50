"""Outer objectives beside MAML-TRPO's: gradients against plain autograd and finite differences, and special cases."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_maml import (
    N_TASKS,
    directional_difference,
    make_batches,
    make_meta,
    make_policy,
    packed,
    plain_distribution,
    unpacked,
)
from synthetic_batches import Wrapped
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from metarl.algorithms import e_maml, maml_adam, promp, reptile
from metarl.algorithms.e_maml import EMAML, e_maml_objective, exploration_credit
from metarl.algorithms.maml import (
    MetaParams,
    ThroughInnerLoop,
    init_meta_params,
    meta_gradient,
    meta_loss,
    query_objective,
)
from metarl.algorithms.maml_adam import MAMLPPO, MAMLVPG, adam_epochs
from metarl.algorithms.promp import ProMP, promp_objective
from metarl.algorithms.reptile import Reptile
from metarl.losses import TaskBatch, linearise_with
from metarl.policies import ParamLayout, actor_from_distribution
from metarl.workers import Workers

SEED = np.random.SeedSequence(0)
INNER = [
    {"inner_steps": k, "learn_inner_lr": learned, "surrogate": surrogate}
    for k, learned, surrogate in itertools.product([1, 2], ["no", "scalar", "per-parameter"], ["log_prob", "ratio"])
]
# Weights far above the defaults, so that a term that is missing or wrong cannot hide.
CASES = [
    kind(**inner, **outer)
    for inner in INNER
    for kind, outer in [
        (MAMLVPG, {}),
        (MAMLPPO, {"clip": 0.05}),
        (ProMP, {"clip": 0.05, "kl_penalty": 3.0}),
        (EMAML, {"clip": 0.05, "exploration_weight": 2.0}),
    ]
] + [ProMP(inner_steps=2, first_order=True, kl_penalty=3.0), EMAML(inner_steps=2, first_order=True)]


def case_name(algo: ThroughInnerLoop) -> str:
    return f"{type(algo).__name__}-{algo.inner_steps}-{algo.learn_inner_lr}-{algo.surrogate}"


def objective_of(algo, policy, support, query):
    if isinstance(algo, ProMP):
        return promp_objective(algo, policy, support, query)
    if isinstance(algo, EMAML):
        return e_maml_objective(algo, policy, support, query)
    return query_objective(policy, query, algo.clip if isinstance(algo, MAMLPPO) else math.inf)


def value(x: float) -> Tensor:
    return torch.tensor(x, dtype=torch.float64)


def with_returns(query: list[TaskBatch]) -> list[TaskBatch]:
    return [replace(batch, mean_return=value(-7.0 + 3.0 * i**2)) for i, batch in enumerate(query)]


def plain_ratio(policy, params: Tensor, batch: TaskBatch) -> Tensor:
    return torch.exp(plain_distribution(policy, params, batch.obs).log_prob(batch.action) - batch.log_prob_old)


def plain_clipped(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """As in the paper: the smaller of both gains, summed."""
    return torch.minimum(ratio * advantage, torch.clamp(ratio, 1 - clip, 1 + clip) * advantage).sum()


def plain_outer(policy, algo, i: int, path: list[Tensor], support, query) -> Tensor:
    """One task's objective, written out from the papers."""
    clip = getattr(algo, "clip", math.inf)
    loss = -plain_clipped(plain_ratio(policy, path[-1], query[i]), query[i].weight, clip)
    if isinstance(algo, ProMP):
        for params, batches in zip(path[:-1], support, strict=True):
            batch = batches[i]
            old = Independent(Normal(batch.mean_old, batch.log_std_old.exp().expand_as(batch.mean_old)), 1)
            kl = kl_divergence(old, plain_distribution(policy, params, batch.obs)).mean()
            loss = loss + algo.kl_penalty * kl / len(support)
    if isinstance(algo, EMAML):
        returns = torch.stack([batch.mean_return for batch in query])
        credit = (returns[i] - returns.mean()) / returns.std(correction=0)
        for params, batches in zip(path[:-1], support, strict=True):
            ratio = plain_ratio(policy, params, batches[i])
            share = torch.full_like(ratio, 1 / len(ratio))
            loss = loss - algo.exploration_weight * plain_clipped(ratio, credit * share, clip)
    return loss


def plain_objective(policy, algo, x: Tensor, meta: MetaParams, support, query) -> Tensor:
    """The mean objective as one differentiable graph through the inner loop."""
    point, losses = unpacked(x, meta, algo), []
    for i in range(N_TASKS):
        path = [point.theta]
        for batches in support:
            ratio = plain_ratio(policy, path[-1], batches[i])
            term = ratio if algo.surrogate == "ratio" else ratio.log()
            (gradient,) = torch.autograd.grad(-(batches[i].weight * term).sum(), path[-1], create_graph=True)
            path.append(path[-1] - point.step_size * (gradient.detach() if algo.first_order else gradient))
        losses.append(plain_outer(policy, algo, i, path, support, query))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("algo", CASES, ids=case_name)
def test_the_gradient_is_that_of_autograd_through_the_inner_loop(algo):
    policy = make_policy()
    meta = make_meta(algo, policy)
    support, query = make_batches(algo, policy, meta)
    query = with_returns(query)
    x = packed(meta, algo).clone().requires_grad_()
    expected = plain_objective(policy, algo, x, meta, support, query)
    (slope,) = torch.autograd.grad(expected, x)
    for kind in (policy, Wrapped(policy)):
        objective = objective_of(algo, kind, support, query)
        loss, gradient, _ = meta_gradient(algo, kind, meta, support, query, Workers(1), objective)
        assert loss == pytest.approx(expected.item(), rel=1e-11)
        torch.testing.assert_close(gradient, slope, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("algo", [case for case in CASES if not case.first_order], ids=case_name)
def test_the_gradient_is_the_slope_of_the_objective(algo):
    policy = make_policy()
    meta = make_meta(algo, policy)
    support, query = make_batches(algo, policy, meta)
    query = with_returns(query)
    objective = objective_of(algo, policy, support, query)

    def at(x: Tensor) -> tuple[float, Tensor]:
        point = unpacked(x, meta, algo)
        return meta_gradient(algo, policy, point, support, query, Workers(1), objective)[:2]

    x, generator = packed(meta, algo), torch.Generator().manual_seed(3)
    gradient = at(x)[1]
    for _ in range(2):
        direction = torch.randn(len(x), generator=generator, dtype=torch.float64)
        slope = directional_difference(lambda y: at(y)[0], x, direction)
        assert slope == pytest.approx(float(gradient @ direction), rel=1e-6)


def test_the_clip_of_these_tests_cuts_some_rows_and_leaves_some():
    algo, policy = MAMLPPO(clip=0.05), make_policy()
    support, query = make_batches(algo, policy, make_meta(algo, policy))
    for batch in (*support[0], *query):
        ratio = plain_ratio(policy, make_meta(algo, policy).theta, batch)
        cut = torch.where(batch.weight > 0, ratio > 1.05, ratio < 0.95)
        assert 0 < cut.sum() < len(cut)


@pytest.mark.parametrize(
    ("ratio", "weight", "loss", "counts"),
    [
        (1.5, 2.0, -2 * 1.2, False),  # good and more likely already: no more gain
        (1.1, 2.0, -2 * 1.1, True),
        (0.5, 2.0, -2 * 0.5, True),  # good and less likely: pulled back
        (0.5, -2.0, 2 * 0.8, False),  # bad and less likely already
        (0.9, -2.0, 2 * 0.9, True),
        (1.5, -2.0, 2 * 1.5, True),  # bad and more likely: pushed down
    ],
)
@pytest.mark.parametrize("closed", [True, False])
def test_which_rows_are_clipped(ratio, weight, loss, counts, closed):
    """One row whose likelihood ratio and advantage are given; clip 0.2."""
    policy = make_policy()
    params = make_meta(MAMLPPO(), policy).theta
    obs, action = torch.ones(1, 3, dtype=torch.float64), torch.full((1, 2), 0.3, dtype=torch.float64)
    now = plain_distribution(policy, params, obs)
    batch = TaskBatch(
        obs=obs,
        action=action,
        weight=torch.tensor([weight], dtype=torch.float64),
        log_prob_old=now.log_prob(action) - math.log(ratio),
        mean_old=now.mean,
        log_std_old=torch.zeros(2, dtype=torch.float64),
        row_weight=torch.ones(1, dtype=torch.float64),
        mean_return=value(0.0),
    )
    linearise = linearise_with(policy if closed else Wrapped(policy))
    clipped, free = (linearise(params, batch, "ratio", clip) for clip in (0.2, math.inf))
    assert float(clipped.loss) == pytest.approx(loss)
    gradient = free.gradient()
    assert float(gradient.norm()) > 0.1
    expected = gradient if counts else torch.zeros_like(params)
    torch.testing.assert_close(clipped.gradient(), expected, rtol=1e-12, atol=1e-14)


def on_policy(algo, seed: int = 0):
    """A policy, meta-parameters and batches that were acted by the very policies."""
    policy = make_policy()
    meta = make_meta(algo, policy)
    support, query = make_batches(algo, policy, meta, on_policy=True)
    return policy, meta, support, with_returns(query)


@pytest.mark.parametrize("inner_steps", [1, 2])
def test_the_first_step_of_promp_is_that_of_maml_with_a_ratio_inside(inner_steps):
    """Where the divergence is 0 it has no slope, and no ratio is at its clip."""
    algo = ProMP(inner_steps=inner_steps, clip=math.inf, epochs=1, kl_penalty=5.0)
    policy, meta, support, query = on_policy(algo)
    maml = MAMLVPG(inner_steps=inner_steps, surrogate="ratio")
    _, expected, _ = meta_gradient(maml, policy, meta, support, query, Workers(1))
    new, state, info = promp.update(algo, policy, meta, support, query, SEED, Workers(2))
    torch.testing.assert_close(state.first, 0.1 * expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(new.theta, meta.theta - 1e-3 * expected.sign() * (expected != 0), rtol=0, atol=1e-6)
    assert info.gradient_norm == pytest.approx(float(expected.norm()))


def test_the_penalty_of_promp_keeps_the_policy_before_adaptation_close():
    policy, meta, support, query = on_policy(ProMP())
    linearise = linearise_with(policy)

    def divergence(penalty: float) -> float:
        algo = ProMP(outer_lr=0.05, epochs=8, kl_penalty=penalty)
        new, _, _ = promp.update(algo, policy, meta, support, query, SEED, Workers(1))
        return sum(float(linearise(new.theta, batch, "ratio").kl(batch)) for batch in support[0])

    assert divergence(100.0) < 0.5 * divergence(0.0)


def test_e_maml_without_weight_is_maml_with_ppo():
    ppo, plain = EMAML(exploration_weight=0.0), MAMLPPO()
    policy, meta, support, query = on_policy(ppo)
    one = e_maml.update(ppo, policy, meta, support, query, SEED, Workers(1))
    other = maml_adam.update_ppo(plain, policy, meta, support, query, SEED, Workers(1))
    assert torch.equal(one[0].theta, other[0].theta)
    assert one[2] == other[2]
    credited = e_maml.update(EMAML(exploration_weight=1.0), policy, meta, support, query, SEED, Workers(1))
    assert not torch.allclose(one[0].theta, credited[0].theta, atol=1e-5, rtol=0)


def test_the_credit_is_the_standardised_return_after_adaptation():
    query = on_policy(EMAML())[3]
    assert exploration_credit([replace(query[0], mean_return=value(r)) for r in (1.0, 3.0)]).tolist() == pytest.approx(
        [-1, 1]
    )
    assert exploration_credit([replace(query[0], mean_return=value(4.0))] * 3).tolist() == [0, 0, 0]
    assert exploration_credit(query[:1]).tolist() == [0]


def test_exploration_that_led_to_high_returns_becomes_more_likely():
    """Without advantages the credit is all there is: the trajectories of the better tasks gain likelihood."""
    algo = EMAML(exploration_weight=1.0, epochs=20, clip=0.5)
    policy, meta, support, query = on_policy(algo)
    support = [[replace(batch, weight=0 * batch.weight) for batch in batches] for batches in support]
    query = [
        replace(batch, weight=0 * batch.weight, mean_return=value(r))
        for batch, r in zip(query, (0.0, 5.0, 1.0), strict=True)
    ]
    new, _, _ = e_maml.update(algo, policy, meta, support, query, SEED, Workers(1))
    gained = [float(plain_ratio(policy, new.theta, batch).mean()) for batch in support[0]]
    assert gained[1] > 1.01 > gained[2]
    assert gained[1] > gained[0]


def test_vpg_is_one_epoch_of_ppo():
    policy, meta, support, query = on_policy(MAMLVPG())
    one = maml_adam.update_vpg(MAMLVPG(), policy, meta, support, query, SEED, Workers(1))
    other = maml_adam.update_ppo(MAMLPPO(epochs=1), policy, meta, support, query, SEED, Workers(1))
    torch.testing.assert_close(one[0].theta, other[0].theta, rtol=1e-12, atol=1e-14)
    longer = maml_adam.update_ppo(MAMLPPO(epochs=6), policy, meta, support, query, SEED, Workers(1))
    assert longer[1].n_steps == 6
    assert longer[2].loss_after < one[2].loss_after < one[2].loss_before
    assert longer[2].loss_before == one[2].loss_before


def test_adam_goes_on_from_its_moments():
    """Two epochs are two calls of one."""
    algo = MAMLPPO(learn_inner_lr="per-parameter", epochs=2)
    policy, meta, support, query = on_policy(algo)
    objective = query_objective(policy, query, algo.clip)
    two = adam_epochs(algo, policy, meta, support, query, objective, 0.01, 2, Workers(1))
    half = adam_epochs(algo, policy, meta, support, query, objective, 0.01, 1, Workers(1))
    whole = adam_epochs(algo, policy, half[0], support, query, objective, 0.01, 1, Workers(1), None, half[1])
    assert torch.equal(two[0].theta, whole[0].theta)
    assert torch.equal(two[0].step_size, whole[0].step_size)
    assert torch.equal(two[1].second, whole[1].second)
    assert not torch.equal(two[0].step_size, meta.step_size)


class ConstantPolicy:
    """mean = params, std 1: its log-probability loss is quadratic, L = W |m - c|^2 / 2 + const."""

    layout = ParamLayout((("mean", (2,)),))

    def init(self, generator: torch.Generator) -> Tensor:
        return torch.randn(2, generator=generator)

    def distribution(self, params: Tensor, obs: Tensor) -> tuple[Tensor, Tensor]:
        return params[:, None].expand(*obs.shape[:2], 2), torch.zeros_like(params)

    def actor(self, params: Tensor):
        return actor_from_distribution(self, params)


@pytest.mark.parametrize("inner_steps", [1, 2, 4])
def test_reptile_on_quadratics(inner_steps):
    """k + 1 steps leave (1 - alpha W)^(k + 1) of the way to a task's optimum c = sum w a / W, W = sum w."""
    policy, alpha, epsilon = ConstantPolicy(), 0.3, 0.7
    generator = torch.Generator().manual_seed(0)

    def batch() -> TaskBatch:
        action = torch.randn(6, 2, generator=generator, dtype=torch.float64)
        weight = torch.rand(6, generator=generator, dtype=torch.float64)
        zeros = torch.zeros(6, 2, dtype=torch.float64)
        return TaskBatch(
            zeros, action, weight, zeros[:, 0], zeros, zeros[0], torch.full_like(weight, 1 / 6), value(0.0)
        )

    tasks = [batch() for _ in range(3)]
    algo = Reptile(inner_lr=alpha, inner_steps=inner_steps, outer_lr=epsilon)
    theta = torch.tensor([0.5, -2.0], dtype=torch.float64)
    meta = init_meta_params(algo, theta)
    new, state, _ = reptile.update(algo, policy, meta, [tasks] * inner_steps, tasks, SEED, Workers(2))
    ends = []
    for task in tasks:
        total = task.weight.sum()
        optimum = task.weight @ task.action / total
        ends.append(optimum + (1 - alpha * total) ** (inner_steps + 1) * (theta - optimum))
    torch.testing.assert_close(new.theta, theta + epsilon * (torch.stack(ends).mean(0) - theta))
    assert state is None
    assert torch.equal(new.step_size, meta.step_size)


def test_reptile_all_the_way_ends_at_the_mean_of_plain_sgd():
    algo = Reptile(inner_lr=0.2, inner_steps=2, surrogate="log_prob")
    policy, meta, support, query = on_policy(algo)
    new, _, info = reptile.update(algo, policy, meta, support, query, SEED, Workers(2))
    ends = []
    for i in range(N_TASKS):
        params = torch.nn.Parameter(meta.theta.clone())
        sgd = torch.optim.SGD([params], lr=0.2)
        for batch in (support[0][i], support[1][i], query[i]):
            sgd.zero_grad()
            log_prob = plain_distribution(policy, params, batch.obs).log_prob(batch.action)
            (-(batch.weight * log_prob).sum()).backward()
            sgd.step()
        ends.append(params.detach())
    torch.testing.assert_close(new.theta, torch.stack(ends).mean(0), rtol=1e-10, atol=1e-12)
    after = meta_loss(algo, policy, new, support, query, Workers(1))
    assert (info.loss_after, info.kl) == pytest.approx(after)
    assert info.gradient_norm == pytest.approx(float((new.theta - meta.theta).norm() / 0.2))


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (MAMLVPG, "outer_lr", 0.0),
        (MAMLPPO, "outer_lr", -1.0),
        (MAMLPPO, "epochs", 0),
        (MAMLPPO, "clip", 0.0),
        (ProMP, "clip", math.nan),
        (ProMP, "kl_penalty", -1e-9),
        (EMAML, "exploration_weight", -0.1),
        (EMAML, "epochs", 0),
        (Reptile, "outer_lr", 0.0),
        (Reptile, "inner_steps", 0),
    ],
)
def test_settings_out_of_range_are_refused(kind, name, value):
    with pytest.raises(ValueError, match=f"{name} is .*, but must be"):
        kind(**{name: value})
