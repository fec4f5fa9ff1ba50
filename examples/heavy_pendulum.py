"""Existing Gymnasium environments as a family of tasks, stepped in worker processes.

    metarl check examples/heavy_pendulum.py:HeavyPendulum
    metarl train examples/heavy_pendulum.py:HeavyPendulum --iterations 20
    python examples/heavy_pendulum.py

`metarl record` films them with Gymnasium's own pictures: pip install 'gymnasium[classic-control]'.
`HeavyPendulum` changes the task of an environment that exists, `PendulumGravity` makes one for each task.
"""

import gymnasium
import numpy as np

from metarl.envs import GymnasiumFamily, Tasks, register, uniform_box


@register
class HeavyPendulum(GymnasiumFamily):
    """Gymnasium's Pendulum-v1, whose mass and length are the task; reward and observation are its own."""

    name = "heavy-pendulum"
    title = "Pendulum-v1 of unknown mass and length"
    tasks = uniform_box([("mass (kg)", 0.5, 1.5), ("length (m)", 0.5, 1.5)])

    def make_env(self, task: np.ndarray, render_mode: str | None = None) -> gymnasium.Env:
        return gymnasium.make("Pendulum-v1", render_mode=render_mode)

    def set_task(self, env: gymnasium.Env, task: np.ndarray) -> None:
        env.unwrapped.m, env.unwrapped.l = float(task[0]), float(task[1])


@register
class PendulumGravity(GymnasiumFamily):
    """The same with the gravity as the task: a function from task to environment."""

    name = "pendulum-gravity"
    title = "Pendulum-v1 in unknown gravity"
    tasks = uniform_box([("gravity (m/s^2)", 5.0, 15.0)])

    def make_env(self, task: np.ndarray, render_mode: str | None = None) -> gymnasium.Env:
        return gymnasium.make("Pendulum-v1", g=float(task[0]), render_mode=render_mode)


if __name__ == "__main__":  # the worker processes import this file too
    family = PendulumGravity()
    simulator = family.simulator(n_tasks=2, n_envs=1, n_threads=2)
    simulator.reset(Tasks(np.array([[5.0], [15.0]])), [np.random.default_rng(0) for _ in range(2)])
    steps = [simulator.step(np.zeros((2, 1, 1))) for _ in range(20)]
    print(f"return of a limp pendulum in each gravity: {sum(step.reward[:, 0] for step in steps).round(2).tolist()}")
    simulator.close()
