"""What a policy needs to know about an environment family: sizes, bounds, horizon, time step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EnvSpec:
    """Dimensions and timing of one environment family; the same for every task in it.

    A policy's action is in [-1, 1] per component for every family; the family scales it to its actuators. Actions
    outside are clipped, and costs are computed from the clipped action.
    """

    obs_dim: int
    """Length of an observation (with the goal appended when the family is an oracle)."""
    act_dim: int
    """Length of an action."""
    goal_dim: int
    """Length of a task's goal vector."""
    horizon: int
    """Control steps in a full episode."""
    control_dt_s: float
    """Seconds of simulated time per control step."""
