"""A run folder: resolved settings, metrics, checkpoint, policy, evaluation and videos of one training run."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config import TrainConfig, config_from_dict, config_to_dict

FORMAT = 1


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
    def evaluation(self) -> Path:
        return self.path / "evaluation.json"


def create_run(path: Path, config: TrainConfig, command: str) -> RunFolder:
    """Make a new run folder and write its settings.

    Raises ValueError if a run is there already (nothing of it is touched), OSError if the folder cannot be written.
    """
    run = RunFolder(path)
    if run.config.exists():
        raise ValueError(
            f"{path} holds a run already; continue it with 'metarl train --resume {path}' or choose another --out"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        record = {
            "format": FORMAT,
            "config": config_to_dict(config),
            "command": command,
            "versions": versions(),
        }
        write_atomic(run.config, json.dumps(record, indent=2) + "\n")
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
    try:
        record = json.loads(run.config.read_text())
        found = record["format"]
        data = record["config"]
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{run.config} is damaged ({error}); restore it or train again") from error
    if found != FORMAT:
        raise ValueError(f"{run.config} has format {found}, this version of metarl reads format {FORMAT}")
    return run, config_from_dict(TrainConfig(), data, str(run.config))


def versions() -> dict[str, str]:
    """Versions of what decides a run's numbers."""
    packages = ("metarl", "torch", "mujoco", "gymnasium", "numpy", "stable-baselines3")
    out = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **out, "platform": platform.platform()}


def write_atomic(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old one or the whole new one."""
    temporary = path.with_name(f".{path.name}.tmp{os.getpid()}")
    try:
        with open(temporary, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Parsed JSON; ValueError names a damaged file."""
    try:
        return json.loads(path.read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
