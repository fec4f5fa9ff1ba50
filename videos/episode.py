"""One episode of one task, run in the same simulator that training uses and kept for the camera."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from metarl.envs import Family, Simulator, Tasks

Act = Callable[[np.ndarray], np.ndarray]
"""A policy: observation (obs,) to action (act,) in [-1, 1]."""


@dataclass(frozen=True)
class Episode:
    """What happened, state by state; `time` counts control steps taken."""

    qpos: Float[np.ndarray, "state nq"]
    """Generalised positions before each step and after the last one (m, rad, quaternions): time + 1 states."""
    obs: Float[np.ndarray, "time obs"]
    """What the policy saw before each step."""
    action: Float[np.ndarray, "time act"]
    """What it answered, before clipping to [-1, 1]."""
    reward: Float[np.ndarray, " time"]
    info: dict[str, np.ndarray]
    """`Family.info` after each step, each (time,): positions (m), velocities (m/s)."""
    terminated: bool
    """Whether the last step ended it before the horizon, by the family's rule or by divergence."""
    diverged: bool
    """Whether the simulation broke down in the last step; the last state is then repeated."""

    @property
    def steps(self) -> int:
        """Control steps taken."""
        return len(self.reward)

    @property
    def total_return(self) -> float:
        """Undiscounted sum of rewards."""
        return float(self.reward.sum())


def run_episode(
    family: Family,
    goal: Float[np.ndarray, " goal"],
    act: Act,
    rng: np.random.Generator,
    horizon: int | None = None,
) -> Episode:
    """Run one episode of a task from the initial state that rng draws.

    goal: (goal,) in the family's units. It may lie outside the distribution that tasks are drawn from.
    act: called with obs (obs,) float64, a new array each time; returns the action (act,).
    rng: decides the initial state and nothing else: equal seeds give equal initial states whatever `act` does.
    horizon: control steps at most, at least 1; the family's own by default.

    Raises ValueError for a horizon below 1, a goal or an action of the wrong size, an action that is not finite.
    """
    horizon = family.horizon if horizon is None else horizon
    if horizon < 1:
        raise ValueError(f"horizon={horizon}: an episode needs at least 1 control step")
    simulator = Simulator(family, n_tasks=1, n_envs=1)
    obs = simulator.reset(Tasks(np.atleast_2d(np.asarray(goal, dtype=np.float64))), [rng])[0, 0]
    qpos = [simulator.state.qpos[0].copy()]
    seen: list[np.ndarray] = []
    actions: list[np.ndarray] = []
    rewards: list[float] = []
    info: dict[str, list[float]] = {}
    terminated = diverged = False
    while len(rewards) < horizon and not terminated:
        action = np.asarray(act(obs.copy()), dtype=np.float64)
        if action.shape != (family.spec.act_dim,):
            raise ValueError(
                f"the policy returned an action of shape {action.shape} for {family.name}, expected "
                f"({family.spec.act_dim},): `act` takes one observation, without batch axes"
            )
        step = simulator.step(action[None, None])
        diverged, terminated = bool(step.diverged[0, 0]), bool(step.terminated[0, 0])
        # After a divergence the simulator has put the state back to the model's default, which is no part of it.
        qpos.append(qpos[-1].copy() if diverged else simulator.state.qpos[0].copy())
        for name, values in simulator.info().items():
            series = info.setdefault(name, [])
            series.append((series[-1] if series else 0.0) if diverged else float(values[0]))
        seen.append(obs)
        actions.append(action)
        rewards.append(float(step.reward[0, 0]))
        obs = step.obs[0, 0]
    return Episode(
        qpos=np.array(qpos),
        obs=np.array(seen),
        action=np.array(actions),
        reward=np.array(rewards),
        info={name: np.array(values) for name, values in info.items()},
        terminated=terminated,
        diverged=diverged,
    )
