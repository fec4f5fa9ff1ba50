"""Families of Gymnasium environments for tests, in a module of their own because worker processes import it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from metarl.envs import GymnasiumFamily, uniform_box


class Line(gymnasium.Env):
    """A point on a line: x moves by 0.1 a, a in [-2, 2]; reward -|x - goal|; truncated after 20 steps."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-2.0, 2.0, (1,), np.float32)

    def __init__(self, goal: float = 0.0) -> None:
        self.goal, self.x, self.t = goal, 0.0, 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.x, self.t = float(self.np_random.uniform(-0.1, 0.1)), 0
        return self._obs(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.x += 0.1 * float(action[0])
        self.t += 1
        return self._obs(), -abs(self.x - self.goal), abs(self.x) > 1.5, self.t >= 20, {}

    def _obs(self) -> np.ndarray:
        return np.array([self.x, self.t / 20], dtype=np.float32)


class LineFamily(GymnasiumFamily):
    name, title = "test-line", "a point on a line"
    tasks = uniform_box([("goal (m)", -1.0, 1.0)])
    horizon = 20

    def make_env(self, task: np.ndarray) -> gymnasium.Env:
        return Line(float(task[0]))


class Painted(Line):
    """The same with pictures of its own: a white column where the point is, on a dark ground."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(self, goal: float = 0.0, render_mode: str | None = None, picture: object = None) -> None:
        super().__init__(goal)
        self.render_mode, self.picture = render_mode, picture

    def render(self) -> object:
        if self.picture is not None:
            return self.picture
        image = np.full((30, 60, 3), 40, dtype=np.uint8)
        column = int(np.clip(30 + 20 * self.x, 0, 56))
        image[:, column : column + 4] = 255
        return image


class PaintedFamily(LineFamily):
    name = "test-painted"

    def make_env(self, task: np.ndarray, render_mode: str | None = None) -> gymnasium.Env:
        return Painted(float(task[0]), render_mode)


class PoleFamily(GymnasiumFamily):
    """Gymnasium's own InvertedPendulum-v5 (MuJoCo) in another gravity."""

    name, title = "test-pole", "a pole to be balanced in unknown gravity"
    tasks = uniform_box([("gravity (m/s^2)", 5.0, 15.0)])
    horizon = 6

    def make_env(self, task: np.ndarray, render_mode: str | None = None) -> gymnasium.Env:
        return gymnasium.make("InvertedPendulum-v5", render_mode=render_mode, width=96, height=64)

    def set_task(self, env: gymnasium.Env, task: np.ndarray) -> None:
        env.unwrapped.model.opt.gravity[2] = -task[0]


class NoReward(LineFamily):
    """Rewards that are not numbers."""

    name = "test-no-reward"

    def make_env(self, task: np.ndarray) -> gymnasium.Env:
        return gymnasium.wrappers.TransformReward(Line(), lambda reward: float("nan"))


class OwnTasksEnv(Line):
    """Tasks as ProMP's environments have them, from numpy's global generator."""

    def sample_tasks(self, n: int) -> list[dict[str, Any]]:
        return [{"goal": np.random.uniform(-1, 1, 2), "speed": float(np.random.uniform())} for _ in range(n)]  # noqa: NPY002

    def set_task(self, task: dict[str, Any]) -> None:
        assert isinstance(task["goal"], np.ndarray)
        assert isinstance(task["speed"], float)
        self.goal = float(task["goal"].sum() * task["speed"])


class OwnTasksFamily(GymnasiumFamily):
    name, title = "test-own-tasks", "an environment with its own tasks"
    horizon = 20

    def make_env(self, task: np.ndarray) -> gymnasium.Env:
        return OwnTasksEnv()


class DirectionEnv(Line):
    def sample_tasks(self, n: int) -> list[float]:
        return list(self.np_random.choice([-1.0, 1.0], n))

    def reset_task(self, task: float) -> None:
        self.goal = task


class DirectionFamily(GymnasiumFamily):
    name, title = "test-direction", "two tasks"
    horizon = 20

    def make_env(self, task: np.ndarray) -> gymnasium.Env:
        return DirectionEnv()


class Goals(gymnasium.Wrapper):
    """Observations as goal-conditioned environments have them."""

    observation_space = spaces.Dict({"observation": Line.observation_space, "desired_goal": spaces.Box(-1, 1, (1,))})

    def reset(self, **kwargs: Any) -> tuple[dict, dict]:
        return self._with_goal(self.env.reset(**kwargs)[0]), {}

    def step(self, action: np.ndarray) -> tuple[dict, Any, bool, bool, dict]:
        obs, *rest = self.env.step(action)
        return (self._with_goal(obs), *rest)

    def _with_goal(self, obs: np.ndarray) -> dict:
        return {"observation": obs, "desired_goal": np.array([self.env.unwrapped.goal], np.float32)}


class GoalFamily(LineFamily):
    name = "test-goals"

    def make_env(self, task: np.ndarray) -> gymnasium.Env:
        return Goals(Line(float(task[0])))

    def observe(self, obs: dict) -> np.ndarray:
        return obs["observation"]


class ShowsGoal(GoalFamily):
    observe = GymnasiumFamily.observe


class Raises(LineFamily):
    def make_env(self, task: np.ndarray) -> gymnasium.Env:
        raise RuntimeError("no such robot")


class Trouble(Line):
    """Does something at its fifth step, if its goal is above 0.5."""

    def __init__(self, goal: float, what: str) -> None:
        super().__init__(goal)
        self.what = what

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        result = super().step(action)
        if self.t == 5 and self.goal > 0.5:
            if self.what == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            elif self.what == "exits":
                os._exit(3)
            elif self.what == "raises":
                raise RuntimeError("the robot fell over")
            elif self.what == "nan":
                return np.array([np.nan, 0.0], np.float32), *result[1:]
            elif self.what == "shape":
                return np.zeros(3, np.float32), *result[1:]
            elif self.what == "slow":
                Path(os.environ["METARL_TEST_MARK"]).touch()
                time.sleep(60)
        return result


class TroubleFamily(LineFamily):
    name = "test-trouble"
    what = "nan"

    def make_env(self, task: np.ndarray) -> gymnasium.Env:
        return Trouble(float(task[0]), self.what)


class SlowFamily(LineFamily):
    """Its fifth step takes a minute."""

    name = "test-slow"

    def make_env(self, task: np.ndarray) -> gymnasium.Env:
        return Trouble(1.0, "slow")


def trouble(what: str) -> TroubleFamily:
    family = TroubleFamily()
    family.what = what
    return family
