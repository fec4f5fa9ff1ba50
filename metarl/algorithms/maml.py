"""What the algorithms share: the inner loop's settings, what is meta-learned, and gradients through the inner loop.

  theta_0 = theta,   theta_j = theta_{j-1} - alpha grad L_j^support(theta_{j-1}),   j = 1 ... k
  meta-gradient = d/dtheta mean_i O_i(theta_0, ..., theta_k)

O_i is a task's outer objective, as a rule the query loss at theta_k; an algorithm is a choice of it and of the step
that follows. The inner step is Finn et al. 2017, section 2.2; the chain rule is `metarl.outer`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from metarl.adam import AdamState
from metarl.inner import adapt, sgd_step
from metarl.losses import (
    AdvantageScale,
    Linearise,
    LinearisedPolicy,
    TaskBatch,
    ValueBaseline,
    aligned,
    linearise_with,
    task_batches,
)
from metarl.outer import InnerStep, pull_back
from metarl.policies import GaussianPolicy, Surrogate
from metarl.rollout import Rollout
from metarl.workers import Workers

LearnStepSize = Literal["no", "scalar", "per-parameter"]
OptimiserState = AdamState | None


def check(name: str, value: float, valid: bool, allowed: str) -> None:
    """ValueError naming a setting that is out of range."""
    if not valid:  # also for NaN, which no comparison holds for
        raise ValueError(f"{name} is {value}, but must be {allowed}")


@dataclass(frozen=True)
class InnerLoop:
    """Settings of adaptation; the defaults are those of Finn et al. 2017."""

    inner_lr: float = 0.1
    """Inner step size alpha (start value when it is learned). Paper: 0.1."""
    inner_steps: int = 1
    """Policy-gradient steps before the outer loss. Paper: 1."""
    later_lr_ratio: float = 0.5
    """Factor on the step size after the first gradient step, when a trained policy is adapted. Paper: 0.5."""
    surrogate: Surrogate = "log_prob"
    """Inner loss: log_prob (paper) or ratio, whose second derivative keeps the score's outer product."""
    discount: float = 0.99
    """Discount per control step."""
    gae_lambda: float = 1.0
    """Lambda of generalised advantage estimation, in [0, 1]. Paper: 1."""
    advantages: AdvantageScale = "standardised"
    """Advantages of a task, in either loop: mean 0 and standard deviation 1 (paper), or centred, in units of reward."""
    baseline: ValueBaseline = "ridge"
    """Value baseline: ridge is fitted to the episodes that it serves (paper), all of a task or each by itself
    (by-episode), cross-fitted to a task's others."""
    guess_weight: float = 0.0
    """Weight, in the inner loss, of the likelihood of the guesses before adaptation; 0: guesses only spread episodes.
    Only for policies with guess_std."""

    def __post_init__(self) -> None:
        check("inner_lr", self.inner_lr, self.inner_lr > 0, "positive")
        check("inner_steps", self.inner_steps, self.inner_steps >= 1, "at least 1")
        check("later_lr_ratio", self.later_lr_ratio, self.later_lr_ratio > 0, "positive")
        check("discount", self.discount, 0 < self.discount <= 1, "in (0, 1]")
        check("guess_weight", self.guess_weight, self.guess_weight >= 0, "at least 0")
        check("gae_lambda", self.gae_lambda, 0 <= self.gae_lambda <= 1, "in [0, 1]")
        for name, kind in (("advantages", AdvantageScale), ("baseline", ValueBaseline)):
            value = getattr(self, name)
            if value not in get_args(kind):
                raise ValueError(f"{name} is {value!r}, but must be {' or '.join(get_args(kind))}")


@dataclass(frozen=True)
class ThroughInnerLoop(InnerLoop):
    """The same for algorithms that differentiate through adaptation."""

    learn_inner_lr: LearnStepSize = "no"
    """Meta-learn the inner step size: one number, or one per parameter (Li et al. 2017, Meta-SGD)."""
    first_order: bool = False
    """Drop the second derivatives of the inner loop (first-order MAML)."""


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
    """Accepted share of the full step; 0 when the step was refused and the parameters stayed."""
    gradient_norm: float


def init_meta_params(algo: InnerLoop, theta: Float[Tensor, " P"]) -> MetaParams:
    """The start of meta-training from initial policy parameters."""
    alpha = torch.as_tensor(algo.inner_lr, dtype=theta.dtype)
    per_parameter = isinstance(algo, ThroughInnerLoop) and algo.learn_inner_lr == "per-parameter"
    return MetaParams(theta, alpha.expand_as(theta).clone() if per_parameter else alpha)


def batches_of(algo: InnerLoop, rollout: Rollout, workers: Workers) -> list[TaskBatch]:
    """The tasks' trajectories with advantages as an algorithm wants them."""
    return task_batches(
        rollout,
        algo.discount,
        algo.gae_lambda,
        workers,
        advantages=algo.advantages,
        baseline=algo.baseline,
        guess_weight=algo.guess_weight,
    )


def adapt_tasks(
    algo: InnerLoop,
    policy: GaussianPolicy,
    params: Float[Tensor, "task P"],
    batches: Sequence[TaskBatch],
    step_size: Tensor,
    workers: Workers,
) -> Float[Tensor, "task P"]:
    """One policy-gradient step of every task from its own parameters on its own batch."""
    linearise = linearise_with(policy)

    def step(i: int) -> Tensor:
        own = aligned(params[i])
        return sgd_step(own, linearise(own, batches[i], algo.surrogate).gradient(), step_size)

    return torch.stack(workers.map(step, range(len(batches))))


@dataclass(frozen=True)
class OuterLoss:
    """A task's outer objective O(theta_0, ..., theta_k), linearised where its inner loop went."""

    loss: Float[Tensor, ""]
    adapted: Float[Tensor, " P"]
    """dO / dtheta_k."""
    before: Sequence[Float[Tensor, " P"]] = ()
    """dO / dtheta_j for j = 0 ... k-1, where O depends on these directly; empty if it does not."""


# Of task i, from its inner losses, linearised at theta_0 ... theta_{k-1}, and from [theta_0, ..., theta_k].
Objective = Callable[[int, Sequence[LinearisedPolicy], Sequence[Tensor]], OuterLoss]


def query_objective(policy: GaussianPolicy, query: Sequence[TaskBatch], clip: float = math.inf) -> Objective:
    """The likelihood-ratio surrogate of the query trajectories at theta_k, clipped or not."""
    linearise = linearise_with(policy)

    def objective(i: int, inner: Sequence[LinearisedPolicy], path: Sequence[Tensor]) -> OuterLoss:
        outer = linearise(path[-1], query[i], "ratio", clip)
        return OuterLoss(outer.loss, outer.gradient())

    return objective


def meta_gradient(
    algo: ThroughInnerLoop,
    policy: GaussianPolicy,
    meta: MetaParams,
    support: Sequence[Sequence[TaskBatch]],
    query: Sequence[TaskBatch],
    workers: Workers,
    objective: Objective | None = None,
) -> tuple[float, Float[Tensor, " n"], list[list[Tensor]]]:
    """Outer loss, its gradient in what is meta-learned (theta, then the step size), averaged over tasks; inner paths.

    support: per inner step, per task. query: per task. objective: None for `query_objective` without a clip.
    The mean is over the tasks of all processes. The third result holds [theta_0, ..., theta_k] of each task given.
    """
    linearise = linearise_with(policy)
    outer_loss = objective or query_objective(policy, query)

    def one_task(i: int) -> tuple[Tensor, Tensor, list[Tensor]]:
        steps, inner, path = _inner_steps(algo, linearise, meta, [step[i] for step in support])
        outer = outer_loss(i, inner, path)
        v, v_alpha = pull_back(steps, meta.step_size, outer.adapted, algo.first_order, outer.before)
        return outer.loss, pack(algo, v, v_alpha), path

    losses, gradients, paths = zip(*workers.map(one_task, range(len(query))), strict=True)
    mean = workers.group.mean
    return float(mean(torch.stack(losses))), mean(torch.stack(gradients)), list(paths)


def meta_loss(
    algo: InnerLoop,
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

    loss, kl = workers.group.mean(torch.stack(workers.map(one_task, range(len(query))))).tolist()
    return loss, kl


def _inner_steps(
    algo: ThroughInnerLoop, linearise: Linearise, meta: MetaParams, batches: Sequence[TaskBatch]
) -> tuple[list[InnerStep], list[LinearisedPolicy], list[Tensor]]:
    steps: list[InnerStep] = []
    inner: list[LinearisedPolicy] = []

    def gradient(params: Tensor, batch: TaskBatch) -> Tensor:
        inner.append(linearise(params, batch, algo.surrogate))
        steps.append(InnerStep(inner[-1], inner[-1].gradient(keep=not algo.first_order)))
        return steps[-1].gradient

    path = adapt(gradient, meta.theta, batches, [meta.step_size] * len(batches))
    return steps, inner, path


def pack(algo: ThroughInnerLoop, v: Tensor, v_alpha: Tensor) -> Tensor:
    """(theta, alpha) parts as one vector; alpha's part as learned: absent, one number, or per parameter."""
    if algo.learn_inner_lr == "no":
        return v
    return torch.cat([v, v_alpha.sum()[None] if algo.learn_inner_lr == "scalar" else v_alpha])


def unpack(algo: ThroughInnerLoop, meta: MetaParams, v: Tensor) -> tuple[Tensor, Tensor | None]:
    """The inverse of `pack`: the part of theta and that of the step size, None where it is not learned."""
    n = len(meta.theta)
    return v[:n], None if algo.learn_inner_lr == "no" else v[n:].reshape(meta.step_size.shape)


def moved(algo: ThroughInnerLoop, meta: MetaParams, step: Tensor, fraction: float = 1.0) -> MetaParams:
    """A descent step along `step`: theta and step size minus a fraction of it."""
    theta_step, alpha_step = unpack(algo, meta, step)
    step_size = meta.step_size if alpha_step is None else meta.step_size - fraction * alpha_step
    return MetaParams(meta.theta - fraction * theta_step, step_size)
