"""What the commands that start from a trained run share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metarl.algorithms.maml_trpo import MetaParams
from metarl.checkpoint import TrainState
from metarl.config import TrainConfig
from metarl.envs import ProtocolName, TaskFamily, Tasks, family_names
from metarl.policies import GaussianMLP
from metarl.pretrained import pretrained_folder
from metarl.runs import RunFolder, open_run
from metarl.saved_policy import adaptation_config, load_policy
from metarl.train import load_state


@dataclass(frozen=True)
class LoadedRun:
    """A run with its environment, policy and last checkpoint; or an initialisation on its own."""

    folder: RunFolder
    """The run's folder, or the initialisation's."""
    config: TrainConfig
    family: TaskFamily
    policy: GaussianMLP
    state: TrainState

    def task(self, text: str) -> Tasks:
        """One task of the run's family from the command line."""
        try:
            return self.family.tasks.parse(text)
        except ValueError as error:
            raise ValueError(f"{self.config.env.name}: {error}") from None


def load_run(path: Path) -> LoadedRun:
    """Open a run folder and its checkpoint, or the policy folder of an initialisation.

    Errors say what is missing or damaged.
    """
    if (path / "model.safetensors").is_file():
        return _load_initialisation(path)
    run, config = open_run(path)
    state = load_state(run, config)
    family = config.env.make()
    return LoadedRun(run, config, family, config.policy.make(family, state.normaliser), state)


def policy_source(path: Path, pretrained: bool, protocol: ProtocolName | None, command: str, does: str) -> Path:
    """The folder that RUN and --pretrained --protocol name.

    command, does: for an error: its name, and what it does with a policy that ships.
    """
    if pretrained:
        return pretrained_folder(str(path), protocol)
    if protocol is not None:
        raise ValueError("--protocol goes with --pretrained only; a run has its own")
    if str(path) in family_names() and not path.exists():
        raise FileNotFoundError(
            f"there is no run folder {path}; 'metarl {command} {path} --pretrained' {does} a policy that ships"
        )
    return path


def _load_initialisation(path: Path) -> LoadedRun:
    saved = load_policy(path)
    config = adaptation_config(saved, str(path))
    assert saved.step_size is not None  # adaptation_config refuses those without
    state = TrainState(
        iteration=int(_count(saved.record, "iterations", path)),
        meta=MetaParams(saved.theta, saved.step_size),
        env_steps=int(_count(saved.record, "env_steps", path)),
        wall_s=float(_count(saved.record, "wall_s", path)),
        normaliser=saved.network.normaliser,
    )
    return LoadedRun(RunFolder(path), config, config.env.make(), saved.network, state)


def _count(record: dict[str, Any], name: str, path: Path) -> int | float:
    value = record.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"the policy in {path} is damaged: {name} is {value!r}; make it anew")
    return value
