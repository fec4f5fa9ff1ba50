"""MAML with a trust-region outer step (Finn et al. 2017, section 3.2 and algorithm 3; TRPO of Schulman et al. 2015).

  minimise over theta   mean_i  L_i^query(theta_i'(theta)),   theta_i' = theta after k policy-gradient steps on task i
  subject to            mean_i  KL(pi_{theta_i', old} || pi_{theta_i'(theta)}) <= max_kl

The full second-order meta-gradient goes through `metarl.outer`. The natural-gradient system uses the Gauss-Newton
form J^T F J of the divergence, exact at the current parameters, with J and F from a random share of the time steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from metarl.linalg import backtracking_line_search, conjugate_gradient
from metarl.losses import Linearised, TaskBatch, linearise_with
from metarl.outer import InnerStep, pull_back, push_forward
from metarl.policies import GaussianPolicy
from metarl.seeding import children
from metarl.stopwatch import Stopwatch
from metarl.workers import Workers

from .maml import (
    MetaParams,
    OptimiserState,
    ThroughInnerLoop,
    UpdateInfo,
    check,
    meta_gradient,
    meta_loss,
    moved,
    pack,
    unpack,
)

# Share of the trust region that the full step aims at. The curvature is an estimate: aiming at all of it, the line
# search would refuse every second first step and evaluate all data once more, for steps no longer on average.
KL_AIM = 0.8


@dataclass(frozen=True)
class MAMLTRPO(ThroughInnerLoop):
    """Settings of MAML-TRPO; the defaults are the paper's."""

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
        super().__post_init__()
        check("max_kl", self.max_kl, self.max_kl > 0, "positive")
        check("cg_iterations", self.cg_iterations, self.cg_iterations >= 1, "at least 1")
        check("cg_damping", self.cg_damping, self.cg_damping >= 0, "at least 0")
        check("curvature_fraction", self.curvature_fraction, 0 < self.curvature_fraction <= 1, "in (0, 1]")
        check("backtrack_ratio", self.backtrack_ratio, 0 < self.backtrack_ratio < 1, "in (0, 1)")
        check("backtrack_steps", self.backtrack_steps, self.backtrack_steps >= 1, "at least 1")


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
        rngs = [np.random.default_rng(child) for child in children(seed, len(query), workers.group.first_task)]

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
        v_theta, v_alpha = unpack(algo, self.meta, v)

        def one_task(i: int) -> Tensor:
            steps, outer, row_weight = self._tasks[i]
            pushed = push_forward(steps, alpha, v_theta, v_alpha, algo.first_order)
            product = outer.fisher_vector_product(pushed, row_weight)
            return pack(algo, *pull_back(steps, alpha, product, algo.first_order))

        products = self.workers.map(one_task, range(len(self._tasks)))
        return self.workers.group.mean(torch.stack(products)) + algo.cg_damping * v


def update(
    algo: MAMLTRPO,
    policy: GaussianPolicy,
    meta: MetaParams,
    support: Sequence[Sequence[TaskBatch]],
    query: Sequence[TaskBatch],
    seed: np.random.SeedSequence,
    workers: Workers,
    stopwatch: Stopwatch | None = None,
    optimiser: OptimiserState = None,
) -> tuple[MetaParams, OptimiserState, UpdateInfo]:
    """One outer step. The seed decides which time steps the curvature is computed from; there is no optimiser state."""
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
        return meta, optimiser, UpdateInfo(loss_before, loss_before, 0.0, 0.0, norm)
    full_step = direction * (2 * KL_AIM * algo.max_kl / quadratic) ** 0.5

    def evaluate(fraction: float) -> tuple[float, float]:
        return meta_loss(algo, policy, moved(algo, meta, full_step, fraction), support, query, workers)

    with watch("line search"):
        found = backtracking_line_search(evaluate, loss_before, algo.max_kl, algo.backtrack_ratio, algo.backtrack_steps)
    new = moved(algo, meta, full_step, found.fraction) if found.fraction > 0 else meta
    return new, optimiser, UpdateInfo(loss_before, found.loss, found.kl, found.fraction, norm)


def _share(batch: TaskBatch, fraction: float, rng: np.random.Generator) -> TaskBatch:
    n = len(batch.weight)
    keep = max(1, round(fraction * n))
    if keep >= n:
        return batch
    rows = torch.from_numpy(np.sort(rng.choice(n, keep, replace=False)))
    return batch.subset(rows.to(batch.weight.device))
