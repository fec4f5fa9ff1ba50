"""The one extension point: what an environment family is, written once over a batch of rows.

The batched simulator, the Gymnasium environment, the vector environment and the recorder all run these same
functions, so there is a single definition of physics, observation, reward and termination. A row is one simulation;
every array below has the row axis first. Subclass `Family`, fill in the class attributes and the methods, and
register it (`metarl.envs.register`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import mujoco
import numpy as np
from jaxtyping import Bool, Float

from .spec import EnvSpec
from .tasks import TaskDistribution

ProtocolName = Literal["modern", "finn2017"]
PROTOCOLS: tuple[ProtocolName, ...] = ("modern", "finn2017")


@dataclass(frozen=True)
class State:
    """Views of the simulated state, one row per simulation; valid until the next step. Do not write to them."""

    qpos: Float[np.ndarray, "row nq"]
    """Generalised positions (m, rad, quaternions) as MuJoCo orders them."""
    qvel: Float[np.ndarray, "row nv"]
    """Generalised velocities (m/s, rad/s)."""
    derived: Mapping[str, np.ndarray] = field(default_factory=dict)
    """The MjData fields named in `Family.derived`, (row, ...); see `Family.stage` for when they are current."""


@dataclass(frozen=True)
class Marker:
    """Where the goal is, for the video: a place in the world or a heading from the robot."""

    kind: Literal["place", "heading"]
    xyz: tuple[float, float, float]
    """Place: position (m). Heading: unit vector."""


class Family:
    """Base of all environment families. Rows are independent: row i of every result depends on row i only."""

    name: ClassVar[str]
    """Registered name, lower case with dashes."""
    title: ClassVar[str]
    """What the task is, in a few words, for listings."""

    frame_skip: int
    """MuJoCo steps per control step."""
    horizon: int
    """Control steps per episode."""
    tasks: TaskDistribution
    derived: tuple[str, ...] = ()
    """MjData fields that `observe`, `reward` or `done` read from `State.derived`."""
    stage: mujoco.mjtStage = mujoco.mjtStage.mjSTAGE_NONE
    """Stages computed at the new state after a step. With mjSTAGE_NONE derived fields describe the state before the
    last MuJoCo step, as `mj_step` leaves them; mjSTAGE_VEL makes position and velocity sensors current."""
    kinematic: bool = False
    """True for a family that moves its state in `advance` and uses the MuJoCo model for its picture only."""

    def __init__(self, protocol: ProtocolName = "modern", oracle: bool = False) -> None:
        if protocol not in PROTOCOLS:
            raise ValueError(f"unknown protocol {protocol!r}; allowed: {', '.join(PROTOCOLS)}")
        self.protocol = protocol
        self.oracle = oracle

    # -- to be provided by a family ---------------------------------------------------------------------------------

    def model_spec(self) -> mujoco.MjSpec:
        """The MuJoCo model as an editable spec; the recorder adds the goal marker to a copy of it."""
        raise NotImplementedError

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Initial qpos (nq,) and qvel (nv,) of one episode."""
        raise NotImplementedError

    def observe(self, state: State) -> Float[np.ndarray, "row obs"]:
        """Observations, without the goal."""
        raise NotImplementedError

    def reward(
        self,
        qpos_before: Float[np.ndarray, "row nq"],
        state: State,
        action: Float[np.ndarray, "row act"],
        goal: Float[np.ndarray, "row goal"],
    ) -> Float[np.ndarray, " row"]:
        """Reward of the control step from qpos_before to state; action is clipped to [-1, 1]."""
        raise NotImplementedError

    def done(self, state: State, goal: Float[np.ndarray, "row goal"]) -> Bool[np.ndarray, " row"]:
        """Whether each episode terminates at this state; the default is never."""
        return np.zeros(len(goal), dtype=bool)

    def info(self, qpos_before: np.ndarray, state: State) -> dict[str, np.ndarray]:
        """Quantities for `info` and captions, each (row,): positions (m) and velocities (m/s)."""
        return {}

    def compile(self, spec: mujoco.MjSpec) -> mujoco.MjModel:
        """Compile a spec of this family (with or without a marker)."""
        return spec.compile()

    def controls(self, action: Float[np.ndarray, "row act"]) -> Float[np.ndarray, "row nu"]:
        """Actuator controls for actions in [-1, 1]: the same numbers, unless the actuators' range differs."""
        return action

    def advance(self, qpos: np.ndarray, qvel: np.ndarray, action: np.ndarray) -> None:
        """Kinematic families only: move qpos and qvel (row, ...) by one control step, in place."""
        raise NotImplementedError

    def marker(self, goal: Float[np.ndarray, " goal"]) -> Marker | None:
        """The goal as something to draw, or None where it is not a place or heading."""
        return None

    def describe(self, goal: Float[np.ndarray, " goal"]) -> str:
        """The goal in words, for captions: "velocity 1.50 m/s"."""
        return ", ".join(f"{name} {value:.2f}" for name, value in zip(self.tasks.names, goal, strict=True))

    # -- derived from the above -------------------------------------------------------------------------------------

    @functools.cached_property
    def model(self) -> mujoco.MjModel:
        """The compiled model; shared by every user of this family object, so do not modify it."""
        return self.compile(self.model_spec())

    @functools.cached_property
    def spec(self) -> EnvSpec:
        qpos, qvel = self.reset(np.random.default_rng(0))
        data = mujoco.MjData(self.model)
        derived = {name: np.array(getattr(data, name))[None] * 0.0 for name in self.derived}
        obs = self.observe(State(qpos[None], qvel[None], derived))
        goal_dim = len(self.tasks.names)
        return EnvSpec(
            obs_dim=obs.shape[1] + (goal_dim if self.oracle else 0),
            act_dim=self.model.nu,
            goal_dim=goal_dim,
            horizon=self.horizon,
            control_dt_s=self.model.opt.timestep * self.frame_skip,
        )

    def observation(self, state: State, goal: Float[np.ndarray, "row goal"]) -> Float[np.ndarray, "row obs"]:
        """What the policy sees: `observe`, and behind it the goal if (and only if) the family is an oracle."""
        obs = self.observe(state)
        return np.concatenate([obs, goal], axis=1) if self.oracle else obs
