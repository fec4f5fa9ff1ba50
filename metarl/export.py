"""A policy as a file for other programs: Stable-Baselines3, ONNX, PyTorch without metarl."""

from __future__ import annotations

import io
import json
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from metarl.policies import DeterministicActor
from metarl.policies.onnx_graph import onnx_model

from .runs import json_text, versions, write_atomic
from .saved_policy import SavedPolicy

Target = Literal["sb3", "onnx", "pt2", "torchscript"]
TARGETS: tuple[Target, ...] = get_args(Target)
SUFFIX: dict[Target, str] = {"sb3": ".zip", "onnx": ".onnx", "pt2": ".pt2", "torchscript": ".pt"}
ScalingPlace = Literal["inside", "beside"]


@dataclass(frozen=True)
class Exported:
    """Files that were written."""

    model: Path
    facts: Path
    """JSON: what the model takes and gives, and where it comes from."""
    scaling: Path | None = None
    """SB3's VecNormalize as a pickle, if the scaling of observations is not inside the model."""


def export_policy(
    policy: SavedPolicy,
    to: Target,
    out: Path,
    *,
    scaling: ScalingPlace = "inside",
    facts: dict[str, Any] | None = None,
) -> Exported:
    """Write the policy's deterministic action, obs -> clip(mean(obs), -1, 1), as one file; and a JSON beside it.

    sb3: a PPO zip, whose noise is ours too and whose critic is new; `PPO.load` reads it. onnx, pt2 (torch.export) and
    torchscript: (batch, obs) -> (batch, act) float32, the scaling of observations inside. Actions equal
    `SavedPolicy.act`'s up to float32 rounding.

    scaling: for sb3 only; see `metarl.policies.sb3_export.ppo_from_gaussian_mlp`. facts: more for the JSON.
    Raises ValueError for another suffix than the format's or a missing package, OSError if a file cannot be written.
    """
    if to not in TARGETS:
        raise ValueError(f"unknown format {to!r}; allowed: {', '.join(TARGETS)}")
    if out.suffix != SUFFIX[to]:
        raise ValueError(f"the file is {out}, but its name must end in {SUFFIX[to]} for {to}")
    if scaling != "inside" and to != "sb3":
        raise ValueError(f"scaling beside the model goes with sb3 only, not with {to}")
    spec = policy.env.make().spec
    record = {
        "format": to,
        "env": policy.env.name,
        "protocol": policy.env.protocol,
        "oracle": policy.env.oracle,
        "task": None if policy.task is None else policy.task.tolist(),
        "obs_dim": spec.obs_dim,
        "act_dim": spec.act_dim,
        "action": "mean, clipped to [-1, 1]",
        **(facts or {}),
        "versions": versions(),
    }
    pickled = None
    if to == "sb3":
        content, pickled = _sb3(policy, scaling)
    elif to == "onnx":
        content = _onnx(policy, record)
    else:
        content = _traced(policy, to)
    scaling_path = None if pickled is None else out.with_name(f"{out.stem}-vecnormalize.pkl")
    if scaling_path is not None:
        record["scaling"] = scaling_path.name
    written = Exported(out, out.with_name(f"{out.name}.json"), scaling_path)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out, content)
        if scaling_path is not None and pickled is not None:
            write_atomic(scaling_path, pickled)
        write_atomic(written.facts, json_text(record))
    except OSError as error:
        raise OSError(f"cannot write {out}: {error.strerror or error}; choose another with --out") from error
    return written


def _sb3(policy: SavedPolicy, scaling: ScalingPlace) -> tuple[bytes, bytes | None]:
    from metarl.envs.gym_env import single_spaces
    from metarl.policies.sb3_export import ppo_from_gaussian_mlp

    spec = policy.env.make().spec
    model, scaled = ppo_from_gaussian_mlp(
        policy.network, policy.theta, *single_spaces(spec), horizon=spec.horizon, scaling=scaling
    )
    buffer = io.BytesIO()
    model.save(buffer)
    return buffer.getvalue(), None if scaled is None else pickle.dumps(scaled)


def _onnx(policy: SavedPolicy, record: dict[str, Any]) -> bytes:
    try:
        return onnx_model(policy.network, policy.theta, {"metarl": json.dumps(record)})
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is not installed; 'pip install metarl[export]' installs it") from None


def _traced(policy: SavedPolicy, to: Target) -> bytes:
    actor = DeterministicActor(policy.network, policy.theta).eval()
    for parameter in actor.parameters():
        parameter.requires_grad_(False)
    example = torch.zeros(2, policy.network.obs_dim)
    buffer = io.BytesIO()
    if to == "pt2":
        batch = torch.export.Dim("batch", min=1)
        program = torch.export.export(actor, (example,), dynamic_shapes=({0: batch},))
        torch.export.save(program, buffer)
    else:
        with warnings.catch_warnings():
            # Deprecated in torch 2.13, but what programs in C++ without a compiler still load.
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            torch.jit.save(torch.jit.trace(actor, example), buffer)
    return buffer.getvalue()
