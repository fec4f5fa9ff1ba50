"""The processes that train one run together, seen from one of them. A single process is the group that has all tasks.

Each process has a contiguous share of the tasks, and every process holds the same parameters. Whatever is averaged over
tasks goes through `mean`: the rows of all tasks come together in the order of the tasks and are averaged as a single
process would, so that any number of processes computes the same bits. (Sums of each process's rows would be smaller
messages, but their order, and with it the last bits, would depend on the number of processes.) `metarl.distributed` has
the group of several.
"""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor


class Group:
    """A single process: nothing is communicated. `metarl.distributed.Processes` overrides all of it."""

    rank = 0
    """This process's number; the first, 0, alone reads and writes files and speaks."""
    local_rank = 0
    """The same among the processes on this machine."""
    local_size = 1
    """Processes on this machine."""
    first_task = 0
    """Index, among all tasks, of the first that is this process's."""

    def divide(self, n_tasks: int) -> slice:
        """Which of all tasks are this process's. ValueError if there are fewer tasks than processes."""
        return slice(0, n_tasks)

    def gather(self, rows: Shaped[Tensor, "task ..."]) -> Shaped[Tensor, "all_tasks ..."]:
        """The rows of all processes, in the order of the tasks; every process has to call it with its own."""
        return rows

    def mean(self, rows: Shaped[Tensor, "task ..."]) -> Tensor:
        """Mean (...) over the tasks of all processes, to the same bits whatever their number."""
        return self.gather(rows).mean(0)

    def total(self, count: int) -> int:
        """Sum of a number over the processes."""
        return int(self.gather(torch.tensor([count])).sum())

    def send(self, data: bytes) -> None:
        """From the first process to the others, each of which has to call `receive`."""

    def receive(self) -> bytes:
        """What the first process sends."""
        raise RuntimeError("a single process has nobody to receive from")

    def check_same(self, values: Tensor, what: str) -> None:
        """ValueError if a process holds other values than the first one. what: their name, for the error."""


SOLO = Group()
