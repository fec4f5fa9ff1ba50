"""A run folder: resolved settings, metrics, checkpoint, evaluation, videos of one training run, of whatever kind.

Its config.json says what kind: reinforcement learning, which needs no word, or supervised learning.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .files import TEMPORARY, json_text, read_json, versions, write_atomic

FORMAT = 1

Config = TypeVar("Config", bound=Any)  # a frozen dataclass with `iterations`


@dataclass(frozen=True)
class RunFolder:
    """Paths in a run folder."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def policy(self) -> Path:
        return self.path / "policy"

    @property
    def videos(self) -> Path:
        return self.path / "videos"

    @property
    def board(self) -> Path:
        return self.path / "tensorboard"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation.json"


def create_folder(path: Path, config: dict[str, Any], seed: int, command: str, resume_with: str) -> RunFolder:
    """Make a new run folder and write its settings.

    resume_with: the command line that continues a run, up to its folder. Raises ValueError if a run is there already
    (nothing of it is touched), OSError if the folder cannot be written.
    """
    run = RunFolder(path)
    record = {"format": FORMAT, "config": config, "seed": seed, "command": command, "versions": versions()}
    try:
        path.mkdir(parents=True, exist_ok=True)
        with exclusive(run):  # two processes that start at once get one folder each, or an error
            if run.config.exists():
                raise ValueError(
                    f"{path} holds a run already; continue it with '{resume_with} {path}' or choose another --out"
                )
            write_atomic(run.config, json_text(record))
    except OSError as error:
        raise OSError(
            f"cannot write the run folder {path}: {error.strerror or error}; choose another with --out"
        ) from error
    return run


def open_folder(path: Path, made_by: str) -> tuple[RunFolder, dict[str, Any]]:
    """An existing run folder and its settings as they were written.

    made_by: the command that makes such runs. Raises FileNotFoundError if there is no run, ValueError if its settings
    cannot be read.
    """
    run = RunFolder(path)
    if not path.is_dir():
        raise FileNotFoundError(f"there is no run folder {path}; '{made_by}' makes one and prints its name")
    if not run.config.is_file():
        raise FileNotFoundError(f"{path} is not a run folder: it has no {run.config.name}")
    record = read_json(run.config)
    try:
        found, data = record["format"], record["config"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{run.config} is not the config.json of a run: it lacks format and config") from error
    if found != FORMAT:
        raise ValueError(f"{run.config} has format {found!r}, this version of metarl reads format {FORMAT}")
    return run, data


def note_resumption(run: RunFolder, config: dict[str, Any], command: str, iteration: int) -> None:
    """Note in a run's settings that it goes on from an iteration, perhaps for a new total of iterations."""
    record = read_json(run.config)
    resumed = record.get("resumed", [])
    resumed.append({"iteration": iteration, "command": command, "versions": versions()})
    try:
        write_atomic(run.config, json_text({**record, "config": config, "resumed": resumed}))
    except OSError as error:
        raise OSError(
            f"cannot write {run.config}: {error.strerror or error}; the one before it is untouched"
        ) from error


@contextmanager
def exclusive(run: RunFolder) -> Iterator[None]:
    """Keep other processes from training in the same folder; the system lifts the lock when this one ends, however.

    Files that an earlier process was killed while writing are removed. ValueError if the folder is in use.
    """
    handle = os.open(run.path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{run.path} is being trained by another process; wait for it or stop it") from None
        except OSError:  # a file system without locks
            pass
        for folder in (run.path, run.policy):
            for leftover in folder.glob(f"{TEMPORARY}*"):
                leftover.unlink(missing_ok=True)
        yield
    finally:
        os.close(handle)


def with_total(config: Config, iterations: int | None, done: int, path: Path) -> Config:
    """Settings of a run with another total of iterations, None for as planned. ValueError if more are done already."""
    if iterations is None:
        return config
    if iterations < done:
        raise ValueError(f"iterations is {iterations}, but {path} has done {done}; give at least that many")
    return dataclasses.replace(config, iterations=iterations)
