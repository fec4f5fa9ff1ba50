"""MAML with a trust-region outer step (Finn et al. 2017, section 4.2 and algorithm 3; TRPO of Schulman et al. 2015).

  minimise over theta   mean_i  L_i^query(theta_i'(theta)),   theta_i' = theta after k policy-gradient steps on task i
  subject to            mean_i  KL(pi_{theta_i', old} || pi_{theta_i'(theta)}) <= max_kl

The full second-order meta-gradient goes through `metarl.outer`. The natural-gradient system uses the Gauss-Newton
form J^T F J of the divergence, exact at the current parameters, with J and F from a random share of the time steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from metarl.inner import adapt, sgd_step
from metarl.linalg import backtracking_line_search, conjugate_gradient
from metarl.losses import Linearise, Linearised, TaskBatch, linearise_with
from metarl.outer import InnerStep, pull_back, push_forward
from metarl.policies import GaussianPolicy, Surrogate
from metarl.seeding import children
from metarl.stopwatch import Stopwatch
from metarl.workers import Workers

# Share of the trust region that the full step aims at. The curvature is an estimate: aiming at all of it, the line
# search would refuse every second first step and evaluate all data once more, for steps no longer on average.
KL_AIM = 0.8

LearnStepSize = Literal["no", "scalar", "per-parameter"]


@dataclass(frozen=True)
class MAMLTRPO:
    """Settings of MAML-TRPO; the defaults are the paper's."""

    inner_lr: float = 0.1
    """Inner step size alpha (start value when it is learned). Paper: 0.1."""
    inner_steps: int = 1
    """Policy-gradient steps before the outer loss. Paper: 1."""
    later_lr_ratio: float = 0.5
    """Factor on the step size after the first gradient step, when a trained policy is adapted. Paper: 0.5."""
    learn_inner_lr: LearnStepSize = "no"
    """Meta-learn the inner step size: one number, or one per parameter (Li et al. 2017, Meta-SGD)."""
    first_order: bool = False
    """Drop the second derivatives of the inner loop (first-order MAML)."""
    surrogate: Surrogate = "log_prob"
    """Inner loss: log_prob (paper) or ratio, whose second derivative keeps the score's outer product."""
    discount: float = 0.99
    """Discount per control step."""
    gae_lambda: float = 1.0
    """Lambda of generalised advantage estimation, in [0, 1]. Paper: 1."""
    max_kl: float = 0.01
    """Trust region: mean divergence of the adapted policies (nats). Paper's scripts: 0.01, sometimes 0.02."""
    cg_iterations: int = 10
    """Conjugate-gradient iterations."""
    cg_damping: float = 1e-5
    """Damping added to the Fisher matrix."""
    curvature_fraction: float = 0.03
    """Share of time steps, in (0, 1], that the Fisher and its Jacobian are computed from; the gradient uses all."""
    backtrack_ratio: float = 0.8
    """Factor of the line search."""
    backtrack_steps: int = 15
    """Steps tried before the update is given up."""

    def __post_init__(self) -> None:
        _check("inner_lr", self.inner_lr, self.inner_lr > 0, "positive")
        _check("inner_steps", self.inner_steps, self.inner_steps >= 1, "at least 1")
        _check("later_lr_ratio", self.later_lr_ratio, self.later_lr_ratio > 0, "positive")
        _check("discount", self.discount, 0 < self.discount <= 1, "in (0, 1]")
        _check("gae_lambda", self.gae_lambda, 0 <= self.gae_lambda <= 1, "in [0, 1]")
        _check("max_kl", self.max_kl, self.max_kl > 0, "positive")
        _check("cg_iterations", self.cg_iterations, self.cg_iterations >= 1, "at least 1")
        _check("cg_damping", self.cg_damping, self.cg_damping >= 0, "at least 0")
        _check("curvature_fraction", self.curvature_fraction, 0 < self.curvature_fraction <= 1, "in (0, 1]")
        _check("backtrack_ratio", self.backtrack_ratio, 0 < self.backtrack_ratio < 1, "in (0, 1)")
        _check("backtrack_steps", self.backtrack_steps, self.backtrack_steps >= 1, "at least 1")


def _check(name: str, value: float, valid: bool, allowed: str) -> None:
    if not valid:  # also for NaN, which no comparison holds for
        raise ValueError(f"{name} is {value}, but must be {allowed}")


@dataclass(frozen=True)
class MetaParams:
    """What is meta-learned."""

    theta: Float[Tensor, " P"]
    """Initial parameters of the policy."""
    step_size: Tensor
    """Inner step size: () or (P,)."""


@dataclass(frozen=True)
class UpdateInfo:
    """What one outer update did."""

    loss_before: float
    loss_after: float
    kl: float
    """Mean divergence of the adapted policies (nats)."""
    step_fraction: float
    """Accepted share of the full step; 0 when the line search gave up and the parameters stayed."""
    gradient_norm: float


def init_meta_params(algo: MAMLTRPO, theta: Float[Tensor, " P"]) -> MetaParams:
    """The start of meta-training from initial policy parameters."""
    alpha = torch.as_tensor(algo.inner_lr, dtype=theta.dtype)
    return MetaParams(theta, alpha.expand_as(theta).clone() if algo.learn_inner_lr == "per-parameter" else alpha)


def adapt_tasks(
    algo: MAMLTRPO,
    policy: GaussianPolicy,
    params: Float[Tensor, "task P"],
    batches: Sequence[TaskBatch],
    step_size: Tensor,
    workers: Workers,
) -> Float[Tensor, "task P"]:
    """One policy-gradient step of every task from its own parameters on its own batch."""
    linearise = linearise_with(policy)

    def step(i: int) -> Tensor:
        return sgd_step(params[i], linearise(params[i], batches[i], algo.surrogate).gradient(), step_size)

    return torch.stack(workers.map(step, range(len(batches))))


def meta_gradient(
    algo: MAMLTRPO,
    policy: GaussianPolicy,
    meta: MetaParams,
    support: Sequence[Sequence[TaskBatch]],
    query: Sequence[TaskBatch],
    workers: Workers,
) -> tuple[float, Float[Tensor, " n"], list[list[Tensor]]]:
    """Query loss, its gradient in what is meta-learned (theta, then the step size), averaged over tasks; inner paths.

    support: per inner step, per task. query: per task. The third result holds each task's [theta_0, ..., theta_k].
    """
    linearise = linearise_with(policy)

    def one_task(i: int) -> tuple[Tensor, Tensor, list[Tensor]]:
        steps, path = _inner_steps(algo, linearise, meta, [step[i] for step in support])
        outer = linearise(path[-1], query[i], "ratio")
        v, v_alpha = pull_back(steps, meta.step_size, outer.gradient(), algo.first_order)
        return outer.loss, _pack(algo, v, v_alpha), path

    losses, gradients, paths = zip(*workers.map(one_task, range(len(query))), strict=True)
    return float(torch.stack(losses).mean()), torch.stack(gradients).mean(0), list(paths)


def meta_loss(
    algo: MAMLTRPO,
    policy: GaussianPolicy,
    meta: MetaParams,
    support: Sequence[Sequence[TaskBatch]],
    query: Sequence[TaskBatch],
    workers: Workers,
) -> tuple[float, float]:
    """Query loss and mean divergence after adapting from meta on the stored support batches, averaged over tasks."""
    linearise = linearise_with(policy)

    def one_task(i: int) -> Tensor:
        batches = [step[i] for step in support]
        adapted = adapt(
            lambda params, batch: linearise(params, batch, algo.surrogate).gradient(),
            meta.theta,
            batches,
            [meta.step_size] * len(batches),
        )[-1]
        with torch.no_grad():
            outer = linearise(adapted, query[i], "ratio")
            return torch.stack([outer.loss, outer.kl(query[i])])

    loss, kl = torch.stack(workers.map(one_task, range(len(query)))).mean(0).tolist()
    return loss, kl


class FisherProduct:
    """v -> mean_i J_i^T F_i J_i v + damping v, from a share of each task's time steps.

    The Jacobian J_i is taken along the path that was really walked (`paths`, from all steps); only the Hessians and
    F_i come from the share. Activations are stored once; each call is a few matrix products a task.
    """

    def __init__(
        self,
        algo: MAMLTRPO,
        policy: GaussianPolicy,
        meta: MetaParams,
        support: Sequence[Sequence[TaskBatch]],
        query: Sequence[TaskBatch],
        paths: Sequence[Sequence[Tensor]],
        seed: np.random.SeedSequence,
        workers: Workers,
    ) -> None:
        self.algo = algo
        self.meta = meta
        self.workers = workers
        linearise = linearise_with(policy)
        rngs = [np.random.default_rng(child) for child in children(seed, len(query))]

        def prepare(i: int) -> tuple[list[InnerStep], Linearised, Tensor]:
            steps = []
            for params, batches in zip(paths[i], support, strict=False):  # the last point starts no inner step
                loss = linearise(params, _share(batches[i], algo.curvature_fraction, rngs[i]), algo.surrogate)
                steps.append(InnerStep(loss, loss.gradient(keep=not algo.first_order)))
            shared = _share(query[i], algo.curvature_fraction, rngs[i])
            return steps, linearise(paths[i][-1], shared, "ratio"), shared.row_weight

        self._tasks = workers.map(prepare, range(len(query)))

    def __call__(self, v: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        algo, alpha = self.algo, self.meta.step_size
        v_theta, v_alpha = _unpack(algo, self.meta, v)

        def one_task(i: int) -> Tensor:
            steps, outer, row_weight = self._tasks[i]
            moved = push_forward(steps, alpha, v_theta, v_alpha, algo.first_order)
            product = outer.fisher_vector_product(moved, row_weight)
            return _pack(algo, *pull_back(steps, alpha, product, algo.first_order))

        products = self.workers.map(one_task, range(len(self._tasks)))
        return torch.stack(products).mean(0) + algo.cg_damping * v


def update(
    algo: MAMLTRPO,
    policy: GaussianPolicy,
    meta: MetaParams,
    support: Sequence[Sequence[TaskBatch]],
    query: Sequence[TaskBatch],
    seed: np.random.SeedSequence,
    workers: Workers,
    stopwatch: Stopwatch | None = None,
) -> tuple[MetaParams, UpdateInfo]:
    """One outer step. The seed decides which time steps the curvature is computed from."""
    watch = stopwatch or Stopwatch()
    with watch("outer gradient"):
        loss_before, gradient, paths = meta_gradient(algo, policy, meta, support, query, workers)
    with watch("conjugate gradient"):
        # The direction fits the share that it was computed from and would look shorter there than it is: its length
        # is measured on another one.
        solving, measuring = (
            FisherProduct(algo, policy, meta, support, query, paths, child, workers) for child in children(seed, 2)
        )
        direction = conjugate_gradient(solving, gradient, algo.cg_iterations)
        quadratic = float(direction @ measuring(direction))
    norm = float(gradient.norm())
    if not quadratic > 0 or not np.isfinite(norm):
        return meta, UpdateInfo(loss_before, loss_before, 0.0, 0.0, norm)
    full_step = direction * (2 * KL_AIM * algo.max_kl / quadratic) ** 0.5

    def evaluate(fraction: float) -> tuple[float, float]:
        return meta_loss(algo, policy, _moved(algo, meta, full_step, fraction), support, query, workers)

    with watch("line search"):
        found = backtracking_line_search(evaluate, loss_before, algo.max_kl, algo.backtrack_ratio, algo.backtrack_steps)
    new = _moved(algo, meta, full_step, found.fraction) if found.fraction > 0 else meta
    return new, UpdateInfo(loss_before, found.loss, found.kl, found.fraction, norm)


def _inner_steps(
    algo: MAMLTRPO, linearise: Linearise, meta: MetaParams, batches: Sequence[TaskBatch]
) -> tuple[list[InnerStep], list[Tensor]]:
    steps: list[InnerStep] = []

    def gradient(params: Tensor, batch: TaskBatch) -> Tensor:
        loss = linearise(params, batch, algo.surrogate)
        steps.append(InnerStep(loss, loss.gradient(keep=not algo.first_order)))
        return steps[-1].gradient

    path = adapt(gradient, meta.theta, batches, [meta.step_size] * len(batches))
    return steps, path


def _share(batch: TaskBatch, fraction: float, rng: np.random.Generator) -> TaskBatch:
    n = len(batch.weight)
    keep = max(1, round(fraction * n))
    if keep >= n:
        return batch
    return batch.subset(torch.from_numpy(np.sort(rng.choice(n, keep, replace=False))))


def _pack(algo: MAMLTRPO, v: Tensor, v_alpha: Tensor) -> Tensor:
    """(theta, alpha) parts as one vector; alpha's part as learned: absent, one number, or per parameter."""
    if algo.learn_inner_lr == "no":
        return v
    return torch.cat([v, v_alpha.sum()[None] if algo.learn_inner_lr == "scalar" else v_alpha])


def _unpack(algo: MAMLTRPO, meta: MetaParams, v: Tensor) -> tuple[Tensor, Tensor | None]:
    n = len(meta.theta)
    return v[:n], None if algo.learn_inner_lr == "no" else v[n:].reshape(meta.step_size.shape)


def _moved(algo: MAMLTRPO, meta: MetaParams, step: Tensor, fraction: float) -> MetaParams:
    """A descent step along `step`, which solves F x = gradient."""
    theta_step, alpha_step = _unpack(algo, meta, step)
    step_size = meta.step_size if alpha_step is None else meta.step_size - fraction * alpha_step
    return MetaParams(meta.theta - fraction * theta_step, step_size)
