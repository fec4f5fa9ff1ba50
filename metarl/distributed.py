"""Several processes, as `torchrun` starts them, as one `Group`; how they end together, whatever ends one of them.

Before each exchange the processes meet: each tells how it is and how much it brings. So none waits for another that has
failed, and one that is out of step is noticed. A process that was killed is noticed by its closed connections.
Tensors travel by gloo, those on GPUs by NCCL; meetings always by gloo.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from .group import SOLO, Group
from .interrupts import interrupts_deferred

PATIENCE = timedelta(hours=1)
"""How long a process waits for another whose connection stands: longer than an iteration or a checkpoint takes."""

FINE = 0
INTERRUPTED = 131
"""Otherwise how a process is: 1 + the exit code that it ends with."""


@dataclass(frozen=True)
class Launch:
    """What `torchrun` tells a process."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    restarts: int
    """How often all processes have been started anew, since one of them failed."""


def launch_of(environment: Mapping[str, str]) -> Launch | None:
    """From the variables that `torchrun` sets; None where they are missing. ValueError if one is no number."""
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= set(environment):
        return None

    def number(name: str, default: str = "") -> int:
        value = environment.get(name, default)
        if not value.isdecimal():
            raise ValueError(f"{name} is {value!r} in the environment, but torchrun sets it to a number; start with it")
        return int(value)

    return Launch(
        rank=number("RANK"),
        size=number("WORLD_SIZE"),
        local_rank=number("LOCAL_RANK", "0"),
        local_size=number("LOCAL_WORLD_SIZE", "1"),
        restarts=number("TORCHELASTIC_RESTART_COUNT", "0"),
    )


class Processes(Group):
    """The group of a launch. Every method has to be called by all processes in the same order, in the main thread."""

    def __init__(self, launch: Launch) -> None:
        """OSError if the others cannot be reached."""
        self.rank, self.size = launch.rank, launch.size
        self.local_rank, self.local_size = launch.local_rank, launch.local_size
        self.parting: int | None = None
        """Who tells why the processes end, once they do."""
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        try:
            store, *_ = next(iter(rendezvous("env://", self.rank, self.size, timeout=PATIENCE)))
            # torchrun keeps its store when it restarts: without a name of their own, processes would find in it the
            # addresses of those before them.
            own = dist.PrefixStore(f"metarl-{launch.restarts}", store)
            dist.init_process_group(backend, store=own, rank=self.rank, world_size=self.size, timeout=PATIENCE)
        except (RuntimeError, ValueError) as error:
            raise OSError(
                f"process {self.rank} of {self.size} does not reach the others ({_first_line(error)}); docs/scale.md "
                "says how to choose the network"
            ) from error

    def divide(self, n_tasks: int) -> slice:
        if n_tasks < self.size:
            raise ValueError(
                f"{self.size} processes share {n_tasks} tasks, but each needs one; start at most {n_tasks} or give a "
                f"larger --meta-batch"
            )
        bounds = [n_tasks * rank // self.size for rank in (self.rank, self.rank + 1)]
        self.first_task = bounds[0]
        return slice(*bounds)

    def gather(self, rows: Shaped[Tensor, "task ..."]) -> Shaped[Tensor, "all_tasks ..."]:
        with interrupts_deferred():
            counts = self._meet(len(rows), rows.shape[1:].numel())
            # Messages of one size: shorter shares are filled up.
            own = rows.new_zeros((max(counts), *rows.shape[1:]))
            own[: len(rows)] = rows
            parts = rows.new_empty((self.size, *own.shape))
            self._call(dist.all_gather, list(parts.unbind()), own)
        return torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])

    def send(self, data: bytes) -> None:
        with interrupts_deferred():
            self._meet(len(data))
            self._call(dist.broadcast, torch.frombuffer(bytearray(data), dtype=torch.uint8), src=0)

    def receive(self) -> bytes:
        with interrupts_deferred():
            buffer = torch.empty(self._meet(0)[0], dtype=torch.uint8)
            self._call(dist.broadcast, buffer, src=0)
        return buffer.numpy().tobytes()

    def check_same(self, values: Tensor, what: str) -> None:
        own = torch.tensor([zlib.crc32(values.detach().cpu().numpy().tobytes())])
        if not bool((self.gather(own) == own).all()):
            raise ValueError(
                f"the processes no longer hold the same {what}: their processors, GPUs or versions of torch differ; "
                "train on machines of one kind"
            )

    def part(self, status: int) -> None:
        """Tell the others that this process ends, and let all end together, after the first one has written.

        Once it returns, `parting` says who is to tell the user. Raises nothing but what the others end with, if this
        process is fine.
        """
        with interrupts_deferred():
            if self.parting is None:
                try:
                    self._meet(0, status=status)
                except BaseException:
                    if status == FINE:
                        raise
            with suppress(RuntimeError):  # they are gone already
                dist.all_reduce(torch.zeros(1))

    def close(self) -> None:
        """Close the connections."""
        dist.destroy_process_group()

    def _meet(self, n_rows: int, row_size: int = 1, status: int = FINE) -> list[int]:
        """How many rows each process brings. Ends this process if another one ends or is gone."""
        own = torch.tensor([status, n_rows, row_size])
        met = torch.empty((self.size, 3), dtype=own.dtype)
        self._call(dist.all_gather, list(met.unbind()), own)
        statuses, rows, sizes = met.t().tolist()
        if any(statuses):
            first = next(rank for rank, status in enumerate(statuses) if status != FINE)
            self.parting = 0 if INTERRUPTED in statuses else first
            raise KeyboardInterrupt if INTERRUPTED in statuses else SystemExit(statuses[first] - 1)
        if len(set(sizes)) > 1:
            self.parting = 0
            raise ValueError(f"the processes are out of step: rows of {sizes} numbers meet; use one version of metarl")
        return list(rows)

    def _call(self, collective: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        try:
            collective(*args, **kwargs)
        except RuntimeError as error:
            self.parting = 0
            raise ConnectionError(
                "another process of this run has ended without a word, as if killed; 'torchrun --max-restarts' starts "
                "all of them again from the last checkpoint"
            ) from error


@contextmanager
def joined(launch: Launch | None) -> Iterator[Group]:
    """The group of a launch, SOLO for None or a single process.

    When one process fails, all end, and one of them raises why: the others raise SystemExit, with its exit code.
    Ctrl-C and SIGTERM, to whichever process, are raised by the first one.
    """
    if launch is None or launch.size == 1:
        yield SOLO
        return
    group = Processes(launch)
    try:
        yield group
        group.part(FINE)
    except BaseException as error:
        status = _status(error)
        group.part(status)
        if group.parting in (None, group.rank) or isinstance(error, SystemExit):
            raise
        raise SystemExit(status - 1) from None
    finally:
        group.close()


def _status(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, SystemExit) and isinstance(error.code, int | None):
        return 1 + (error.code or 0)
    return 3 if isinstance(error, ValueError | FileNotFoundError) else 2


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
