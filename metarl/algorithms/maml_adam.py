"""MAML with an Adam outer loop: one step on the policy gradient (VPG), or several on PPO's clipped objective.

  VPG   theta <- Adam step on  mean_i  L_i^query(theta_i'(theta))
  PPO   the same for some epochs with the clipped likelihood-ratio loss of Schulman et al. 2017, equation 7; each epoch
        adapts anew from the current theta on the stored support trajectories, so theta_i' moves with theta.

Source: Finn et al. 2017, algorithm 3 with another meta-optimiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metarl.adam import adam_step, init_adam
from metarl.losses import TaskBatch
from metarl.policies import GaussianPolicy
from metarl.stopwatch import Stopwatch
from metarl.workers import Workers

from .maml import (
    MetaParams,
    Objective,
    OptimiserState,
    ThroughInnerLoop,
    UpdateInfo,
    check,
    meta_gradient,
    meta_loss,
    moved,
    query_objective,
)


@dataclass(frozen=True)
class MAMLVPG(ThroughInnerLoop):
    """Settings of MAML with one Adam step an iteration."""

    outer_lr: float = 1e-3
    """Adam's step size."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check("outer_lr", self.outer_lr, self.outer_lr > 0, "positive")


@dataclass(frozen=True)
class MAMLPPO(ThroughInnerLoop):
    """Settings of MAML with PPO's clipped objective outside."""

    outer_lr: float = 1e-3
    """Adam's step size."""
    epochs: int = 5
    """Adam steps on the same trajectories."""
    clip: float = 0.2
    """Largest change of the likelihood ratio that is rewarded. PPO's paper: 0.2."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ppo(self.outer_lr, self.epochs, self.clip)


def check_ppo(outer_lr: float, epochs: int, clip: float) -> None:
    """ValueError naming a setting of the outer loop that is out of range."""
    check("outer_lr", outer_lr, outer_lr > 0, "positive")
    check("epochs", epochs, epochs >= 1, "at least 1")
    check("clip", clip, clip > 0, "positive")


def update_vpg(
    algo: MAMLVPG,
    policy: GaussianPolicy,
    meta: MetaParams,
    support: Sequence[Sequence[TaskBatch]],
    query: Sequence[TaskBatch],
    seed: np.random.SeedSequence,
    workers: Workers,
    stopwatch: Stopwatch | None = None,
    optimiser: OptimiserState = None,
) -> tuple[MetaParams, OptimiserState, UpdateInfo]:
    """One Adam step. At the parameters that acted, the ratio's gradient is that of the log-probability."""
    objective = query_objective(policy, query)
    return adam_epochs(algo, policy, meta, support, query, objective, algo.outer_lr, 1, workers, stopwatch, optimiser)


def update_ppo(
    algo: MAMLPPO,
    policy: GaussianPolicy,
    meta: MetaParams,
    support: Sequence[Sequence[TaskBatch]],
    query: Sequence[TaskBatch],
    seed: np.random.SeedSequence,
    workers: Workers,
    stopwatch: Stopwatch | None = None,
    optimiser: OptimiserState = None,
) -> tuple[MetaParams, OptimiserState, UpdateInfo]:
    """Some Adam steps on the clipped query loss."""
    objective = query_objective(policy, query, algo.clip)
    return adam_epochs(
        algo, policy, meta, support, query, objective, algo.outer_lr, algo.epochs, workers, stopwatch, optimiser
    )


def adam_epochs(
    algo: ThroughInnerLoop,
    policy: GaussianPolicy,
    meta: MetaParams,
    support: Sequence[Sequence[TaskBatch]],
    query: Sequence[TaskBatch],
    objective: Objective,
    outer_lr: float,
    epochs: int,
    workers: Workers,
    stopwatch: Stopwatch | None = None,
    optimiser: OptimiserState = None,
) -> tuple[MetaParams, OptimiserState, UpdateInfo]:
    """Adam steps on the meta-gradient of an objective; optimiser: moments of earlier iterations, None for none yet.

    If a gradient or the outcome is not finite, nothing changes. The losses reported are those of the query.
    """
    watch = stopwatch or Stopwatch()
    new, state = meta, optimiser
    norms = []
    with watch("outer gradient"):
        for _ in range(epochs):
            _, gradient, _ = meta_gradient(algo, policy, new, support, query, workers, objective)
            norms.append(float(gradient.norm()))
            state, step = adam_step(state or init_adam(gradient), gradient, outer_lr)
            new = moved(algo, new, step)
    with watch("outer loss"):
        loss_before, _ = meta_loss(algo, policy, meta, support, query, workers)
        loss_after, kl = meta_loss(algo, policy, new, support, query, workers)
    if not np.isfinite([*norms, loss_after, kl]).all():
        return meta, optimiser, UpdateInfo(loss_before, loss_before, 0.0, 0.0, norms[0])
    return new, state, UpdateInfo(loss_before, loss_after, kl, 1.0, norms[0])
