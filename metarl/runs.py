"""The run folder of meta-reinforcement learning: `metarl.run_folder` with a TrainConfig in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .config import TrainConfig, config_from_dict, config_to_dict
from .files import finite, json_text, read_json, versions, write_atomic
from .run_folder import FORMAT, RunFolder, create_folder, exclusive, note_resumption, open_folder

__all__ = [
    "FORMAT",
    "RunFolder",
    "create_run",
    "exclusive",
    "finite",
    "holds_run_of",
    "json_text",
    "open_run",
    "read_json",
    "record_resumption",
    "versions",
    "write_atomic",
]


def create_run(path: Path, config: TrainConfig, command: str) -> RunFolder:
    """Make a new run folder and write its settings; errors as in `create_folder`."""
    return create_folder(path, config_to_dict(config), config.seed, command, "metarl train --resume")


def open_run(path: Path) -> tuple[RunFolder, TrainConfig]:
    """An existing run folder and its settings; errors as in `open_folder`."""
    run, data = open_folder(path, "metarl train")
    if isinstance(data, dict) and "problem" in data:
        raise ValueError(
            f"{path} is a run of supervised learning; use 'metarl {data['problem']}' with it, not the commands of "
            "reinforcement learning"
        )
    return run, config_from_dict(TrainConfig(), data, str(run.config))


def holds_run_of(path: Path, config: TrainConfig) -> bool:
    """Whether a folder has a run with these settings, started by nobody knows whom."""
    try:
        _, found = open_run(path)
    except (OSError, ValueError):
        return False
    return replace(found, init_sha256=config.init_sha256) == config


def record_resumption(run: RunFolder, config: TrainConfig, command: str, iteration: int) -> None:
    """Note in a run's settings that it goes on from an iteration, perhaps for a new total of iterations."""
    note_resumption(run, config_to_dict(config), command, iteration)
