"""E-MAML: MAML that also credits the trajectories before adaptation with the return after it (Stadie et al. 2018).

The expected return after adaptation depends on theta twice: through the update, which MAML differentiates, and through
which trajectories the update is computed from. The second part is, with R_i the return after adaptation,

  grad E[R]  +=  mean_i (R_i - b) sum_j mean_t grad log pi_{theta_j}(a_t | s_t)   over the support trajectories,

here as a clipped likelihood ratio, so that it can be stepped on for some epochs like PPO's loss, on which it is added.
Source: https://arxiv.org/abs/1803.01118, section 2. Differs: R_i is standardised over the tasks, and the score is
averaged over time steps instead of summed, with `exploration_weight` in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from metarl.group import SOLO, Group
from metarl.losses import LinearisedPolicy, TaskBatch, linearise_with
from metarl.policies import GaussianPolicy
from metarl.stopwatch import Stopwatch
from metarl.workers import Workers

from .maml import MetaParams, Objective, OptimiserState, OuterLoss, ThroughInnerLoop, UpdateInfo, check, query_objective
from .maml_adam import adam_epochs, check_ppo


@dataclass(frozen=True)
class EMAML(ThroughInnerLoop):
    """Settings of E-MAML."""

    outer_lr: float = 1e-3
    """Adam's step size."""
    epochs: int = 5
    """Adam steps on the same trajectories."""
    clip: float = 0.2
    """Largest change of the likelihood ratio that is rewarded."""
    exploration_weight: float = 0.1
    """Weight of the credit for the trajectories before adaptation; 0 is MAML with PPO outside."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ppo(self.outer_lr, self.epochs, self.clip)
        check("exploration_weight", self.exploration_weight, self.exploration_weight >= 0, "at least 0")


def exploration_credit(query: Sequence[TaskBatch], group: Group = SOLO) -> Float[Tensor, " task"]:
    """Returns after adaptation, standardised over the tasks of all processes; 0 where they are all the same."""
    returns = group.gather(torch.stack([batch.mean_return for batch in query]))
    credit = (returns - returns.mean()) / returns.std(correction=0).clamp(min=1e-6)
    return credit[group.first_task : group.first_task + len(query)]


def e_maml_objective(
    algo: EMAML,
    policy: GaussianPolicy,
    support: Sequence[Sequence[TaskBatch]],
    query: Sequence[TaskBatch],
    group: Group = SOLO,
) -> Objective:
    """The clipped query loss plus the same on the support trajectories, with the return after adaptation as credit."""
    linearise = linearise_with(policy)
    clipped = query_objective(policy, query, algo.clip)
    credit = algo.exploration_weight * exploration_credit(query, group)

    def objective(i: int, inner: Sequence[LinearisedPolicy], path: Sequence[Tensor]) -> OuterLoss:
        outer = clipped(i, inner, path)
        loss, before = outer.loss, []
        for step, params in zip(support, path, strict=False):  # the last point collected the query
            batch = replace(step[i], weight=credit[i] * step[i].row_weight)
            explored = linearise(params, batch, "ratio", algo.clip)
            loss = loss + explored.loss
            before.append(explored.gradient())
        return OuterLoss(loss, outer.adapted, before)

    return objective


def update(
    algo: EMAML,
    policy: GaussianPolicy,
    meta: MetaParams,
    support: Sequence[Sequence[TaskBatch]],
    query: Sequence[TaskBatch],
    seed: np.random.SeedSequence,
    workers: Workers,
    stopwatch: Stopwatch | None = None,
    optimiser: OptimiserState = None,
) -> tuple[MetaParams, OptimiserState, UpdateInfo]:
    """Some Adam steps on E-MAML's objective."""
    objective = e_maml_objective(algo, policy, support, query, workers.group)
    return adam_epochs(
        algo, policy, meta, support, query, objective, algo.outer_lr, algo.epochs, workers, stopwatch, optimiser
    )
