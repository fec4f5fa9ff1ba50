"""Humanoid that must walk along a heading in the plane.

Source: Rakelly et al. 2019 (PEARL) and katerakelly/oyster (`humanoid_dir.py`): reward, termination and the uniform
heading. Physics and reset noise are Gymnasium's Humanoid-v5, bit for bit.
Differs: the observation is that of Humanoid-v5 without the parts that follow from position and velocity or are one
MuJoCo step old (45 = qpos[2:], qvel; PEARL 376); the velocity is that of the centre of mass after the step, where the
source takes its mean over the step, one MuJoCo step late; contact forces are those before its
last MuJoCo step.
"""

from __future__ import annotations

from typing import ClassVar

import mujoco
import numpy as np

from .family import Family, Marker, State
from .gymnasium_assets import add_centre_of_mass_velocity, load_model_spec
from .task_family import ProtocolName
from .tasks import TaskDistribution, uniform_arc

VELOCITY_WEIGHT = 1.25
CONTROL_COST = 0.1
CONTACT_COST = 5e-7
CONTACT_COST_LIMIT = 10.0
SURVIVE_REWARD = 5.0
HEALTHY_Z_M = (1.0, 2.0)
RESET_NOISE = 0.01


class HumanoidDir(Family):
    """reward = 1.25 u . v_xy - 0.1 |control|^2 - min(5e-7 |contact forces|^2, 10) + 5, u a unit vector.

    Controls are 0.4 times the action, Humanoid-v5's range. Ends when the torso leaves 1 to 2 m.
    """

    name: ClassVar[str] = "humanoid-dir"
    title: ClassVar[str] = "Humanoid walks along a heading in the plane"
    tasks: TaskDistribution = uniform_arc(("heading x", "heading y"), 1.0, 2 * np.pi)
    derived = ("cfrc_ext", "sensordata")
    stage = mujoco.mjtStage.mjSTAGE_VEL

    def __init__(self, protocol: ProtocolName = "modern", oracle: bool = False) -> None:
        super().__init__(protocol, oracle)
        self.horizon = 200
        self.frame_skip = 5

    def model_spec(self) -> mujoco.MjSpec:
        spec = load_model_spec("humanoid.xml")
        add_centre_of_mass_velocity(spec, "torso")
        # MuJoCo computes contact forces (mj_rnePostConstraint) only for a sensor that needs them.
        spec.add_sensor(
            name="torso_acceleration",
            type=mujoco.mjtSensor.mjSENS_FRAMELINACC,
            objtype=mujoco.mjtObj.mjOBJ_BODY,
            objname="torso",
        )
        return spec

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        qpos = self.model.qpos0 + rng.uniform(low=-RESET_NOISE, high=RESET_NOISE, size=self.model.nq)
        return qpos, rng.uniform(low=-RESET_NOISE, high=RESET_NOISE, size=self.model.nv)

    def controls(self, action: np.ndarray) -> np.ndarray:
        return self.model.actuator_ctrlrange[:, 1] * action

    def observe(self, state: State) -> np.ndarray:
        return np.concatenate([state.qpos[:, 2:], state.qvel], axis=1)

    def reward(self, qpos_before: np.ndarray, state: State, action: np.ndarray, goal: np.ndarray) -> np.ndarray:
        along = np.sum(goal * state.derived["sensordata"][:, :2], axis=1)
        control = CONTROL_COST * np.sum(self.controls(action) ** 2, axis=1)
        contact = CONTACT_COST * np.sum(state.derived["cfrc_ext"] ** 2, axis=(1, 2))
        return VELOCITY_WEIGHT * along - control - np.minimum(contact, CONTACT_COST_LIMIT) + SURVIVE_REWARD

    def done(self, state: State, goal: np.ndarray) -> np.ndarray:
        z = state.qpos[:, 2]
        return (z < HEALTHY_Z_M[0]) | (z > HEALTHY_Z_M[1])

    def info(self, qpos_before: np.ndarray, state: State) -> dict[str, np.ndarray]:
        velocity = state.derived["sensordata"]
        return {
            "x_position": state.qpos[:, 0].copy(),
            "y_position": state.qpos[:, 1].copy(),
            "x_velocity": velocity[:, 0].copy(),
            "y_velocity": velocity[:, 1].copy(),
        }

    def marker(self, goal: np.ndarray) -> Marker:
        return Marker("heading", (float(goal[0]), float(goal[1]), 0.0))

    def describe(self, goal: np.ndarray) -> str:
        return f"walk at heading {np.degrees(np.arctan2(goal[1], goal[0])):.0f} deg"
