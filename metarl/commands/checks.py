"""Checks of options before anything is written, and what the commands that train say alike."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from metarl.metrics import read_metrics
from metarl.plugins import import_options
from metarl.run_folder import RunFolder


def check_writable(folder: Path) -> None:
    """Make a folder for output before long work starts; OSError if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".metarl-write-test"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(f"cannot write to {folder}: {error.strerror or error}; choose another with --out") from error


def check_threads(threads: int) -> None:
    """ValueError if the option makes no sense; before anything is written."""
    check_least("threads", threads, 0)


def check_least(option: str, value: int, least: int) -> None:
    """ValueError if an option is below its least value."""
    if value < least:
        raise ValueError(f"--{option} is {value}, but must be at least {least}")


def free_folder(parent: Path, name: str) -> Path:
    """parent/name, or parent/name-2, -3, ... when it exists."""
    return next(path for path in _series(parent, name) if not path.exists())


def last_folder(parent: Path, name: str) -> Path:
    """The one that `free_folder` gave last; parent/name if it gave none yet."""
    *_, last = parent / name, *itertools.takewhile(Path.exists, _series(parent, name))
    return last


def _series(parent: Path, name: str) -> Iterator[Path]:
    return (parent / (f"{name}-{number}" if number > 1 else name) for number in itertools.count(1))


def rows_of_metrics(run: RunFolder) -> int:
    """Iterations that a run of reinforcement learning has done: each has a row."""
    metrics = run.path / "metrics.jsonl"
    return len(read_metrics(metrics)) if metrics.exists() else 0


@contextmanager
def explained_interrupt(
    path: Path, command: str = "metarl train", done_by: Callable[[RunFolder], int] = rows_of_metrics
) -> Iterator[None]:
    """Ctrl-C and SIGTERM say how to go on with the run, and how many iterations it has done."""
    try:
        yield
    except KeyboardInterrupt:
        run = RunFolder(path)
        if not run.config.exists():
            raise
        n = done_by(run)
        done = f" after {n} iterations" if n else ""
        again = f"{command} --resume {path}{import_options()}"
        raise KeyboardInterrupt(f"interrupted{done}; go on with '{again}'") from None


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or mm:ss."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m:02d}:{s:02d}"
