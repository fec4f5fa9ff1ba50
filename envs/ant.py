"""Ant that must walk in a direction, at a velocity or to a place.

Source: Finn, Abbeel, Levine 2017, section 5.3 and cbfinn/maml_rl (`ant_env_rand.py`, `_direc.py`, `_goal.py`); the
heading and disc-goal variants as in Rothfuss et al. 2019 (ProMP) and Rakelly et al. 2019 (PEARL).
modern: Gymnasium's Ant-v5 model (frame_skip 5, velocity of the torso over the control step), 27 observations.
finn2017: the paper's environment: time step 0.02 s, one step per control step, velocity of the centre of mass.
Differs: contact forces are those at the start of the last MuJoCo step, where the sources take them after it; the
contact cost is about 1 % of the reward. In the modern protocol the velocity is that of the current position, where
Gymnasium's `info["x_velocity"]` is one MuJoCo step late.
"""

from __future__ import annotations

from typing import ClassVar

import mujoco
import numpy as np

from .family import Family, Marker, State
from .gymnasium_assets import add_centre_of_mass_velocity, load_model_spec
from .task_family import PROTOCOLS, ProtocolName
from .tasks import TaskDistribution, forward_backward, uniform_arc, uniform_box, uniform_disc

CONTROL_COST = 0.005
CONTACT_COST = 0.0005
SURVIVE_REWARD = 0.05
HEALTHY_Z_M = (0.2, 1.0)
# The paper's model starts here (m, quaternion, rad); Gymnasium's starts at z = 0.75 with straight legs.
FINN_INIT_QPOS = np.array([0, 0, 0.55, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1], dtype=np.float64)
GYM_INIT_QPOS = np.array([0, 0, 0.75, 1] + [0] * 11, dtype=np.float64)


class Ant(Family):
    """Physics, reset and observation that all goal kinds share.

    Observation: modern 27 = qpos without x and y, then qvel; finn2017 125 = qpos 15, qvel 14, contact forces clipped
    to +-1 84, torso rotation matrix 9, centre of mass 3.
    """

    protocols: ClassVar[tuple[ProtocolName, ...]] = PROTOCOLS
    terminates: bool = True
    """Whether an episode ends when the torso leaves HEALTHY_Z_M."""
    contact_cost: bool = True
    """Whether the reward pays for contact forces."""

    def __init__(self, protocol: ProtocolName = "modern", oracle: bool = False) -> None:
        super().__init__(protocol, oracle)
        self.horizon = 200
        self.frame_skip = 1 if protocol == "finn2017" else 5
        if protocol == "finn2017":
            self.derived = ("cfrc_ext", "sensordata", "xmat", "subtree_com")
            self.stage = mujoco.mjtStage.mjSTAGE_VEL
        elif self.contact_cost:
            self.derived = ("cfrc_ext",)

    def model_spec(self) -> mujoco.MjSpec:
        spec = load_model_spec("ant.xml")
        if self.protocol == "finn2017":
            spec.option.timestep = 0.02
            for geom in spec.geoms:
                geom.solimp[:3] = (0.8, 0.8, 0.01)
            add_centre_of_mass_velocity(spec, "torso")
        if "cfrc_ext" in self.derived:
            # MuJoCo computes contact forces (mj_rnePostConstraint) only for a sensor that needs them.
            spec.add_sensor(
                name="torso_acceleration",
                type=mujoco.mjtSensor.mjSENS_FRAMELINACC,
                objtype=mujoco.mjtObj.mjOBJ_BODY,
                objname="torso",
            )
        return spec

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        nq, nv = 15, 14
        if self.protocol == "finn2017":
            return FINN_INIT_QPOS + 0.01 * rng.standard_normal(nq), 0.1 * rng.standard_normal(nv)
        return GYM_INIT_QPOS + rng.uniform(low=-0.1, high=0.1, size=nq), 0.1 * rng.standard_normal(nv)

    def observe(self, state: State) -> np.ndarray:
        if self.protocol == "modern":
            return np.concatenate([state.qpos[:, 2:], state.qvel], axis=1)
        contact = np.clip(state.derived["cfrc_ext"], -1.0, 1.0).reshape(len(state.qpos), -1)
        rotation = state.derived["xmat"][:, 1].reshape(len(state.qpos), 9)
        centre_of_mass = state.derived["subtree_com"][:, 1]
        return np.concatenate([state.qpos, state.qvel, contact, rotation, centre_of_mass], axis=1)

    def done(self, state: State, goal: np.ndarray) -> np.ndarray:
        if not self.terminates:
            return np.zeros(len(goal), dtype=bool)
        z = state.qpos[:, 2]
        return (z < HEALTHY_Z_M[0]) | (z > HEALTHY_Z_M[1])

    def info(self, qpos_before: np.ndarray, state: State) -> dict[str, np.ndarray]:
        velocity = self.planar_velocity(qpos_before, state)
        return {
            "x_position": state.qpos[:, 0].copy(),
            "y_position": state.qpos[:, 1].copy(),
            "x_velocity": velocity[:, 0],
            "y_velocity": velocity[:, 1],
        }

    def planar_velocity(self, qpos_before: np.ndarray, state: State) -> np.ndarray:
        """Velocity (row, 2) along x and y in m/s, as the protocol defines it."""
        if self.protocol == "finn2017":
            return state.derived["sensordata"][:, :2].copy()
        return (state.qpos[:, :2] - qpos_before[:, :2]) / (self.model.opt.timestep * self.frame_skip)

    def costs(self, state: State, action: np.ndarray) -> np.ndarray:
        """Control and contact cost less the survival reward, (row,)."""
        contact = np.clip(state.derived["cfrc_ext"], -1.0, 1.0)
        return (
            CONTROL_COST * np.sum(action**2, axis=1) + CONTACT_COST * np.sum(contact**2, axis=(1, 2)) - SURVIVE_REWARD
        )


class AntDir(Ant):
    """reward = d v_x - costs, d = +1 (forward) or -1 (backward)."""

    name: ClassVar[str] = "ant-dir"
    title: ClassVar[str] = "Ant walks forward or backward"
    tasks: TaskDistribution = forward_backward("direction (+1 forward, -1 backward)")

    def reward(self, qpos_before: np.ndarray, state: State, action: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return goal[:, 0] * self.planar_velocity(qpos_before, state)[:, 0] - self.costs(state, action)

    def marker(self, goal: np.ndarray) -> Marker:
        return Marker("heading", (float(goal[0]), 0.0, 0.0))

    def describe(self, goal: np.ndarray) -> str:
        return "walk forward" if goal[0] > 0 else "walk backward"


class AntDir2D(Ant):
    """reward = u . v_xy - costs, u a unit vector of uniform heading."""

    name: ClassVar[str] = "ant-dir-2d"
    title: ClassVar[str] = "Ant walks along a heading in the plane"
    tasks: TaskDistribution = uniform_arc(("heading x", "heading y"), 1.0, 2 * np.pi)

    def reward(self, qpos_before: np.ndarray, state: State, action: np.ndarray, goal: np.ndarray) -> np.ndarray:
        along = np.sum(goal * self.planar_velocity(qpos_before, state), axis=1)
        return along - self.costs(state, action)

    def marker(self, goal: np.ndarray) -> Marker:
        return Marker("heading", (float(goal[0]), float(goal[1]), 0.0))

    def describe(self, goal: np.ndarray) -> str:
        return f"walk at heading {np.degrees(np.arctan2(goal[1], goal[0])):.0f} deg"


class AntVel(Ant):
    """reward = -|v_x - g| + 1 - costs, g ~ U[0, 3] m/s."""

    name: ClassVar[str] = "ant-vel"
    title: ClassVar[str] = "Ant walks at a commanded velocity"
    tasks: TaskDistribution = uniform_box([("velocity (m/s)", 0.0, 3.0)])

    def reward(self, qpos_before: np.ndarray, state: State, action: np.ndarray, goal: np.ndarray) -> np.ndarray:
        velocity = self.planar_velocity(qpos_before, state)[:, 0]
        return 1.0 - np.abs(velocity - goal[:, 0]) - self.costs(state, action)

    def describe(self, goal: np.ndarray) -> str:
        return f"walk at {goal[0]:.2f} m/s"


class AntGoal(Ant):
    """Closeness to a place in the plane, by the sum of the distances along x and y.

    modern: reward = -|xy - g|_1 - 0.1 |a|^2, xy the torso's position, g uniform in the disc of radius 3 m; never
    terminates; observation 29, with x and y (Rakelly et al. 2019).
    finn2017: reward = 4 - |xy - g|_1 - costs, xy the centre of mass, g ~ U[-3, 3]^2; terminates like the other ants
    (cbfinn/maml_rl, `ant_env_rand_goal.py`).
    """

    name: ClassVar[str] = "ant-goal"
    title: ClassVar[str] = "Ant walks to a place"
    tasks: TaskDistribution

    def __init__(self, protocol: ProtocolName = "modern", oracle: bool = False) -> None:
        self.terminates = self.contact_cost = protocol == "finn2017"
        super().__init__(protocol, oracle)
        names = ("goal x (m)", "goal y (m)")
        if protocol == "finn2017":
            self.tasks = uniform_box([(names[0], -3.0, 3.0), (names[1], -3.0, 3.0)])
        else:
            self.tasks = uniform_disc(names, 3.0)

    def observe(self, state: State) -> np.ndarray:
        if self.protocol == "modern":
            return np.concatenate([state.qpos, state.qvel], axis=1)
        return super().observe(state)

    def reward(self, qpos_before: np.ndarray, state: State, action: np.ndarray, goal: np.ndarray) -> np.ndarray:
        if self.protocol == "finn2017":
            position = state.derived["subtree_com"][:, 1, :2]
            return 4.0 - np.sum(np.abs(position - goal), axis=1) - self.costs(state, action)
        distance = np.sum(np.abs(state.qpos[:, :2] - goal), axis=1)
        return -distance - 0.1 * np.sum(action**2, axis=1)

    def marker(self, goal: np.ndarray) -> Marker:
        return Marker("place", (float(goal[0]), float(goal[1]), 0.0))

    def describe(self, goal: np.ndarray) -> str:
        return f"walk to ({goal[0]:.2f}, {goal[1]:.2f}) m"
