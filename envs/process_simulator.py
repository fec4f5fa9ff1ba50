"""Rows of a Gymnasium family in worker processes; the counterpart of `Simulator` for environments of any kind.

Contract, as `Simulator`'s: a row depends on its own goal, seed and actions only, whatever the number of workers. The
processes are spawned at the first reset (so that threads and GPU libraries of the parent do no harm), and hold one
environment a row. One that dies, or an environment that raises, ends the call with a ChildProcessError that says which
rows and what; nothing hangs and no process is left. After an error or `close`, the next reset starts new ones.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import multiprocessing
import signal
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import numpy as np
from jaxtyping import Bool, Float

from .env_worker import SharedRows, run_worker
from .gymnasium_family import GymnasiumFamily
from .task_family import Step
from .tasks import Tasks

STOP_S = 2.0  # for a worker to close its environments before it is killed


@dataclass(frozen=True)
class _Worker:
    process: SpawnProcess
    connection: Connection
    first: int
    last: int


class ProcessSimulator:
    """Tasks x environments of a Gymnasium family.

    Args:
      family: must be importable by name in another process (defined in a module, not in an interactive session).
      n_tasks, n_envs: rows are tasks x environments.
      n_workers: processes that step them.
    """

    def __init__(self, family: GymnasiumFamily, n_tasks: int, n_envs: int, n_workers: int = 1) -> None:
        if n_tasks < 1 or n_envs < 1 or n_workers < 0:
            raise ValueError(f"n_tasks={n_tasks}, n_envs={n_envs}, n_workers={n_workers}: each must be at least 1")
        self.family, self.n_tasks, self.n_envs = family, n_tasks, n_envs
        self.n_diverged = 0
        self.first_task = 0
        """Observations that were not finite, since this object was made."""
        n_rows = n_tasks * n_envs
        spec = family.spec
        self._goal_dim = spec.goal_dim
        sizes = {
            "goal": spec.goal_dim,
            "action": spec.act_dim,
            "obs": spec.obs_dim - (spec.goal_dim if family.oracle else 0),
            "reward": 1,
        }
        self._shared = SharedRows(
            n_rows,
            sizes,
            {name: multiprocessing.RawArray(ctypes.c_double, n_rows * size) for name, size in sizes.items()},
            {name: multiprocessing.RawArray(ctypes.c_uint8, n_rows) for name in ("active", "terminated", "diverged")},
        )
        self._rows = self._shared.views()
        bounds = np.linspace(0, n_rows, min(max(1, n_workers), n_rows) + 1).astype(int).tolist()
        self._bounds = list(itertools.pairwise(bounds))
        self._workers: list[_Worker] = []
        self._stop = weakref.finalize(self, _stop_all, self._workers)

    def reset(self, tasks: Tasks, rngs: Sequence[np.random.Generator]) -> Float[np.ndarray, "task env obs"]:
        """Start an episode in every row; task i's environments take their seeds from rngs[i] in order."""
        if len(tasks) != self.n_tasks or len(rngs) != self.n_tasks:
            raise ValueError(f"got {len(tasks)} tasks and {len(rngs)} generators for {self.n_tasks} tasks")
        if tasks.goal.shape[1] != self._goal_dim:
            raise ValueError(
                f"tasks have {tasks.goal.shape[1]} goal components, {self.family.name} has {self._goal_dim}: "
                f"{', '.join(self.family.tasks.names)}"
            )
        self._rows["goal"][:] = np.repeat(tasks.goal, self.n_envs, axis=0)
        seeds = [int(rng.integers(2**31)) for rng in rngs for _ in range(self.n_envs)]
        if not self._workers:
            self._start()
        self._command("reset", [seeds[first:last] for first, last in self._bounds])
        obs = self._obs()
        if not np.isfinite(obs).all():
            task, env = np.argwhere(~np.isfinite(obs).all(axis=-1))[0].tolist()
            raise ValueError(
                f"{self.family.name}: the first observation of task {task}, environment {env} is not finite"
            )
        return obs

    def step(
        self, action: Float[np.ndarray, "task env act"], active: Bool[np.ndarray, "task env"] | None = None
    ) -> Step:
        """Advance every row, or only the active ones, by one control step; as `Simulator.step`."""
        shape = (self.n_tasks, self.n_envs)
        expected = (*shape, self.family.spec.act_dim)
        if action.shape != expected:
            raise ValueError(f"actions have shape {action.shape}, expected (task, env, act) = {expected}")
        mask = np.ones(shape, dtype=bool) if active is None else active
        if not np.isfinite(action[mask]).all():
            raise ValueError("an action is not finite; check the policy's output before stepping")
        if not self._workers:
            raise RuntimeError("there are no episodes to step; call reset() first")
        self._rows["action"][:] = np.clip(np.where(mask[..., None], action, 0.0), -1.0, 1.0).reshape(-1, expected[-1])
        self._rows["active"][:] = mask.reshape(-1)
        self._command("step", [None] * len(self._workers))
        diverged = self._rows["diverged"].astype(bool).reshape(shape) & mask
        self.n_diverged += int(diverged.sum())
        return Step(
            self._obs(),
            np.where(mask, self._rows["reward"].reshape(shape), 0.0),
            self._rows["terminated"].astype(bool).reshape(shape) & mask,
            diverged,
        )

    def close(self) -> None:
        """Stop the processes; harmless twice."""
        _stop_all(self._workers)

    def _obs(self) -> np.ndarray:
        obs = self._rows["obs"]
        seen = np.concatenate([obs, self._rows["goal"]], axis=1) if self.family.oracle else obs.copy()
        return seen.reshape(self.n_tasks, self.n_envs, -1)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        try:
            with _interrupts_blocked():
                for first, last in self._bounds:
                    ours, theirs = context.Pipe()
                    process = context.Process(
                        target=run_worker,
                        args=(theirs, self.family, self._shared, first, last),
                        name=f"{self.family.name} rows {first}-{last - 1}",
                        daemon=True,
                    )
                    self._workers.append(_Worker(process, ours, first, last))
                    process.start()
                    theirs.close()  # ours alone keeps the pipe open, so that the end of either process ends it
        except BaseException as error:
            self.close()
            if isinstance(error, AttributeError | TypeError) or "pickle" in str(error):
                raise ValueError(
                    f"{type(self.family).__name__} cannot be sent to another process ({error}); define it at the top "
                    "of a module, and keep what cannot be pickled (open environments, lambdas) out of its attributes"
                ) from error
            raise

    def _command(self, command: str, contents: Sequence[list[int] | None]) -> None:
        """Tell every worker and wait for all; any failure, Ctrl-C included, stops them."""
        try:
            for worker, content in zip(self._workers, contents, strict=True):
                try:
                    worker.connection.send((command, content))
                except (BrokenPipeError, ConnectionResetError):
                    raise self._died(worker) from None
            waiting = list(self._workers)
            while waiting:
                ready = wait([w.connection for w in waiting] + [w.process.sentinel for w in waiting])
                for worker in list(waiting):
                    if worker.connection in ready or worker.process.sentinel in ready:
                        self._answer(worker)
                        waiting.remove(worker)
        except BaseException:
            self.close()
            raise

    def _answer(self, worker: _Worker) -> None:
        try:
            if not worker.connection.poll():
                raise EOFError
            answer = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            raise self._died(worker) from None
        if answer is not None:
            text, doing, trace = answer
            error = ChildProcessError(f"{self.family.name}: {doing} of the environment raised {text}")
            error.add_note(f"in the worker process of {self._place(worker)}:\n{trace}")
            raise error

    def _died(self, worker: _Worker) -> ChildProcessError:
        worker.process.join(STOP_S)
        code = worker.process.exitcode
        how = (
            "ended" if code is None else f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        )
        hint = (
            "its memory may have run out, or a library crashed"
            if code is None or code < 0
            else "its traceback is above. A family must be importable in another process: defined in a module, and a "
            "script that uses it must have its main part behind if __name__ == '__main__'"
        )
        return ChildProcessError(f"{self.family.name}: the worker process of {self._place(worker)} {how}; {hint}")

    def _place(self, worker: _Worker) -> str:
        first, last = worker.first // self.n_envs, (worker.last - 1) // self.n_envs
        return f"task {first}" if first == last else f"tasks {first} to {last}"


def _stop_all(workers: list[_Worker]) -> None:
    """Close the pipes, which ends the processes, and kill those that stay."""
    for worker in workers:
        with contextlib.suppress(OSError):
            worker.connection.close()
    deadline = time.monotonic() + STOP_S
    for worker in workers:
        process = worker.process
        if process.pid is None:  # was never started
            continue
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
        process.close()
    workers.clear()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Ctrl-C waits: in processes started meanwhile until they can handle it, in this thread until the end."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starting it unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
