"""Ant that must walk forward with one leg that does not obey.

Source: Nagabandi et al. 2019, "Learning to Adapt in Dynamic, Real-World Environments through Meta-Reinforcement
Learning" (https://arxiv.org/abs/1803.11347) and iclavera/learning_to_adapt (`ant_env.py`): three of the legs are
disabled in training, the fourth at test time.
Differs: Gymnasium's Ant-v5 model and observation (27), velocity of the torso over the control step; the disabled leg
keeps its size (the source also halves it), so that the task is the dead motors alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import mujoco
import numpy as np

from .ant import SURVIVE_REWARD, Ant
from .family import State
from .task_family import ProtocolName
from .tasks import ChoiceTasks, TaskDistribution

LEGS = ("front-left", "front-right", "back-left", "back-right")
"""Legs 1 to 4 of Gymnasium's model, seen along +y; the last one is held out."""
DISABLED_RGB = (0.85, 0.16, 0.12)


class AntCrippled(Ant):
    """reward = v_x + 0.05; never ends. The goal is the number of the leg without motors, 0 to 3."""

    name: ClassVar[str] = "ant-crippled"
    title: ClassVar[str] = "Ant walks forward with one leg disabled"
    protocols: ClassVar[tuple[ProtocolName, ...]] = ("modern",)
    tasks: TaskDistribution = ChoiceTasks(
        names=("disabled leg (0 to 3)",),
        choices=tuple((leg, (float(i),)) for i, leg in enumerate(LEGS)),
        held_out=(LEGS[3],),
    )
    terminates: bool = False
    contact_cost: bool = False

    def dynamics(self, goal: np.ndarray) -> Mapping[str, np.ndarray]:
        gain = np.repeat(self.model.actuator_gainprm[None], len(goal), axis=0)
        colour = np.repeat(self.model.geom_rgba[None], len(goal), axis=0)
        for row, leg in enumerate(goal[:, 0].astype(int).tolist()):
            gain[row, self._motors(leg)] = 0.0
            colour[row, self._geoms(leg), :3] = DISABLED_RGB
        return {"actuator_gainprm": gain, "geom_rgba": colour}

    def _motors(self, leg: int) -> list[int]:
        return [self._joint_motor(f"{joint}_{leg + 1}") for joint in ("hip", "ankle")]

    def _joint_motor(self, joint: str) -> int:
        joint_id = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_JOINT, joint)
        return int(np.flatnonzero(self.model.actuator_trnid[:, 0] == joint_id)[0])

    def _geoms(self, leg: int) -> np.ndarray:
        """The geoms of the bodies that the leg's two joints move."""
        joints = [self.model.joint(f"{joint}_{leg + 1}").id for joint in ("hip", "ankle")]
        return np.flatnonzero(np.isin(self.model.geom_bodyid, self.model.jnt_bodyid[joints]))

    def reward(self, qpos_before: np.ndarray, state: State, action: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return self.planar_velocity(qpos_before, state)[:, 0] + SURVIVE_REWARD

    def describe(self, goal: np.ndarray) -> str:
        return f"walk forward without the {LEGS[int(goal[0])]} leg"
