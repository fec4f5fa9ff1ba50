"""A family of your own on MuJoCo: a pendulum that must swing to an angle it is not told.

    metarl check examples/swing_up.py:SwingUp
    metarl train examples/swing_up.py:SwingUp --iterations 20
    python examples/swing_up.py

The same functions over a batch of rows serve training, `gymnasium.make("metarl/SwingUp-v0")` and the videos.
"""

import gymnasium
import mujoco
import numpy as np

from metarl.envs import Family, State, register, uniform_box

XML = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <body pos="0 0 1.2">
      <joint name="hinge" type="hinge" axis="0 1 0" damping="0.05"/>
      <geom type="capsule" fromto="0 0 0 0 0 -0.6" size="0.04" mass="0.5"/>
      <geom type="sphere" pos="0 0 -0.6" size="0.1" mass="0.5"/>
    </body>
  </worldbody>
  <actuator><motor joint="hinge" gear="6" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


@register
class SwingUp(Family):
    """reward = cos(angle - goal) - 0.01 a^2; observation: cos, sin (0 hangs down) and rate of the angle (rad/s)."""

    name = "swing-up"
    title = "a pendulum swings to an unknown angle"
    tasks = uniform_box([("angle (rad)", -3.0, 3.0)])
    frame_skip = 4
    horizon = 100

    def model_spec(self) -> mujoco.MjSpec:
        return mujoco.MjSpec.from_string(XML)

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return rng.uniform(-0.1, 0.1, 1), rng.uniform(-0.1, 0.1, 1)

    def observe(self, state: State) -> np.ndarray:
        return np.concatenate([np.cos(state.qpos), np.sin(state.qpos), state.qvel], axis=1)

    def reward(self, qpos_before: np.ndarray, state: State, action: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return np.cos(state.qpos[:, 0] - goal[:, 0]) - 0.01 * action[:, 0] ** 2


if __name__ == "__main__":
    env = gymnasium.make("metarl/SwingUp-v0", task=1.5)
    env.reset(seed=0)
    rewards = [float(env.step(np.array([0.8], dtype=np.float32))[1]) for _ in range(100)]
    print(f"return under constant torque, goal 1.5 rad: {sum(rewards):.1f}")
