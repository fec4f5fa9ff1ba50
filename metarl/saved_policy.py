"""A policy as a folder: `model.safetensors` and `config.json`. Three lines load it, act, and step its environment."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from metarl.envs.registration import gym_id
from metarl.policies import GaussianMLP, normaliser_from_tensors

from .config import EnvConfig, PolicyConfig, TrainConfig, config_from_dict, config_to_dict
from .runs import finite, json_text, read_json, versions, write_atomic

FORMAT = 1
# Settings of a run that decide how its initialisation adapts, beside the environment and the policy.
_FOR_ADAPTING = ("algo", "meta_batch", "trajectories", "seed")


def save_policy(
    folder: Path,
    config: TrainConfig,
    policy: GaussianMLP,
    theta: Float[Tensor, " P"],
    *,
    task: np.ndarray | None = None,
    step_size: Tensor | None = None,
    extra: dict[str, Any] | None = None,
) -> None:
    """Write parameters and what is needed to use them; for an initialisation also what is needed to adapt it.

    task: the goal the policy was adapted to, None for an initialisation. step_size: the inner step size, () or (P,),
    for an initialisation. extra: more facts for config.json.
    """
    named = {name: value.contiguous().clone() for name, value in policy.layout.unflatten(theta.detach()).items()}
    if policy.normaliser is not None:
        named["obs_mean"] = torch.tensor(policy.normaliser.mean)
        named["obs_std"] = torch.tensor(policy.normaliser.std)
    if step_size is not None:
        named["inner_step_size"] = step_size.detach().clone()
    model = save(named)
    settings = config_to_dict(config)
    for_adapting = {} if task is not None else {name: settings[name] for name in _FOR_ADAPTING}
    record = {
        "format": FORMAT,
        "kind": "initialisation" if task is None else "adapted policy",
        "env": settings["env"],
        "policy": settings["policy"],
        **for_adapting,
        "task": None if task is None else [float(g) for g in task],
        **(extra or {}),
        "model_sha256": hashlib.sha256(model).hexdigest(),
        "versions": versions(),
    }
    record = finite(record)
    record["record_sha256"] = _record_digest(record)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "model.safetensors", model)
        write_atomic(folder / "config.json", json_text(record))
    except OSError as error:
        raise OSError(f"cannot write the policy folder {folder}: {error.strerror or error}") from error


@dataclass(frozen=True)
class SavedPolicy:
    """A loaded policy."""

    env: EnvConfig
    network: GaussianMLP
    theta: Float[Tensor, " P"]
    task: np.ndarray | None
    """The goal it was adapted to, or None for an initialisation."""
    step_size: Tensor | None
    """Inner step size of an initialisation."""
    record: dict[str, Any]
    """config.json."""

    def act(
        self, obs: Float[np.ndarray, "*batch obs"], rng: np.random.Generator | None = None
    ) -> Float[np.ndarray, "*batch act"]:
        """Actions in [-1, 1], float32: the mean, or with a generator a sample, clipped.

        obs: one observation (obs,) or a batch (n, obs). ValueError if its length is not the environment's.
        """
        array = np.asarray(obs, dtype=np.float32)
        if array.ndim == 0 or array.shape[-1] != self.network.obs_dim:
            raise ValueError(f"observation has shape {array.shape}, expected (..., {self.network.obs_dim})")
        flat = torch.from_numpy(np.ascontiguousarray(array.reshape(1, -1, self.network.obs_dim)))
        with torch.no_grad():
            mean, log_std = self.network.distribution(self.theta[None], flat)
        action = mean[0].numpy()
        if rng is not None:
            action = action + log_std[0].exp().numpy() * rng.standard_normal(action.shape, dtype=np.float32)
        return np.clip(action, -1.0, 1.0).reshape(*array.shape[:-1], self.network.act_dim)

    def make_env(self, **kwargs: Any) -> gymnasium.Env[np.ndarray, np.ndarray]:
        """The Gymnasium environment of its task; keywords go to `gymnasium.make` (render_mode="rgb_array")."""
        options = {"protocol": self.env.protocol, "oracle": self.env.oracle, "task": self.task, **kwargs}
        if self.env.horizon:
            options.setdefault("horizon", self.env.horizon)
        return gymnasium.make(gym_id(self.env.name), **options)


def load_policy(folder: str | Path) -> SavedPolicy:
    """Load a policy folder, or the policy of a run folder.

    Raises FileNotFoundError if there is none, ValueError if it is damaged.
    """
    path = Path(folder)
    if not (path / "model.safetensors").exists() and (path / "policy").is_dir():
        path = path / "policy"
    if not (path / "model.safetensors").is_file() or not (path / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} is no policy folder: it needs model.safetensors and config.json, as 'metarl adapt' writes them"
        )
    record = read_json(path / "config.json")
    try:
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']!r} is unknown; this version of metarl reads {FORMAT}")
        return _policy_from(record, (path / "model.safetensors").read_bytes())
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, SafetensorError) as error:
        reason = f"config.json lacks {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"the policy in {path} is damaged: {reason}; make it anew") from error


def adaptation_config(policy: SavedPolicy, where: str) -> TrainConfig:
    """The settings that an initialisation was trained with, as far as they decide how it adapts.

    where: its folder, for errors. ValueError for a policy that is adapted already or lacks the settings.
    """
    if policy.step_size is None or policy.task is not None:
        raise ValueError(
            f"the policy in {where} is adapted to a task already; give the run or the initialisation it was made from"
        )
    if "algo" not in policy.record:
        raise ValueError(
            f"the policy in {where} lacks the settings for adaptation, since an older metarl wrote it; give its run "
            "folder, or write it anew with 'metarl train --resume'"
        )
    settings = {name: policy.record[name] for name in ("env", "policy", *_FOR_ADAPTING) if name in policy.record}
    return config_from_dict(TrainConfig(), settings, f"{where}: config.json")


def _record_digest(record: dict[str, Any]) -> str:
    """Checksum of all the facts in config.json, however they are laid out."""
    facts = {key: value for key, value in record.items() if key != "record_sha256"}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _policy_from(record: dict[str, Any], model: bytes) -> SavedPolicy:
    if "record_sha256" in record and record["record_sha256"] != _record_digest(record):  # older ones have none
        raise ValueError("config.json was changed after it was written")
    if record.get("model_sha256", (digest := hashlib.sha256(model).hexdigest())) != digest:
        raise ValueError("model.safetensors is not the one that config.json was written for")
    env = config_from_dict(EnvConfig(), record["env"], "env")
    family = env.make()
    named = load(model)
    for name, value in named.items():
        if value.dtype != torch.float32 or not bool(value.isfinite().all()):
            raise ValueError(f"{name} must hold finite float32 numbers")
    mean, std = named.pop("obs_mean", None), named.pop("obs_std", None)
    normaliser = None
    if mean is not None and std is not None:
        if mean.shape != (family.spec.obs_dim,) or std.shape != mean.shape or not bool((std > 0).all()):
            raise ValueError(f"the scaling must be of {family.spec.obs_dim} observations, with std above 0")
        normaliser = normaliser_from_tensors(mean, std)
    network = config_from_dict(PolicyConfig(), record["policy"], "policy").make(family, normaliser)
    step_size = named.pop("inner_step_size", None)
    if step_size is not None and step_size.shape not in ((), (network.layout.size,)):
        raise ValueError(f"inner_step_size has shape {tuple(step_size.shape)}, expected () or one a parameter")
    task = None if record.get("task") is None else family.tasks.validate(record["task"]).goal[0]
    return SavedPolicy(env, network, network.layout.flatten(named), task, step_size, record)
