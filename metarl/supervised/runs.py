"""The run folder of supervised meta-learning: `metarl.run_folder` with a SupervisedConfig in it."""

from __future__ import annotations

from pathlib import Path

from metarl.run_folder import RunFolder, create_folder, note_resumption, open_folder

from .config import SupervisedConfig, config_from_dict, config_to_dict
from .datasets import of_problem


def create_run(path: Path, config: SupervisedConfig, command: str) -> RunFolder:
    """Make a new run folder and write its settings; errors as in `create_folder`."""
    resume_with = f"metarl {of_problem(config.dataset)} train --resume"
    return create_folder(path, config_to_dict(config), config.seed, command, resume_with)


def open_run(path: Path) -> tuple[RunFolder, SupervisedConfig]:
    """An existing run folder and its settings; errors as in `open_folder`."""
    run, data = open_folder(path, "metarl fewshot train")
    if not isinstance(data, dict) or "problem" not in data:
        raise ValueError(
            f"{path} is not a run of supervised learning; use 'metarl train' and 'metarl evaluate' with runs of "
            "reinforcement learning"
        )
    return run, config_from_dict(SupervisedConfig(), data, str(run.config))


def record_resumption(run: RunFolder, config: SupervisedConfig, command: str, iteration: int) -> None:
    """Note in a run's settings that it goes on from an iteration, perhaps for a new total of iterations."""
    note_resumption(run, config_to_dict(config), command, iteration)
