"""Many environments of a family as one `gymnasium.vector.VectorEnv`, on the batched simulator.

Row i is bit for bit what `SyncVectorEnv` of `MetaEnv` gives: the same seeds (seed, seed + 1, ...), the same task draws,
the same infos and autoreset.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from .frames import Frames
from .gym_env import (
    checked_action,
    checked_horizon,
    checked_render_mode,
    checked_split,
    episode_task,
    instance_metadata,
    single_spaces,
)
from .registry import make_family
from .simulator import Simulator
from .task_family import ProtocolName
from .tasks import Split, TaskLike, Tasks, read_tasks


class MetaVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """num_envs environments of a family, each with its own task, generator and clock.

    Each reset takes tasks from `options={"task": ...}`, one for all or one each as rows (num_envs, goal), else the
    constructor's, else it samples. An autoreset has no options, as in Gymnasium: it uses the constructor's or samples.

    Args:
      name, protocol, oracle, split: as in `MetaEnv`.
      num_envs: number of environments.
      task: the task of every episode, one for all or rows (num_envs, goal); None samples one at each reset.
      horizon: control steps until truncation; None for the family's.
      max_episode_steps: the same under Gymnasium's name, so that `gymnasium.make_vec` can pass it; the lower counts.
      autoreset_mode: Gymnasium's NEXT_STEP (default), SAME_STEP or DISABLED.
      n_threads: threads that step the rows, 0 for one per core; results do not depend on it.
      render_mode: "rgb_array" or None.
      width, height: size of a rendered frame in pixels.

    Raises ValueError for what `MetaEnv` does, and for a number of tasks that is not num_envs.
    """

    def __init__(
        self,
        name: str,
        num_envs: int = 1,
        protocol: ProtocolName = "modern",
        oracle: bool = False,
        task: TaskLike | None = None,
        split: Split = "train",
        horizon: int | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        n_threads: int = 1,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 360,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs={num_envs}: there must be at least 1 environment")
        self.family = make_family(name, protocol, oracle)
        self.num_envs = num_envs
        self.render_mode = checked_render_mode(render_mode)
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**instance_metadata(self.family.spec), "autoreset_mode": self.autoreset_mode}
        self.single_observation_space, self.single_action_space = single_spaces(self.family.spec)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        limits = [limit for limit in (horizon, max_episode_steps) if limit is not None]
        self.horizon = checked_horizon(self.family, min(limits, default=None))
        """Control steps until truncation."""
        self._fixed = None if task is None else read_tasks(self.family.tasks, task, num_envs)
        self._split = checked_split(self.family, split)
        self._simulator = Simulator(self.family, n_tasks=num_envs, n_envs=1, n_threads=n_threads)
        self._rngs: list[np.random.Generator | None] = [None] * num_envs
        self._goal = np.zeros((num_envs, self.family.spec.goal_dim))
        self._elapsed = np.zeros(num_envs, dtype=np.int64)
        self._needs_reset = np.ones(num_envs, dtype=bool)
        self._started = False
        self._frames = Frames(self.family, width, height)

    @property
    def task(self) -> np.ndarray:
        """Goals (num_envs, goal) of the running episodes."""
        return self._goal.copy()

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode in every environment, or in those of `options={"reset_mask": (num_envs,) bool}`.

        seed: one for the first environment, the others following by 1, or one each. ValueError for a wrong number of
        seeds, a mask of another shape, or a task outside the distribution.
        """
        seeds = [int(seed) + i for i in range(self.num_envs)] if isinstance(seed, int | np.integer) else seed
        if seeds is not None and len(seeds) != self.num_envs:
            raise ValueError(f"got {len(seeds)} seeds for {self.num_envs} environments")
        rows = self._rows_to_reset(options)
        tasks = self._fixed
        if options is not None and options.get("task") is not None:
            tasks = read_tasks(self.family.tasks, options["task"], self.num_envs)
        for row in rows:
            if seeds is not None and seeds[row] is not None:
                self._rngs[row] = seeding.np_random(seeds[row])[0]
        obs = self._start(rows, tasks)
        self._started = True
        return obs, self._info(np.zeros(self.num_envs, dtype=bool), rows)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance every environment by one control step with actions (num_envs, act) in [-1, 1], clipped.

        RuntimeError before the first reset, and with autoreset disabled for environments whose episode is over;
        ValueError if an action is not finite.
        """
        if not self._started:
            raise RuntimeError("cannot step before the first reset(); call reset() first")
        active = ~self._needs_reset
        if self.autoreset_mode is AutoresetMode.DISABLED and not active.all():
            raise RuntimeError(
                f"the episodes of environments {np.flatnonzero(~active).tolist()} are over; reset them first with "
                'reset(options={"reset_mask": ...}), or choose another autoreset_mode'
            )
        result = self._simulator.step(
            checked_action(actions, (self.num_envs, self.family.spec.act_dim))[:, None], active[:, None]
        )
        obs, terminated, diverged = result.obs[:, 0], result.terminated[:, 0], result.diverged[:, 0]
        self._elapsed += active
        truncated = (self._elapsed >= self.horizon) & active
        info: dict[str, Any] = {}
        over = terminated | truncated
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            if over.any():
                info = self._final(obs, diverged, over)
                obs = self._start(np.flatnonzero(over), self._fixed)
                diverged = diverged & ~over
        else:
            if not active.all():
                obs = self._start(np.flatnonzero(~active), self._fixed)
            self._needs_reset = over
        info.update(self._info(diverged, np.arange(self.num_envs)))
        return obs, result.reward[:, 0], terminated, truncated, info

    def render(self) -> tuple[np.ndarray, ...] | None:
        """A frame (height, width, 3) uint8 of every environment; None without a render mode."""
        if self.render_mode is None:
            return None
        qpos = self._simulator.state.qpos
        return tuple(self._frames.frame(row, qpos[row], self._goal[row]) for row in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Release the renderer, if there is one."""
        self._frames.close()

    def _rows_to_reset(self, options: dict[str, Any] | None) -> np.ndarray:
        mask = None if options is None else options.get("reset_mask")
        if mask is None:
            return np.arange(self.num_envs)
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise ValueError(
                f"reset_mask has shape {mask.shape} and dtype {mask.dtype}; expected ({self.num_envs},) bool with at "
                "least one True"
            )
        if not self._started and not mask.all():
            raise ValueError("the first reset must reset every environment; call reset() without a reset_mask")
        return np.flatnonzero(mask)

    def _start(self, rows: np.ndarray, tasks: Tasks | None) -> np.ndarray:
        """Begin an episode in some rows; returns the observations (num_envs, obs) of all."""
        rngs = [self._rng(row) for row in rows.tolist()]
        for row, rng in zip(rows, rngs, strict=True):
            fixed = None if tasks is None else tasks[row]
            self._goal[row] = episode_task(self.family, None, fixed, self._split, rng).goal[0]
        self._simulator.set_goal(rows, self._goal[rows])
        self._simulator.reset_rows(rows, rngs)
        self._elapsed[rows] = 0
        self._needs_reset[rows] = False
        return self._simulator.obs[:, 0]

    def _rng(self, row: int) -> np.random.Generator:
        rng = self._rngs[row]
        if rng is None:
            rng = self._rngs[row] = seeding.np_random()[0]
        return rng

    def _info(self, diverged: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
        """Gymnasium's form of batched infos: an array per key, and under _key which environments have it."""
        values = self._simulator.info()
        return _masked({**values, "task": self._goal.copy(), "diverged": diverged}, rows)

    def _final(self, obs: np.ndarray, diverged: np.ndarray, over: np.ndarray) -> dict[str, Any]:
        """What an autoreset in the same step would hide: the last observation and info of the episodes that ended."""
        rows = np.flatnonzero(over)
        final_obs = np.full(self.num_envs, None, dtype=object)
        for row in rows:
            final_obs[row] = obs[row].copy()
        final_info = self._info(diverged.copy(), rows)
        return {"final_obs": final_obs, "_final_obs": over.copy(), "final_info": final_info, "_final_info": over.copy()}


def _masked(values: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, Any]:
    info: dict[str, Any] = {}
    for key, value in values.items():
        mask = np.zeros(len(value), dtype=bool)
        mask[rows] = True
        kept = np.zeros_like(value)
        kept[rows] = value[rows]
        info[key], info[f"_{key}"] = kept, mask
    return info
