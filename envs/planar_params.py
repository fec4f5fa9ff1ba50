"""Walker2d, Hopper and HalfCheetah with randomised parameters: run forward in a body that is not the one you know.

Source: dennisl88/rand_param_envs (`walker_rand_params.py`, `hopper_rand_params.py`), used by Rakelly et al. 2019
(PEARL) and Rothfuss et al. 2019 (ProMP); half-cheetah-params is the same randomisation of HalfCheetah. Physics, reset
noise and observation are those of Gymnasium's Walker2d-v5, Hopper-v5 and HalfCheetah-v5, bit for bit for the task
"nominal"; see `random_params` for what a task changes.
Differs: the source has the models of an older Gym, stepped 5 times per control step (Walker2d and Hopper: 4 here).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import mujoco
import numpy as np

from .family import Family, State
from .gymnasium_assets import load_model_spec
from .half_cheetah import HalfCheetah
from .random_params import RandomParams
from .task_family import ProtocolName

RESET_NOISE = 0.005
VELOCITY_LIMIT = 10.0  # of what the policy sees, in m/s and rad/s
CONTROL_COST = 0.001
SURVIVE_REWARD = 1.0
CHEETAH_CONTROL_COST = 0.1


class PlanarParams(Family):
    """reward = v + 1 - 0.001 |a|^2; ends when the torso is too low or leans too far.

    Observation: qpos without the root's x, then qvel clipped to +-10.
    """

    model_file: ClassVar[str]
    start_z_m: ClassVar[float] = 1.25
    healthy_z_m: ClassVar[tuple[float, float]]
    healthy_angle_rad: ClassVar[tuple[float, float]]

    def __init__(self, protocol: ProtocolName = "modern", oracle: bool = False) -> None:
        super().__init__(protocol, oracle)
        self.horizon = 200
        self.frame_skip = 4
        self.params = RandomParams.of(self.model)
        self.tasks = self.params.tasks()

    def model_spec(self) -> mujoco.MjSpec:
        return load_model_spec(self.model_file)

    def dynamics(self, goal: np.ndarray) -> Mapping[str, np.ndarray]:
        return self.params.fields(self.model, goal)

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        qpos = self.model.qpos0 + rng.uniform(low=-RESET_NOISE, high=RESET_NOISE, size=self.model.nq)
        return qpos, rng.uniform(low=-RESET_NOISE, high=RESET_NOISE, size=self.model.nv)

    def observe(self, state: State) -> np.ndarray:
        return np.concatenate([state.qpos[:, 1:], np.clip(state.qvel, -VELOCITY_LIMIT, VELOCITY_LIMIT)], axis=1)

    def reward(self, qpos_before: np.ndarray, state: State, action: np.ndarray, goal: np.ndarray) -> np.ndarray:
        velocity = self.info(qpos_before, state)["x_velocity"]
        return velocity + SURVIVE_REWARD - CONTROL_COST * np.sum(action**2, axis=1)

    def done(self, state: State, goal: np.ndarray) -> np.ndarray:
        z, angle = state.qpos[:, 1], state.qpos[:, 2]
        (low, high), (left, right) = self.healthy_z_m, self.healthy_angle_rad
        return ~((low < z) & (z < high) & (left < angle) & (angle < right))

    def info(self, qpos_before: np.ndarray, state: State) -> dict[str, np.ndarray]:
        velocity = (state.qpos[:, 0] - qpos_before[:, 0]) / (self.model.opt.timestep * self.frame_skip)
        return {"x_position": state.qpos[:, 0].copy(), "x_velocity": velocity}

    def describe(self, goal: np.ndarray) -> str:
        return self.params.describe(goal)


class WalkerParams(PlanarParams):
    """Walker2d-v5's robot with 28 randomised parameters; the torso stays within 0.8 to 2 m and 1 rad."""

    name: ClassVar[str] = "walker-params"
    title: ClassVar[str] = "Walker2d runs with unknown masses, damping, friction"
    model_file: ClassVar[str] = "walker2d_v5.xml"
    healthy_z_m: ClassVar[tuple[float, float]] = (0.8, 2.0)
    healthy_angle_rad: ClassVar[tuple[float, float]] = (-1.0, 1.0)


class HopperParams(PlanarParams):
    """Hopper-v5's robot with 16 randomised parameters; the torso stays above 0.7 m and within 0.2 rad."""

    name: ClassVar[str] = "hopper-params"
    title: ClassVar[str] = "Hopper runs with unknown masses, damping, friction"
    model_file: ClassVar[str] = "hopper.xml"
    healthy_z_m: ClassVar[tuple[float, float]] = (0.7, np.inf)
    healthy_angle_rad: ClassVar[tuple[float, float]] = (-0.2, 0.2)

    def done(self, state: State, goal: np.ndarray) -> np.ndarray:
        # Hopper-v5 also ends where any other coordinate or velocity leaves +-100.
        wild = (np.abs(state.qpos[:, 2:]) >= 100).any(axis=1) | (np.abs(state.qvel) >= 100).any(axis=1)
        return super().done(state, goal) | wild


class HalfCheetahParams(HalfCheetah):
    """reward = v - 0.1 |a|^2, HalfCheetah-v5's, with the robot's 29 parameters randomised; never ends."""

    name: ClassVar[str] = "half-cheetah-params"
    title: ClassVar[str] = "HalfCheetah runs with unknown masses, damping, friction"
    protocols: ClassVar[tuple[ProtocolName, ...]] = ("modern",)

    def __init__(self, protocol: ProtocolName = "modern", oracle: bool = False) -> None:
        super().__init__(protocol, oracle)
        self.params = RandomParams.of(self.model)
        self.tasks = self.params.tasks()

    def dynamics(self, goal: np.ndarray) -> Mapping[str, np.ndarray]:
        return self.params.fields(self.model, goal)

    def reward(self, qpos_before: np.ndarray, state: State, action: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return self.forward_velocity(qpos_before, state) - CHEETAH_CONTROL_COST * np.sum(action**2, axis=1)

    def describe(self, goal: np.ndarray) -> str:
        return self.params.describe(goal)
