"""The training state on disk: atomic, checked when read, and free of pickled code."""

from __future__ import annotations

import io
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from metarl.policies import ObsNormaliser, normaliser_from_tensors

from .algorithms.maml_trpo import MetaParams

FORMAT = 1


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
    content["crc"] = _crc(content)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    temporary = path.with_name(f".{path.name}.tmp{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            f"cannot write the checkpoint {path}: {error.strerror or error}; the one before it is untouched"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path, env_name: str, protocol: str, n_params: int) -> TrainState:
    """Read a checkpoint of this environment.

    Raises FileNotFoundError if there is none, ValueError if it is damaged, of another environment or another policy.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}; the run stopped before its first one")
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        found = (content["env"], content["protocol"])
        theta, step_size = content["theta"], content["step_size"]
        state = TrainState(
            iteration=int(content["iteration"]),
            meta=MetaParams(theta, step_size),
            env_steps=int(content["env_steps"]),
            wall_s=float(content["wall_s"]),
            normaliser=normaliser_from_tensors(content["obs_mean"], content["obs_std"])
            if len(content["obs_mean"])
            else None,
        )
        intact = content["format"] == FORMAT and content["crc"] == _crc(content)
    except OSError:
        raise
    except Exception as error:  # torch raises many kinds for a damaged or foreign file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"the checkpoint {path} is damaged or not one of metarl's: {reason}") from error
    if not intact:
        raise ValueError(f"the checkpoint {path} is damaged: its checksum does not match")
    if found != (env_name, protocol):
        raise ValueError(
            f"the checkpoint {path} is of {found[0]} ({found[1]}), not of {env_name} ({protocol}); "
            "it does not belong to this run"
        )
    if theta.shape != (n_params,):
        raise ValueError(
            f"the checkpoint {path} holds {theta.numel()} policy parameters, this run's policy has {n_params}"
        )
    return state


def _crc(content: dict[str, Any]) -> int:
    crc = 0
    for name in ("theta", "step_size", "obs_mean", "obs_std"):
        crc = zlib.crc32(content[name].detach().contiguous().numpy().tobytes(), crc)
    return zlib.crc32(repr([content[name] for name in ("iteration", "env_steps", "wall_s")]).encode(), crc)
