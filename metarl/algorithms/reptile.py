"""Reptile: move towards the parameters that the tasks adapt to (Nichol, Achiam and Schulman 2018, algorithm 2).

  theta <- theta + epsilon * mean_i (theta_i^(k+1) - theta),   theta_i^(k+1) = theta after k + 1 policy-gradient steps

No derivative goes through the inner loop. With one inner step Reptile would be training on all tasks at once; its
meta-learning is in the later steps, whose gradients are taken where earlier ones led. So the query trajectories, which
the policies after k steps collected, are the batch of one more step.
Source: https://arxiv.org/abs/1803.02999. Differs: policy-gradient steps, each on trajectories of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metarl.inner import adapt
from metarl.losses import TaskBatch, linearise_with
from metarl.policies import GaussianPolicy
from metarl.stopwatch import Stopwatch
from metarl.workers import Workers

from .maml import InnerLoop, MetaParams, OptimiserState, UpdateInfo, check, meta_loss


@dataclass(frozen=True)
class Reptile(InnerLoop):
    """Settings of Reptile."""

    outer_lr: float = 1.0
    """epsilon: share of the way to the tasks' mean parameters."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check("outer_lr", self.outer_lr, self.outer_lr > 0, "positive")


def update(
    algo: Reptile,
    policy: GaussianPolicy,
    meta: MetaParams,
    support: Sequence[Sequence[TaskBatch]],
    query: Sequence[TaskBatch],
    seed: np.random.SeedSequence,
    workers: Workers,
    stopwatch: Stopwatch | None = None,
    optimiser: OptimiserState = None,
) -> tuple[MetaParams, OptimiserState, UpdateInfo]:
    """One step towards the mean of the tasks' parameters; nothing changes if they are not finite.

    The gradient reported is mean_i (theta - theta_i^(k+1)) / alpha, the sum of the steps' gradients.
    """
    watch = stopwatch or Stopwatch()
    linearise = linearise_with(policy)

    def walk(i: int) -> Tensor:
        batches = [*(step[i] for step in support), query[i]]
        path = adapt(
            lambda params, batch: linearise(params, batch, algo.surrogate).gradient(),
            meta.theta,
            batches,
            [meta.step_size] * len(batches),
        )
        return path[-1] - meta.theta

    with watch("outer gradient"):
        way = workers.group.mean(torch.stack(workers.map(walk, range(len(query)))))
    new = MetaParams(meta.theta + algo.outer_lr * way, meta.step_size)
    norm = float((way / meta.step_size).norm())
    with watch("outer loss"):
        loss_before, _ = meta_loss(algo, policy, meta, support, query, workers)
        loss_after, kl = meta_loss(algo, policy, new, support, query, workers)
    if not np.isfinite([norm, loss_after, kl]).all():
        return meta, optimiser, UpdateInfo(loss_before, loss_before, 0.0, 0.0, norm)
    return new, optimiser, UpdateInfo(loss_before, loss_after, kl, 1.0, norm)
