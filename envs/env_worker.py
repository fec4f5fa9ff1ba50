"""The worker process of `ProcessSimulator`: holds the environments of some rows, and resets and steps them when told.

Commands come through a pipe; goals, actions, observations, rewards and flags lie in shared memory. A worker ends when
the pipe closes, so also when its parent is killed, and without a word at Ctrl-C, which the parent gets too: a step that
does not return is over then.
"""

from __future__ import annotations

import contextlib
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

if TYPE_CHECKING:
    from .gymnasium_family import GymnasiumFamily


@dataclass(frozen=True)
class SharedRows:
    """Shared memory of all rows as raw buffers, float64 and uint8; a worker and the parent view the same bytes."""

    n_rows: int
    sizes: dict[str, int]
    """Numbers a row of goal, action, obs, reward."""
    numbers: dict[str, Any]
    """multiprocessing.RawArray of doubles by name, n_rows * size."""
    flags: dict[str, Any]
    """multiprocessing.RawArray of bytes by name, n_rows: active, terminated, diverged."""

    def views(self) -> dict[str, np.ndarray]:
        """The arrays, (row, size) float64 and (row,) uint8."""
        numbers = {
            name: np.frombuffer(raw, dtype=np.float64).reshape(self.n_rows, self.sizes[name])
            for name, raw in self.numbers.items()
        }
        return {**numbers, **{name: np.frombuffer(raw, dtype=np.uint8) for name, raw in self.flags.items()}}


def run_worker(connection: Connection, family: GymnasiumFamily, shared: SharedRows, first: int, last: int) -> None:
    """Serve rows first to last until the pipe closes. Answers None, or a text and traceback for what went wrong."""
    rows = Rows(family, {name: view[first:last] for name, view in shared.views().items()}, family.make_env)
    try:
        if hasattr(signal, "pthread_sigmask"):  # the parent blocked it until this could be handled
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        while True:
            command, seeds = connection.recv()
            try:
                if command == "reset":
                    rows.reset(seeds)
                else:
                    rows.step()
                connection.send(None)
            except Exception as error:
                connection.send((f"{type(error).__name__}: {error}", rows.doing, traceback.format_exc()))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass
    finally:
        rows.close()


class Rows:
    """The environments of some rows.

    arrays: by name, as `SharedRows.views` gives them; goal, action and active are read, the others written.
    make_env: a task's environment.
    """

    def __init__(
        self,
        family: GymnasiumFamily,
        arrays: dict[str, np.ndarray],
        make_env: Callable[[np.ndarray], gymnasium.Env],
    ) -> None:
        self._family, self._row, self._make_env = family, arrays, make_env
        self._envs: list[gymnasium.Env | None] = [None] * len(arrays["goal"])
        self._goals = np.full_like(self._row["goal"], np.nan)
        space = family.action_space
        self._low, self._high = space.low.astype(np.float64).ravel(), space.high.astype(np.float64).ravel()
        self._shape, self._dtype = space.shape, space.dtype
        self.doing = ""
        """What is going on, for error messages."""

    def reset(self, seeds: list[int]) -> None:
        """Start an episode in every row, in the environment of its goal."""
        for i, seed in enumerate(seeds):
            env = self._env_of(i, self._row["goal"][i].copy())
            self.doing = "reset"
            self._row["obs"][i] = self._observed(env.reset(seed=seed)[0])
            self._row["terminated"][i] = self._row["diverged"][i] = False

    def step(self) -> None:
        """Advance the active rows; an observation that is not finite ends the episode and is not passed on."""
        self.doing = "step"
        for i in np.flatnonzero(self._row["active"]):
            env = self._envs[i]
            assert env is not None  # the simulator resets before it steps
            action = self._low + 0.5 * (self._row["action"][i] + 1.0) * (self._high - self._low)
            obs, reward, terminated, truncated, _ = env.step(action.reshape(self._shape).astype(self._dtype))
            seen = self._observed(obs)
            diverged = not np.isfinite(seen).all()
            if not diverged:
                self._row["obs"][i] = seen
            self._row["reward"][i, 0] = 0.0 if diverged else float(reward)
            self._row["terminated"][i] = terminated or truncated or diverged
            self._row["diverged"][i] = diverged

    def pictures(self) -> list[Any]:
        """What each environment's `render` returns."""
        self.doing = "render"
        return [None if env is None else env.render() for env in self._envs]

    def close(self) -> None:
        """Close every environment; one that fails to is left."""
        for env in self._envs:
            if env is not None:
                with contextlib.suppress(Exception):
                    env.close()

    def _env_of(self, i: int, goal: np.ndarray) -> gymnasium.Env:
        env = self._envs[i]
        if env is not None and np.array_equal(self._goals[i], goal):
            return env
        if env is not None and not self._family.reuses_envs:
            env.close()
            env = None
        if env is None:
            self.doing = "make_env"
            env = self._envs[i] = self._make_env(goal)
        if self._family.reuses_envs:
            self.doing = "set_task"
            self._family.set_task(env, goal)
        self._goals[i] = goal
        return env

    def _observed(self, obs: Any) -> np.ndarray:
        seen = np.asarray(self._family.observe(obs), dtype=np.float64)
        expected = self._row["obs"].shape[1:]
        if seen.shape != expected:
            raise ValueError(f"the observation has shape {seen.shape}, and {expected} at first")
        return seen
