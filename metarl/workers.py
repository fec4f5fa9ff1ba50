"""Threads over tasks. Tasks are independent, and both MuJoCo and torch release the GIL, so threads are enough.

More cores than one process's threads can use, or more machines, are a group of processes: `metarl.group`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import torch

from .group import SOLO, Group

Item = TypeVar("Item")
Result = TypeVar("Result")


def core_count() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Run torch single-threaded: its spinning OpenMP threads would take the cores from MuJoCo and from other tasks."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Workers:
    """A thread pool that maps a function over tasks. Results come in order, whatever the number of threads.

    n_threads: 0 for one per core, or a share of the cores if several processes are on this machine; 1 runs everything
    in the calling thread. group: the processes among which the tasks are divided; these threads have this one's.
    When the caller is interrupted (Ctrl-C) or an item fails, `stopping` is set and the map waits for its threads, so
    that none goes on in the background: a function that runs for seconds calls `check` now and then.
    """

    def __init__(self, n_threads: int = 0, group: Group = SOLO) -> None:
        if n_threads < 0:
            raise ValueError(f"n_threads={n_threads} must be at least 0 (0: one per core)")
        self.asked = n_threads
        self.n_threads = n_threads or max(1, core_count() // group.local_size)
        self.group = group
        self.stopping = False
        self._pool: ThreadPoolExecutor | None = None

    def check(self) -> None:
        """Raise CancelledError in a thread whose result nobody waits for any more."""
        if self.stopping:
            raise CancelledError

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """[function(item) for item in items] on the threads; the first exception is raised."""
        with one_torch_thread():
            if self.n_threads == 1 or len(items) == 1:
                return [function(item) for item in items]
            if self._pool is None:
                # torch keeps the thread count per thread: a new one starts with one OpenMP thread per core.
                self._pool = ThreadPoolExecutor(
                    self.n_threads, "metarl", initializer=torch.set_num_threads, initargs=(1,)
                )
            self.stopping = False
            futures: list[Future[Result]] = []
            try:
                futures.extend(self._pool.submit(function, item) for item in items)
                return [future.result() for future in futures]
            except BaseException:
                self.stopping = True  # until the next map
                for future in futures:
                    future.cancel()
                wait(futures)
                raise

    def close(self) -> None:
        """Stop the threads; the object can be used again."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
