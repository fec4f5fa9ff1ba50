"""The training state on disk: atomic, checked when read, and free of pickled code."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
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

    def to(self, device: torch.device) -> TrainState:
        """The same with its tensors on a device."""
        meta = MetaParams(self.meta.theta.to(device), self.meta.step_size.to(device))
        moments = self.optimiser
        if moments is not None:
            moments = AdamState(moments.first.to(device), moments.second.to(device), moments.n_steps)
        return replace(self, meta=meta, optimiser=moments)


def save_checkpoint(path: Path, state: TrainState, env_name: str, protocol: str) -> None:
    """Write a checkpoint; the file at path is the old one or the whole new one at any moment. OSError if it cannot."""
    content = {"format": FORMAT, "env": env_name, "protocol": protocol, **_content(state)}
    write_checkpoint(path, content, _parts(content))


def state_to_bytes(state: TrainState) -> bytes:
    """A state for another process."""
    buffer = io.BytesIO()
    torch.save(_content(state), buffer)
    return buffer.getvalue()


def state_from_bytes(data: bytes) -> TrainState:
    """The state that `state_to_bytes` wrote, on the CPU."""
    return _state(torch.load(io.BytesIO(data), weights_only=True))


def _content(state: TrainState) -> dict[str, Any]:
    state = state.to(torch.device("cpu"))
    content = {
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
    return content


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
    theta, step_size = content["theta"], content["step_size"]
    if theta.shape != (n_params,) or step_size.shape not in ((), theta.shape):
        raise ValueError(
            f"the checkpoint {path} holds {theta.numel()} policy parameters, this run's policy has {n_params}"
        )
    return _state(content)


def _state(content: dict[str, Any]) -> TrainState:
    mean, std = content["obs_mean"], content["obs_std"]
    return TrainState(
        iteration=content["iteration"],
        meta=MetaParams(content["theta"], content["step_size"]),
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
