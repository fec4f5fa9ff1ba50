"""The training state on disk: atomic, checked when read, and free of pickled code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from metarl.policies import ObsNormaliser, normaliser_from_tensors

from .adam import AdamState
from .algorithms.maml import MetaParams, OptimiserState
from .checkpoint_file import read_checkpoint, write_checkpoint

FORMAT = 1
_TENSORS = ("theta", "step_size", "obs_mean", "obs_std")
_FACTS = ("iteration", "env_steps", "wall_s")
# Only where the algorithm has them.
_ADAM_TENSORS, _ADAM_FACTS = ("adam_first", "adam_second"), ("adam_steps",)


@dataclass(frozen=True)
class TrainState:
    """Everything a run needs to go on; random numbers follow from the seed and the iteration."""

    iteration: int
    """Outer updates done."""
    meta: MetaParams
    env_steps: int
    """Environment steps taken so far."""
    wall_s: float
    """Wall time spent in iterations so far (s)."""
    normaliser: ObsNormaliser | None = None
    """Observation scaling of the policy."""
    optimiser: OptimiserState = None
    """Moments of the outer optimiser; None before the first update and for algorithms without one."""


def save_checkpoint(path: Path, state: TrainState, env_name: str, protocol: str) -> None:
    """Write a checkpoint; the file at path is the old one or the whole new one at any moment. OSError if it cannot."""
    content = {
        "format": FORMAT,
        "env": env_name,
        "protocol": protocol,
        "iteration": state.iteration,
        "env_steps": state.env_steps,
        "wall_s": state.wall_s,
        "theta": state.meta.theta,
        "step_size": state.meta.step_size,
        "obs_mean": torch.tensor(state.normaliser.mean if state.normaliser else ()),
        "obs_std": torch.tensor(state.normaliser.std if state.normaliser else ()),
    }
    if state.optimiser is not None:
        content["adam_first"], content["adam_second"] = state.optimiser.first, state.optimiser.second
        content["adam_steps"] = state.optimiser.n_steps
    write_checkpoint(path, content, _parts(content))


def load_checkpoint(path: Path, env_name: str, protocol: str, n_params: int) -> TrainState:
    """Read a checkpoint of this environment.

    Raises FileNotFoundError if there is none, ValueError if it is damaged, of another environment or another policy.
    Nothing in the file is ever executed.
    """
    content = read_checkpoint(path, FORMAT, ("env", "protocol"), _parts)
    found = (content["env"], content["protocol"])
    if found != (env_name, protocol):
        raise ValueError(
            f"the checkpoint {path} is of {found[0]} ({found[1]}), not of {env_name} ({protocol}); "
            "it does not belong to this run"
        )
    theta, step_size, mean, std = (content[name] for name in _TENSORS)
    if theta.shape != (n_params,) or step_size.shape not in ((), theta.shape):
        raise ValueError(
            f"the checkpoint {path} holds {theta.numel()} policy parameters, this run's policy has {n_params}"
        )
    return TrainState(
        iteration=content["iteration"],
        meta=MetaParams(theta, step_size),
        env_steps=content["env_steps"],
        wall_s=content["wall_s"],
        normaliser=normaliser_from_tensors(mean, std) if len(mean) else None,
        optimiser=(
            AdamState(content["adam_first"], content["adam_second"], content["adam_steps"])
            if "adam_steps" in content
            else None
        ),
    )


def _parts(content: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the tensors and of the numbers that a checkpoint holds."""
    has_adam = any(name in content for name in (*_ADAM_TENSORS, *_ADAM_FACTS))
    return (_TENSORS + _ADAM_TENSORS, _FACTS + _ADAM_FACTS) if has_adam else (_TENSORS, _FACTS)
