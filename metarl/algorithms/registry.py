"""Algorithms by name: each is a type of settings, the update that belongs to it, and what users read about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from metarl.losses import TaskBatch
from metarl.policies import GaussianPolicy
from metarl.stopwatch import Stopwatch
from metarl.workers import Workers

from . import e_maml, maml_adam, maml_trpo, promp, reptile
from .e_maml import EMAML
from .maml import MetaParams, OptimiserState, UpdateInfo
from .maml_adam import MAMLPPO, MAMLVPG
from .maml_trpo import MAMLTRPO
from .promp import ProMP
from .reptile import Reptile

Algo = MAMLTRPO | MAMLVPG | MAMLPPO | ProMP | EMAML | Reptile
AlgorithmName = Literal["maml-trpo", "fo-maml", "meta-sgd", "maml-vpg", "maml-ppo", "promp", "e-maml", "reptile"]
DEFAULT_ALGORITHM: AlgorithmName = "maml-trpo"


@runtime_checkable
class Update(Protocol):
    """One outer update from the stored trajectories of an iteration.

    support: per inner step, per task. query: per task, collected after the inner steps. seed: for what is random in
    the update. optimiser: what the update before returned, None before the first. If the outcome would not be finite,
    what was given comes back.

    Other processes may have more tasks: means over tasks go through `workers.group.mean`, and what is random in a task
    comes from `children(seed, len(query), workers.group.first_task)`.
    """

    def __call__(
        self,
        algo: Any,
        policy: GaussianPolicy,
        meta: MetaParams,
        support: Sequence[Sequence[TaskBatch]],
        query: Sequence[TaskBatch],
        seed: np.random.SeedSequence,
        workers: Workers,
        stopwatch: Stopwatch | None = None,
        optimiser: OptimiserState = None,
    ) -> tuple[MetaParams, OptimiserState, UpdateInfo]: ...


@dataclass(frozen=True)
class Algorithm:
    """One entry of `metarl list`."""

    settings: Algo
    """Its settings with their defaults; choosing an algorithm is choosing their type."""
    update: Update
    text: str


ALGORITHMS: dict[AlgorithmName, Algorithm] = {
    "maml-trpo": Algorithm(MAMLTRPO(), maml_trpo.update, "MAML with a trust region outside (Finn et al. 2017)"),
    "fo-maml": Algorithm(MAMLTRPO(first_order=True), maml_trpo.update, "the same without second derivatives"),
    "meta-sgd": Algorithm(
        MAMLTRPO(learn_inner_lr="per-parameter"),
        maml_trpo.update,
        "MAML-TRPO with a learned step size per parameter (Li et al. 2017)",
    ),
    "maml-vpg": Algorithm(MAMLVPG(), maml_adam.update_vpg, "MAML with one Adam step outside"),
    "maml-ppo": Algorithm(MAMLPPO(), maml_adam.update_ppo, "MAML with PPO's clipped objective outside"),
    "promp": Algorithm(ProMP(), promp.update, "proximal meta-policy search (Rothfuss et al. 2019)"),
    "e-maml": Algorithm(EMAML(), e_maml.update, "MAML that credits exploration before adaptation (Stadie et al. 2018)"),
    "reptile": Algorithm(Reptile(), reptile.update, "move towards the adapted parameters (Nichol et al. 2018)"),
}


def algorithm_name(algo: Algo) -> AlgorithmName:
    """The name that settings go by; first-order MAML and Meta-SGD are settings of MAML-TRPO."""
    if isinstance(algo, MAMLTRPO):
        if algo.first_order:
            return "fo-maml"
        return "meta-sgd" if algo.learn_inner_lr == "per-parameter" else "maml-trpo"
    return next(name for name, entry in ALGORITHMS.items() if type(entry.settings) is type(algo))


def update_of(algo: Algo) -> Update:
    """The update that belongs to settings."""
    return ALGORITHMS[algorithm_name(algo)].update
