"""HalfCheetah that must run at a commanded velocity or in a commanded direction.

Source: Finn, Abbeel, Levine 2017, section 5.3 and cbfinn/maml_rl (`half_cheetah_env_rand.py`, `_direc.py`).
modern: Gymnasium's HalfCheetah-v5 (frame_skip 5, velocity of the root joint over the control step).
finn2017: the paper's environment (one MuJoCo step per control step, velocity of the centre of mass after it).
"""

from __future__ import annotations

from typing import ClassVar

import mujoco
import numpy as np

from .family import Family, Marker, State
from .gymnasium_assets import add_centre_of_mass_velocity, load_model_spec
from .task_family import PROTOCOLS, ProtocolName
from .tasks import TaskDistribution, forward_backward, uniform_box

CONTROL_COST = 0.05
TOTAL_MASS_KG = 14.0


class HalfCheetah(Family):
    """Physics, reset and observation that both goal kinds share.

    Observation: modern 17 = qpos without the root's x, then qvel; finn2017 20 = the same and the centre of mass (m).
    """

    protocols: ClassVar[tuple[ProtocolName, ...]] = PROTOCOLS

    def __init__(self, protocol: ProtocolName = "modern", oracle: bool = False) -> None:
        super().__init__(protocol, oracle)
        self.horizon = 200
        self.frame_skip = 5
        if protocol == "finn2017":
            self.frame_skip = 1
            self.derived = ("subtree_com", "sensordata")
            self.stage = mujoco.mjtStage.mjSTAGE_VEL

    def model_spec(self) -> mujoco.MjSpec:
        spec = load_model_spec("half_cheetah.xml")
        # Gymnasium's file asks the compiler for the total mass, which MuJoCo 4 deprecates: each compile warns and
        # appends to MUJOCO_LOG.TXT in the user's folder. `compile` sets the mass afterwards, to the same bits.
        spec.compiler.settotalmass = -1
        if self.protocol == "finn2017":
            add_centre_of_mass_velocity(spec, "torso")
        return spec

    def compile(self, spec: mujoco.MjSpec) -> mujoco.MjModel:
        model = spec.compile()
        mujoco.mj_setTotalmass(model, TOTAL_MASS_KG)
        mujoco.mj_setConst(model, mujoco.MjData(model))
        return model

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        nq = nv = 9  # the model starts at zero
        if self.protocol == "finn2017":
            return 0.01 * rng.standard_normal(nq), 0.1 * rng.standard_normal(nv)
        return rng.uniform(low=-0.1, high=0.1, size=nq), 0.1 * rng.standard_normal(nv)

    def observe(self, state: State) -> np.ndarray:
        parts = [state.qpos[:, 1:], state.qvel]
        if self.protocol == "finn2017":
            parts.append(state.derived["subtree_com"][:, 1])  # body 1 is the torso, the root of the whole tree
        return np.concatenate(parts, axis=1)

    def info(self, qpos_before: np.ndarray, state: State) -> dict[str, np.ndarray]:
        return {"x_position": state.qpos[:, 0].copy(), "x_velocity": self.forward_velocity(qpos_before, state)}

    def forward_velocity(self, qpos_before: np.ndarray, state: State) -> np.ndarray:
        """Velocity (row,) along x in m/s, as the protocol defines it."""
        if self.protocol == "finn2017":
            return state.derived["sensordata"][:, 0].copy()
        return (state.qpos[:, 0] - qpos_before[:, 0]) / (self.model.opt.timestep * self.frame_skip)


class HalfCheetahDir(HalfCheetah):
    """reward = d v - 0.05 |a|^2, d = +1 (forward) or -1 (backward)."""

    name: ClassVar[str] = "half-cheetah-dir"
    title: ClassVar[str] = "HalfCheetah runs forward or backward"
    tasks: TaskDistribution = forward_backward("direction (+1 forward, -1 backward)")

    def reward(self, qpos_before: np.ndarray, state: State, action: np.ndarray, goal: np.ndarray) -> np.ndarray:
        velocity = self.forward_velocity(qpos_before, state)
        return goal[:, 0] * velocity - CONTROL_COST * np.sum(action**2, axis=1)

    def marker(self, goal: np.ndarray) -> Marker:
        return Marker("heading", (float(goal[0]), 0.0, 0.0))

    def describe(self, goal: np.ndarray) -> str:
        return "run forward" if goal[0] > 0 else "run backward"


class HalfCheetahVel(HalfCheetah):
    """reward = -|v - g| - 0.05 |a|^2, g ~ U[0, 2] m/s."""

    name: ClassVar[str] = "half-cheetah-vel"
    title: ClassVar[str] = "HalfCheetah runs at a commanded velocity"
    tasks: TaskDistribution = uniform_box([("velocity (m/s)", 0.0, 2.0)])

    def reward(self, qpos_before: np.ndarray, state: State, action: np.ndarray, goal: np.ndarray) -> np.ndarray:
        velocity = self.forward_velocity(qpos_before, state)
        return -np.abs(velocity - goal[:, 0]) - CONTROL_COST * np.sum(action**2, axis=1)

    def describe(self, goal: np.ndarray) -> str:
        return f"run at {goal[0]:.2f} m/s"
