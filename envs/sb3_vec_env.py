"""The batched environments as a Stable-Baselines3 `VecEnv`, to train or fine-tune SB3 agents on one task or many.

In a module of its own because importing Stable-Baselines3 takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from .tasks import read_task
from .vec_env import MetaVectorEnv


class MetaSB3VecEnv(VecEnv):
    """`MetaVectorEnv` with SB3's conventions.

    Autoreset happens in the same step, infos hold `terminal_observation` and `TimeLimit.truncated`, and seeds and
    options are given before `reset`.

    Args: those of `MetaVectorEnv`, without autoreset_mode. ValueError as there.
    """

    def __init__(self, name: str, num_envs: int = 1, **kwargs: Any) -> None:
        self.vector_env = MetaVectorEnv(name, num_envs, autoreset_mode=AutoresetMode.SAME_STEP, **kwargs)
        super().__init__(num_envs, self.vector_env.single_observation_space, self.vector_env.single_action_space)
        self._actions = np.zeros((num_envs, self.vector_env.family.spec.act_dim))

    def reset(self) -> np.ndarray:
        """Start an episode in every environment with the seeds and options set before; observations (env, obs)."""
        tasks = [options.get("task") for options in self._options]
        given = [task is not None for task in tasks]
        if any(given) and not all(given):
            missing = given.index(False)
            raise ValueError(f"environment {missing} has no task in its options; give every environment one, or none")
        options = {"task": self._as_rows(tasks)} if all(given) else None
        obs, info = self.vector_env.reset(seed=self._seeds, options=options)
        self.reset_infos = _rows_of(info, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions (env, act) for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Advance one control step: observations, float32 rewards, whether each episode ended, infos."""
        obs, reward, terminated, truncated, info = self.vector_env.step(self._actions)
        done = terminated | truncated
        # In SAME_STEP mode the batched info is the new episode's; SB3 wants the old one's where an episode ended.
        rows = _rows_of({key: value for key, value in info.items() if "final_" not in key}, self.num_envs)
        if done.any():
            final_rows = _rows_of(info["final_info"], self.num_envs)
            for row in np.flatnonzero(done).tolist():
                self.reset_infos[row] = rows[row]
                rows[row] = {**final_rows[row], "terminal_observation": info["final_obs"][row]}
        for row_info, row_truncated in zip(rows, truncated & ~terminated, strict=True):
            row_info["TimeLimit.truncated"] = bool(row_truncated)
        return obs, reward.astype(np.float32), done, rows

    def close(self) -> None:
        """Release the renderer, if there is one."""
        self.vector_env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """One frame per environment, or None each without a render mode."""
        frames = self.vector_env.render()
        return [None] * self.num_envs if frames is None else list(frames)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the vector environment, the same for every index; "task" is each environment's goal."""
        value = getattr(self.vector_env, attr_name)
        return [value[i] if attr_name == "task" else value for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Not supported: the environments share one simulator."""
        raise NotImplementedError(
            f"cannot set {attr_name!r} in single environments, which share one simulator; tasks are set with "
            'set_options({"task": ...}) before reset() or with the constructor\'s task='
        )

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Not supported: there are no single environments to call."""
        raise NotImplementedError(
            f"cannot call {method_name!r} on single environments, which share one simulator; use MetaEnv in SB3's "
            "DummyVecEnv for that"
        )

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """False for each index: nothing is wrapped."""
        return [False for _ in self._get_indices(indices)]

    def _as_rows(self, tasks: list[Any]) -> np.ndarray:
        distribution = self.vector_env.family.tasks
        return np.concatenate([read_task(distribution, task).goal for task in tasks])


def _rows_of(info: dict[str, Any], n: int) -> list[dict[str, Any]]:
    """A dict per environment from Gymnasium's batched info, whose `_key` entries say who has a key."""
    keys = [key for key in info if not key.startswith("_")]
    return [{key: info[key][i] for key in keys if info[f"_{key}"][i]} for i in range(n)]
