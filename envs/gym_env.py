"""One environment of a family as a `gymnasium.Env`: the batched simulator with a single row.

So physics, observation, reward and termination are the ones that training uses. In the modern protocol an episode is
bit for bit Gymnasium's own (`HalfCheetah-v5`, `Ant-v5`) for the same seed and actions in [-1, 1].
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from .family import Family
from .frames import Frames
from .registry import make_family
from .simulator import Simulator
from .spec import EnvSpec
from .task_family import ProtocolName
from .tasks import Split, TaskLike, Tasks, read_task

RENDER_MODES = ("rgb_array",)


class MetaEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """A task of a family, with the time limit inside.

    Each reset takes the task from `options={"task": ...}`, else the constructor's, else it samples one. `info` holds
    "task" (goal,), "diverged", and the family's positions (m) and velocities (m/s), after reset as after step.

    Args:
      name: registered family, for example "half-cheetah-vel".
      protocol: "modern" or "finn2017".
      oracle: append the goal to the observation.
      task: the task of every episode, as numbers or text ("forward"); None samples one at each reset.
      split: the part of the distribution to sample from.
      horizon: control steps until truncation; None for the family's.
      render_mode: "rgb_array" or None.
      width, height: size of a rendered frame in pixels.

    Raises ValueError for an unknown name, protocol, split or render mode, or a task outside the distribution.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": list(RENDER_MODES), "render_fps": 20}  # type: ignore[misc]

    def __init__(
        self,
        name: str,
        protocol: ProtocolName = "modern",
        oracle: bool = False,
        task: TaskLike | None = None,
        split: Split = "train",
        horizon: int | None = None,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 360,
    ) -> None:
        self.family = make_family(name, protocol, oracle)
        self.render_mode = checked_render_mode(render_mode)
        self.metadata = instance_metadata(self.family.spec)  # type: ignore[misc]
        self.observation_space, self.action_space = single_spaces(self.family.spec)
        self.horizon = checked_horizon(self.family, horizon)
        """Control steps until truncation."""
        self._fixed = None if task is None else read_task(self.family.tasks, task)
        self._split = checked_split(self.family, split)
        self._simulator = Simulator(self.family, n_tasks=1, n_envs=1)
        self._task: Tasks | None = None
        self._elapsed = 0
        self._frames = Frames(self.family, width, height)

    @property
    def task(self) -> np.ndarray:
        """Goal (goal,) of the running episode. RuntimeError before the first reset."""
        if self._task is None:
            raise RuntimeError("there is no task before the first reset(); call reset() first")
        return self._task.goal[0].copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; `options={"task": ...}` chooses its task (ValueError outside the distribution)."""
        super().reset(seed=seed)
        self._task = episode_task(self.family, options, self._fixed, self._split, self.np_random)
        obs = self._simulator.reset(self._task, [self.np_random])
        self._elapsed = 0
        return obs[0, 0], self._info(diverged=False)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Advance one control step with an action (act,) in [-1, 1], clipped; ValueError if it is not finite."""
        if self._task is None:
            raise gymnasium.error.ResetNeeded("cannot step before the first reset(); call reset() first")
        result = self._simulator.step(checked_action(action, (self.family.spec.act_dim,))[None, None])
        self._elapsed += 1
        return (
            result.obs[0, 0],
            float(result.reward[0, 0]),
            bool(result.terminated[0, 0]),
            self._elapsed >= self.horizon,
            self._info(bool(result.diverged[0, 0])),
        )

    def render(self) -> np.ndarray | None:
        """The frame (height, width, 3) uint8 of the current state, the goal drawn in it; None without a render mode."""
        if self.render_mode is None:
            return None
        return self._frames.frame(0, self._simulator.state.qpos[0], self.task)

    def close(self) -> None:
        """Release the renderer, if there is one."""
        self._frames.close()

    def _info(self, diverged: bool) -> dict[str, Any]:
        values = self._simulator.info()
        return {**{key: float(value[0]) for key, value in values.items()}, "task": self.task, "diverged": diverged}


def episode_task(
    family: Family,
    options: dict[str, Any] | None,
    fixed: Tasks | None,
    split: Split,
    rng: np.random.Generator,
) -> Tasks:
    """The task of one episode: the reset's, else the constructor's, else sampled.

    Sampling uses a child of the environment's generator: spawning one leaves the generator's own stream alone, so
    that the reset noise equals Gymnasium's for the same seed.
    """
    if options is not None and options.get("task") is not None:
        return read_task(family.tasks, options["task"])
    if fixed is not None:
        return fixed
    return family.tasks.sample(1, rng.spawn(1)[0], split)


def single_spaces(spec: EnvSpec) -> tuple[spaces.Box, spaces.Box]:
    """Observation and action space of one environment."""
    observation = spaces.Box(-np.inf, np.inf, (spec.obs_dim,), np.float64)
    return observation, spaces.Box(-1.0, 1.0, (spec.act_dim,), np.float32)


def instance_metadata(spec: EnvSpec) -> dict[str, Any]:
    """Gymnasium metadata with the frame rate of real time."""
    return {"render_modes": list(RENDER_MODES), "render_fps": round(1.0 / spec.control_dt_s)}


def checked_action(action: np.ndarray | list[float], shape: tuple[int, ...]) -> np.ndarray:
    """The action as an array; ValueError unless it has the given shape."""
    array = np.asarray(action)
    if array.shape != shape:
        raise ValueError(f"action has shape {array.shape}, expected {shape}")
    return array


def checked_horizon(family: Family, horizon: int | None) -> int:
    """The family's horizon, or the given one; ValueError below 1."""
    if horizon is not None and horizon < 1:
        raise ValueError(f"horizon={horizon}: an episode has at least 1 control step")
    return family.horizon if horizon is None else horizon


def checked_split(family: Family, split: Split) -> Split:
    """The split, after a trial draw: a wrong one fails here and not at the first reset."""
    family.tasks.sample(1, np.random.default_rng(0), split)
    return split


def checked_render_mode(render_mode: str | None) -> str | None:
    """The render mode; ValueError for one that is not offered."""
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise ValueError(f"unknown render_mode {render_mode!r}; allowed: {', '.join(RENDER_MODES)} or None")
    return render_mode
