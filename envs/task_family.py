"""What training and evaluation need of any family of tasks, whatever simulates it.

`Family` (MuJoCo, batched) and `GymnasiumFamily` (any Gymnasium environment, in worker processes) are the two kinds.
The seam between them and the rest is `TaskFamily.simulator`: an object that resets and steps rows (`RowSimulator`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from .spec import EnvSpec
from .tasks import TaskDistribution, Tasks

ProtocolName = Literal["modern", "finn2017"]
PROTOCOLS: tuple[ProtocolName, ...] = ("modern", "finn2017")


@dataclass(frozen=True)
class Step:
    """What one control step returned for every row."""

    obs: Float[np.ndarray, "task env obs"]
    """Observation of the state after the step; of the last finite state for a row that diverged."""
    reward: Float[np.ndarray, "task env"]
    terminated: Bool[np.ndarray, "task env"]
    """The family's termination, or divergence. Time limits are the caller's."""
    diverged: Bool[np.ndarray, "task env"]


@runtime_checkable
class RowSimulator(Protocol):
    """Tasks x environments that step together; row task * n_envs + env belongs to that task's environment.

    A row depends on its own task, generator and actions only. One thread may use it at a time; several may be used
    by several threads.
    """

    n_diverged: int
    """Simulations that diverged since this object was made."""
    first_task: int
    """Number of the first task, for messages, where the tasks are a share of more."""

    def reset(self, tasks: Tasks, rngs: Sequence[np.random.Generator]) -> Float[np.ndarray, "task env obs"]:
        """Start an episode in every row; task i's environments draw from rngs[i] in order."""
        ...

    def step(
        self, action: Float[np.ndarray, "task env act"], active: Bool[np.ndarray, "task env"] | None = None
    ) -> Step:
        """Advance every row, or only the active ones; actions in [-1, 1] are clipped, inactive rows return reward 0."""
        ...

    def close(self) -> None:
        """Release what it holds; harmless twice."""
        ...


class TaskFamily:
    """Base of both kinds of family: names, tasks, sizes, and a way to simulate."""

    name: ClassVar[str]
    """Registered name, lower case with dashes."""
    title: ClassVar[str]
    """What the task is, in a few words, for listings."""
    protocols: ClassVar[tuple[ProtocolName, ...]] = ("modern",)
    """The protocols it is defined in; "finn2017" means that Finn et al. 2017 have this environment."""

    horizon: int
    """Control steps per episode."""
    tasks: TaskDistribution

    def __init__(self, protocol: ProtocolName = "modern", oracle: bool = False) -> None:
        if protocol not in PROTOCOLS:
            raise ValueError(f"unknown protocol {protocol!r}; allowed: {', '.join(PROTOCOLS)}")
        self.check_protocol(protocol)
        self.protocol: ProtocolName = protocol
        self.oracle = oracle

    @classmethod
    def check_protocol(cls, protocol: ProtocolName) -> None:
        """ValueError for a protocol that this family is not defined in."""
        if protocol not in cls.protocols:
            raise ValueError(
                f"{cls.name} has no protocol {protocol!r} (the environments of Finn et al. 2017); "
                f"use {' or '.join(cls.protocols)}"
            )

    @property
    def spec(self) -> EnvSpec:
        """Sizes, horizon and time step."""
        raise NotImplementedError

    def simulator(self, n_tasks: int, n_envs: int, n_threads: int = 1) -> RowSimulator:
        """Rows of this family to reset and step."""
        raise NotImplementedError

    def describe(self, goal: Float[np.ndarray, " goal"]) -> str:
        """The goal in words, for captions: "velocity 1.50 m/s"."""
        return ", ".join(f"{name} {value:.2f}" for name, value in zip(self.tasks.names, goal, strict=True))
