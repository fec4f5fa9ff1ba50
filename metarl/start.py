"""Where meta-training starts from when not from random weights: another policy, ours or Stable-Baselines3's.

A policy that observes the goal (an oracle) starts one that does not if that one has a context of the goal's length:
the goal becomes the context, which adaptation moves (`goal_as_context`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from metarl.envs import TaskFamily
from metarl.policies import GaussianMLP, goal_as_context
from metarl.policies.sb3_zip import gaussian_mlp_from_zip

from .baselines import baseline_command, baseline_folder
from .config import PolicyConfig, TrainConfig
from .saved_policy import load_policy


def with_start(config: TrainConfig) -> TrainConfig:
    """The settings with the checksum of the policy that they start from, which is read and checked.

    Raises FileNotFoundError if there is none, ValueError if it does not fit the environment or the policy's settings.
    """
    if not config.init:
        if config.init_scaling:
            raise ValueError("init_scaling goes with init, which is not given")
        if config.init_min_std:
            raise ValueError("init_min_std goes with init, which is not given; without it, set policy.init_std")
        return config
    load_start(config, config.env.make())
    return dataclasses.replace(config, init_sha256=_digest(config))


def load_start(config: TrainConfig, family: TaskFamily) -> tuple[GaussianMLP, Float[Tensor, " P"]]:
    """The policy that `config.init` names, as it is when meta-training begins.

    Raises as `with_start`, and ValueError if the files are not those of the recorded checksum.
    """
    path = Path(config.init)
    if start_changed(config):
        raise ValueError(f"{path} is not the policy that this run was started with; put it back, or start a new run")
    if path.is_dir():
        if config.init_scaling:
            raise ValueError("init_scaling goes with a zip only; a policy folder has its own scaling")
        saved = load_policy(path)
        network, theta = saved.network, saved.theta
    elif path.exists():
        scaling = Path(config.init_scaling) if config.init_scaling else None
        network, theta = gaussian_mlp_from_zip(path, scaling)
    else:
        raise FileNotFoundError(_missing(config))
    goal_dim = family.spec.goal_dim
    if network.obs_dim == family.spec.obs_dim + goal_dim and config.policy.context_dim == goal_dim:
        network, theta = goal_as_context(network, theta, goal_dim, config.policy.context_scale, config.policy.guess_std)
    _check_fits(network, config.policy, family, path)
    if config.init_min_std:
        theta = _with_min_std(network, theta, config.init_min_std)
    return network, theta


def _with_min_std(network: GaussianMLP, theta: Float[Tensor, " P"], std: float) -> Float[Tensor, " P"]:
    """theta with a standard deviation of each action of at least so much; if it has guesses, only with these."""
    named = network.layout.unflatten(theta)
    name = network.log_std_name(network.guess_dim > 0)
    return network.layout.flatten({**named, name: named[name].clamp(min=math.log(std))})


def _missing(config: TrainConfig) -> str:
    """What to do about a start that is not there."""
    oracle = dataclasses.replace(config.env, oracle=True)
    if Path(config.init) == baseline_folder("oracle", oracle):
        return f"there is no oracle {config.init} to start from; make it with '{baseline_command('oracle', oracle)}'"
    return f"there is no policy {config.init} to start from; give a policy folder or a zip of SB3's PPO"


def _check_fits(network: GaussianMLP, wanted: PolicyConfig, family: TaskFamily, path: Path) -> None:
    """ValueError that says which options would make it fit."""
    found, needed = (network.obs_dim, network.act_dim), (family.spec.obs_dim, family.spec.act_dim)
    if found == (needed[0] + family.spec.goal_dim, needed[1]):
        raise ValueError(
            f"{path} observes the goal, which {family.name} does not show; to make the goal a context that adaptation "
            f"moves, give also --policy.context-dim {family.spec.goal_dim}"
        )
    if found != needed:
        raise ValueError(
            f"{path} has {found[0]} observations and {found[1]} actions, but {family.name} has {needed[0]} and "
            f"{needed[1]}; choose a policy of this environment"
        )
    options = []
    if network.hidden_sizes != wanted.hidden_sizes:
        options.append(f"--policy.hidden-sizes {' '.join(map(str, network.hidden_sizes))}")
    if network.activation != wanted.activation:
        options.append(f"--policy.activation {network.activation}")
    if (network.normaliser is not None) != wanted.normalise_obs:
        options.append("--policy.no-normalise-obs" if wanted.normalise_obs else "--policy.normalise-obs")
    if network.context_dim != wanted.context_dim:
        options.append(f"--policy.context-dim {network.context_dim}")
    if network.context_scale != wanted.context_scale:
        options.append(f"--policy.context-scale {network.context_scale:g}")
    if network.guess_std != wanted.guess_std:
        options.append(f"--policy.guess-std {network.guess_std:g}")
    if options:
        raise ValueError(f"{path} is a policy of other settings than this run's; give also {' '.join(options)}")


def start_changed(config: TrainConfig) -> bool:
    """Whether the files that a run starts from are no longer those of its checksum. OSError if they cannot be read."""
    return bool(config.init_sha256) and _digest(config) != config.init_sha256


def _digest(config: TrainConfig) -> str:
    """Checksum of what is read."""
    path = Path(config.init)
    total = hashlib.sha256()
    try:
        if path.is_dir():
            folder = path if (path / "model.safetensors").exists() else path / "policy"
            files = [folder / "model.safetensors", folder / "config.json"]
        else:
            files = [path, *([Path(config.init_scaling)] if config.init_scaling else [])]
        for file in files:
            total.update(file.read_bytes())
    except OSError as error:
        raise type(error)(f"cannot read {path}, from which the run starts: {error.strerror or error}") from error
    return total.hexdigest()
