"""Randomised dynamics as the task: the HalfCheetah on other planets.

    metarl check examples/other_gravity.py:OtherGravity
    metarl train examples/other_gravity.py:OtherGravity --iterations 20
    python examples/other_gravity.py

`dynamics` returns MjModel fields, one row per simulation. The batched simulator, the Gymnasium environment and the
videos all take them from here, with the constants that MuJoCo derives from them.
"""

from collections.abc import Mapping

import numpy as np

from metarl.envs import State, Tasks, make_family, register, uniform_box
from metarl.envs.half_cheetah import HalfCheetah


@register
class OtherGravity(HalfCheetah):
    """reward = v - 0.05 |a|^2 under a gravity that the policy is not told; goal: gravity and motor strength."""

    name = "half-cheetah-gravity"
    title = "HalfCheetah runs in unknown gravity with motors of unknown strength"
    protocols = ("modern",)
    tasks = uniform_box([("gravity (m/s^2)", 3.0, 15.0), ("motor strength (1: as built)", 0.5, 1.5)])

    def dynamics(self, goal: np.ndarray) -> Mapping[str, np.ndarray]:
        gravity = np.zeros((len(goal), 3))
        gravity[:, 2] = -goal[:, 0]
        gain = np.repeat(self.model.actuator_gainprm[None], len(goal), axis=0)
        gain[:, :, 0] *= goal[:, 1:]
        return {"opt.gravity": gravity, "actuator_gainprm": gain}

    def reward(self, qpos_before: np.ndarray, state: State, action: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return self.forward_velocity(qpos_before, state) - 0.05 * np.sum(action**2, axis=1)


if __name__ == "__main__":
    family = make_family("half-cheetah-gravity")
    simulator = family.simulator(n_tasks=2, n_envs=1)
    simulator.reset(Tasks(np.array([[3.0, 1.0], [15.0, 1.0]])), [np.random.default_rng(0) for _ in range(2)])
    for _ in range(10):
        simulator.step(np.zeros((2, 1, 6)))
    print(f"height of the torso over its start after 0.5 s (m): {simulator.state.qpos[:, 1].round(3).tolist()}")
