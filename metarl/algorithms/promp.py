"""Proximal meta-policy search, ProMP (Rothfuss et al. 2019, https://arxiv.org/abs/1810.06784, algorithm 1).

  minimise over theta   mean_i  L_i^clip(theta_i'(theta)) + eta mean_j KL(pi_{theta_j, old} || pi_{theta_j(theta)})

L^clip is PPO's clipped likelihood-ratio loss on the query trajectories. The divergence is that of the policies that
collected the support trajectories, theta_0 ... theta_{k-1}: it keeps the replayed inner step valid over the epochs. The
inner loss is the likelihood ratio, whose second derivative at the acting policy is the low-variance curvature estimate
of the paper's section 5: E[A (grad log pi grad log pi^T + grad^2 log pi)].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metarl.losses import LinearisedPolicy, TaskBatch
from metarl.policies import GaussianPolicy, Surrogate
from metarl.stopwatch import Stopwatch
from metarl.workers import Workers

from .maml import MetaParams, Objective, OptimiserState, OuterLoss, ThroughInnerLoop, UpdateInfo, check, query_objective
from .maml_adam import adam_epochs, check_ppo


@dataclass(frozen=True)
class ProMP(ThroughInnerLoop):
    """Settings of ProMP; the defaults are its authors'."""

    surrogate: Surrogate = "ratio"
    """Inner loss: ratio (paper), whose second derivative keeps the score's outer product, or log_prob."""
    outer_lr: float = 1e-3
    """Adam's step size. Paper's code: 1e-3."""
    epochs: int = 5
    """Adam steps on the same trajectories. Paper's code: 5."""
    clip: float = 0.3
    """Largest change of the likelihood ratio that is rewarded. Paper's code: 0.3."""
    kl_penalty: float = 5e-4
    """eta: weight of the divergence of the policies before adaptation (1/nats). Paper's code: 5e-4."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ppo(self.outer_lr, self.epochs, self.clip)
        check("kl_penalty", self.kl_penalty, self.kl_penalty >= 0, "at least 0")


def promp_objective(
    algo: ProMP, policy: GaussianPolicy, support: Sequence[Sequence[TaskBatch]], query: Sequence[TaskBatch]
) -> Objective:
    """The clipped query loss plus the divergence of the policies that collected the support trajectories."""
    clipped = query_objective(policy, query, algo.clip)

    def objective(i: int, inner: Sequence[LinearisedPolicy], path: Sequence[Tensor]) -> OuterLoss:
        outer = clipped(i, inner, path)
        share = algo.kl_penalty / len(inner)
        batches = [step[i] for step in support]
        kl = torch.stack([loss.kl(batch) for loss, batch in zip(inner, batches, strict=True)]).sum()
        before = [share * loss.kl_gradient(batch) for loss, batch in zip(inner, batches, strict=True)]
        return OuterLoss(outer.loss + share * kl, outer.adapted, before)

    return objective


def update(
    algo: ProMP,
    policy: GaussianPolicy,
    meta: MetaParams,
    support: Sequence[Sequence[TaskBatch]],
    query: Sequence[TaskBatch],
    seed: np.random.SeedSequence,
    workers: Workers,
    stopwatch: Stopwatch | None = None,
    optimiser: OptimiserState = None,
) -> tuple[MetaParams, OptimiserState, UpdateInfo]:
    """Some Adam steps on ProMP's objective."""
    objective = promp_objective(algo, policy, support, query)
    return adam_epochs(
        algo, policy, meta, support, query, objective, algo.outer_lr, algo.epochs, workers, stopwatch, optimiser
    )
