"""2D navigation: a point that must find an unseen goal.

Source: Finn, Abbeel, Levine 2017, section 5.3 and cbfinn/maml_rl (`point_env_randgoal.py`); the sparse variant as in
Rakelly et al. 2019 (PEARL). Lengths are in the paper's own unit, shown as metres; both protocols are the same here.
"""

from __future__ import annotations

from typing import ClassVar

import mujoco
import numpy as np

from .family import Family, Marker, State
from .task_family import PROTOCOLS, ProtocolName
from .tasks import TaskDistribution, uniform_arc, uniform_box

STEP_M = 0.1  # velocity limit per control step
ARRIVED_M = 0.01
SPARSE_RADIUS_M = 0.2

# Only for the picture: the point moves kinematically (`Point.advance`). The motors give the action its size.
_XML = """
<mujoco model="point">
  <option timestep="0.05" gravity="0 0 0"/>
  <visual><headlight ambient="0.4 0.4 0.4" diffuse="0.6 0.6 0.6"/></visual>
  <asset>
    <texture name="grid" type="2d" builtin="checker" width="200" height="200"
      rgb1="0.93 0.95 0.98" rgb2="0.84 0.88 0.94"/>
    <material name="grid" texture="grid" texrepeat="15 15"/>
  </asset>
  <worldbody>
    <light pos="0 0 3" dir="0 0 -1" directional="true"/>
    <geom name="floor" type="plane" size="1.5 1.5 0.1" material="grid" contype="0" conaffinity="0"/>
    <body name="point">
      <joint name="x" type="slide" axis="1 0 0"/>
      <joint name="y" type="slide" axis="0 1 0"/>
      <geom name="point" type="sphere" size="0.035" pos="0 0 0.035" rgba="0.15 0.35 0.85 1"
        contype="0" conaffinity="0"/>
    </body>
  </worldbody>
  <actuator><motor joint="x"/><motor joint="y"/></actuator>
</mujoco>
"""


class PointNav(Family):
    """reward = -|position - g|, g ~ U[-0.5, 0.5]^2, ends within 0.01 of the goal on both axes; H = 100.

    Observation: the position (2). Action: velocity in units of 0.1 per step, clipped to +-1.
    Differs: the paper's text says negative squared distance; its code and its printed results use the distance.
    """

    name: ClassVar[str] = "point-nav"
    title: ClassVar[str] = "a point finds a goal in the plane"
    protocols: ClassVar[tuple[ProtocolName, ...]] = PROTOCOLS
    tasks: TaskDistribution = uniform_box([("goal x (m)", -0.5, 0.5), ("goal y (m)", -0.5, 0.5)])
    kinematic = True

    def __init__(self, protocol: ProtocolName = "modern", oracle: bool = False) -> None:
        super().__init__(protocol, oracle)
        self.horizon = 100
        self.frame_skip = 1

    def model_spec(self) -> mujoco.MjSpec:
        return mujoco.MjSpec.from_string(_XML)

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(2), np.zeros(2)

    def advance(self, qpos: np.ndarray, qvel: np.ndarray, action: np.ndarray) -> None:
        qvel[:] = STEP_M * action
        qpos += qvel

    def observe(self, state: State) -> np.ndarray:
        return state.qpos.copy()

    def reward(self, qpos_before: np.ndarray, state: State, action: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return -np.linalg.norm(state.qpos - goal, axis=1)

    def done(self, state: State, goal: np.ndarray) -> np.ndarray:
        return np.all(np.abs(state.qpos - goal) < ARRIVED_M, axis=1)

    def info(self, qpos_before: np.ndarray, state: State) -> dict[str, np.ndarray]:
        return {"x_position": state.qpos[:, 0].copy(), "y_position": state.qpos[:, 1].copy()}

    def marker(self, goal: np.ndarray) -> Marker:
        return Marker("place", (float(goal[0]), float(goal[1]), 0.0))

    def describe(self, goal: np.ndarray) -> str:
        return f"go to ({goal[0]:.2f}, {goal[1]:.2f})"


class PointNavSparse(PointNav):
    """reward = 1 - distance inside radius 0.2 of the goal, else 0; goals on the half circle of radius 1; never ends."""

    name: ClassVar[str] = "point-nav-sparse"
    title: ClassVar[str] = "the same with a reward only near the goal"
    tasks: TaskDistribution = uniform_arc(("goal x (m)", "goal y (m)"), 1.0, np.pi)

    def reward(self, qpos_before: np.ndarray, state: State, action: np.ndarray, goal: np.ndarray) -> np.ndarray:
        distance = np.linalg.norm(state.qpos - goal, axis=1)
        return np.where(distance <= SPARSE_RADIUS_M, 1.0 - distance, 0.0)

    def done(self, state: State, goal: np.ndarray) -> np.ndarray:
        return np.zeros(len(goal), dtype=bool)
