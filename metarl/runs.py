"""A run folder: resolved settings, metrics, checkpoint, policy, evaluation and videos of one training run."""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config import TrainConfig, config_from_dict, config_to_dict

FORMAT = 1
_TEMPORARY = ".metarl-tmp-"


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


def create_run(path: Path, config: TrainConfig, command: str) -> RunFolder:
    """Make a new run folder and write its settings.

    Raises ValueError if a run is there already (nothing of it is touched), OSError if the folder cannot be written.
    """
    run = RunFolder(path)
    record = {
        "format": FORMAT,
        "config": config_to_dict(config),
        "seed": config.seed,
        "command": command,
        "versions": versions(),
    }
    try:
        path.mkdir(parents=True, exist_ok=True)
        with exclusive(run):  # two processes that start at once get one folder each, or an error
            if run.config.exists():
                raise ValueError(
                    f"{path} holds a run already; continue it with 'metarl train --resume {path}' "
                    "or choose another --out"
                )
            write_atomic(run.config, json_text(record))
    except OSError as error:
        raise OSError(
            f"cannot write the run folder {path}: {error.strerror or error}; choose another with --out"
        ) from error
    return run


def open_run(path: Path) -> tuple[RunFolder, TrainConfig]:
    """An existing run folder and its settings.

    Raises FileNotFoundError if there is no run, ValueError if its settings cannot be read.
    """
    run = RunFolder(path)
    if not path.is_dir():
        raise FileNotFoundError(f"there is no run folder {path}; 'metarl train' makes one and prints its name")
    if not run.config.is_file():
        raise FileNotFoundError(f"{path} is not a run folder: it has no {run.config.name}")
    record = read_json(run.config)
    try:
        found, data = record["format"], record["config"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{run.config} is not the config.json of a run: it lacks format and config") from error
    if found != FORMAT:
        raise ValueError(f"{run.config} has format {found!r}, this version of metarl reads format {FORMAT}")
    return run, config_from_dict(TrainConfig(), data, str(run.config))


def record_resumption(run: RunFolder, config: TrainConfig, command: str, iteration: int) -> None:
    """Note in a run's settings that it goes on from an iteration, perhaps for a new total of iterations."""
    record = read_json(run.config)
    resumed = record.get("resumed", [])
    resumed.append({"iteration": iteration, "command": command, "versions": versions()})
    try:
        write_atomic(run.config, json_text({**record, "config": config_to_dict(config), "resumed": resumed}))
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
            for leftover in folder.glob(f"{_TEMPORARY}*"):
                leftover.unlink(missing_ok=True)
        yield
    finally:
        os.close(handle)


def versions() -> dict[str, str]:
    """Versions of what decides a run's numbers."""
    packages = ("metarl", "torch", "mujoco", "gymnasium", "numpy", "stable-baselines3")
    out = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **out, "platform": platform.platform()}


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that at any moment there is the old one or the whole new one, even after a power cut."""
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def json_text(value: Any) -> str:
    """Indented JSON. Numbers that JSON does not have (NaN: the interval of a single task) become null."""
    return json.dumps(finite(value), indent=2, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """Nested plain values with None in place of NaN and infinities."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> Any:
    """Parsed JSON; ValueError names a damaged file."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # broken JSON, broken UTF-8, nested without end
        raise ValueError(f"{path} is damaged ({error}); restore it from a copy or make it anew") from error
