"""The extension point for MuJoCo: what an environment family is, written once over a batch of rows.

The batched simulator, the Gymnasium environment, the vector environment and the recorder all run these same
functions, so there is a single definition of physics, observation, reward and termination. A row is one simulation;
every array below has the row axis first. Subclass `Family`, fill in the class attributes and the methods, and
register it (`metarl.envs.register`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import mujoco
import numpy as np
from jaxtyping import Bool, Float

from .spec import EnvSpec
from .task_family import TaskFamily

if TYPE_CHECKING:
    from .simulator import Simulator


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


class Family(TaskFamily):
    """Base of all environment families on MuJoCo. Rows are independent: row i of a result depends on row i only."""

    frame_skip: int
    """MuJoCo steps per control step."""
    derived: tuple[str, ...] = ()
    """MjData fields that `observe`, `reward` or `done` read from `State.derived`."""
    stage: mujoco.mjtStage = mujoco.mjtStage.mjSTAGE_NONE
    """Stages computed at the new state after a step. With mjSTAGE_NONE derived fields describe the state before the
    last MuJoCo step, as `mj_step` leaves them; mjSTAGE_VEL makes position and velocity sensors current."""
    kinematic: bool = False
    """True for a family that moves its state in `advance` and uses the MuJoCo model for its picture only."""

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

    def dynamics(self, goal: Float[np.ndarray, "row goal"]) -> Mapping[str, np.ndarray]:
        """What the task changes in the model: MjModel fields by name, each (row, ...) of the field's own shape.

        "body_mass", "dof_damping", "actuator_gainprm", "opt.gravity" and so on; none by default. Start from
        `self.model`'s values. Constants that MuJoCo derives from them follow (`mj_setConst`), in the simulator, the
        Gymnasium environments and the pictures alike; see `metarl.envs.dynamics`. A row's fields depend on its goal
        only. Colours (`geom_rgba`) are for pictures and cost the simulation nothing.
        """
        return {}

    # -- derived from the above -------------------------------------------------------------------------------------

    @functools.cached_property
    def model(self) -> mujoco.MjModel:
        """The compiled model; shared by every user of this family object, so do not modify it."""
        return self.compile(self.model_spec())

    @functools.cached_property
    def spec(self) -> EnvSpec:
        from . import checked_calls as checked  # it imports this module

        qpos, qvel = checked.initial_state(self, np.random.default_rng(0))
        data = mujoco.MjData(self.model)
        derived = {name: np.array(getattr(data, name))[None] * 0.0 for name in self.derived}
        obs = np.asarray(checked.call(self, "observe", State(qpos[None], qvel[None], derived)))
        if obs.ndim != 2:
            raise ValueError(
                f"{self.name}: observe returned shape {obs.shape} for one row; expected (1, observation). Concatenate "
                "along axis=1"
            )
        goal_dim = len(self.tasks.names)
        return EnvSpec(
            obs_dim=obs.shape[1] + (goal_dim if self.oracle else 0),
            act_dim=self.model.nu,
            goal_dim=goal_dim,
            horizon=self.horizon,
            control_dt_s=self.model.opt.timestep * self.frame_skip,
        )

    def simulator(self, n_tasks: int, n_envs: int, n_threads: int = 1) -> Simulator:
        """Tasks x environments of this family on `mujoco.batch`."""
        from .simulator import Simulator  # it imports this module

        return Simulator(self, n_tasks, n_envs, n_threads)

    def observation(self, state: State, goal: Float[np.ndarray, "row goal"]) -> Float[np.ndarray, "row obs"]:
        """What the policy sees: `observe`, and behind it the goal if (and only if) the family is an oracle."""
        obs = self.observe(state)
        return np.concatenate([obs, goal], axis=1) if self.oracle else obs
