"""A pole on a cart, of unknown mass, to be held upright at an unknown place."""

from collections.abc import Mapping

import mujoco
import numpy as np

from metarl.envs import Family, Marker, State, uniform_box

XML = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <geom name="rail" type="capsule" fromto="-2 0 0.5 2 0 0.5" size="0.02" contype="0" conaffinity="0"/>
    <body name="cart" pos="0 0 0.5">
      <joint name="slider" type="slide" axis="1 0 0" range="-2 2" limited="true" damping="0.5"/>
      <geom type="box" size="0.12 0.08 0.06" mass="1" contype="0" conaffinity="0"/>
      <body name="pole">
        <joint name="hinge" type="hinge" axis="0 1 0"/>
        <geom type="capsule" fromto="0 0 0 0 0 0.6" size="0.035" mass="0.2" contype="0" conaffinity="0"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="slider" gear="10" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


class Balance(Family):
    """reward = 1 - |x - place|; ends when the pole leans more than 0.6 rad. Not registered: the entry point does it."""

    name = "balance"
    title = "a pole of unknown mass is balanced at an unknown place"
    tasks = uniform_box([("place x (m)", -1.0, 1.0), ("mass of the pole (kg)", 0.1, 1.0)])
    frame_skip = 2
    horizon = 200

    def model_spec(self) -> mujoco.MjSpec:
        return mujoco.MjSpec.from_string(XML)

    def dynamics(self, goal: np.ndarray) -> Mapping[str, np.ndarray]:
        pole = self.model.body("pole").id
        mass = np.repeat(self.model.body_mass[None], len(goal), axis=0)
        inertia = np.repeat(self.model.body_inertia[None], len(goal), axis=0)
        inertia[:, pole] *= (goal[:, 1] / mass[:, pole])[:, None]
        mass[:, pole] = goal[:, 1]
        return {"body_mass": mass, "body_inertia": inertia}

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return rng.uniform(-0.05, 0.05, 2), rng.uniform(-0.05, 0.05, 2)

    def observe(self, state: State) -> np.ndarray:
        return np.concatenate([state.qpos, state.qvel], axis=1)

    def reward(self, qpos_before: np.ndarray, state: State, action: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return 1.0 - np.abs(state.qpos[:, 0] - goal[:, 0])

    def done(self, state: State, goal: np.ndarray) -> np.ndarray:
        return np.abs(state.qpos[:, 1]) > 0.6

    def marker(self, goal: np.ndarray) -> Marker:
        return Marker("place", (float(goal[0]), 0.3, 0.0))
