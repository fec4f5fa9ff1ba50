"""What the commands that start from a trained run share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metarl.checkpoint import TrainState
from metarl.config import TrainConfig
from metarl.envs import Family, Tasks
from metarl.policies import GaussianMLP
from metarl.runs import RunFolder, open_run
from metarl.train import load_state


@dataclass(frozen=True)
class LoadedRun:
    """A run with its environment, policy and last checkpoint."""

    folder: RunFolder
    config: TrainConfig
    family: Family
    policy: GaussianMLP
    state: TrainState

    def task(self, text: str) -> Tasks:
        """One task of the run's family from the command line."""
        try:
            return self.family.tasks.parse(text)
        except ValueError as error:
            raise ValueError(f"{self.config.env.name}: {error}") from None


def load_run(path: Path) -> LoadedRun:
    """Open a run folder and its checkpoint; errors say what is missing or damaged."""
    run, config = open_run(path)
    state = load_state(run, config)
    family = config.env.make()
    return LoadedRun(run, config, family, config.policy.make(family, state.normaliser), state)


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
