"""Stable-Baselines3's files read as data: a PPO zip and a VecNormalize pickle, without running what they contain.

`PPO.load` and `pickle.load` run code that a file brings along. Here weights come from torch's tensors-only reader, the
settings from the plain text beside the pickled ones, and the scaling from an unpickler that makes numpy arrays and
otherwise only inert records. Needs torch and numpy only.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .gaussian_mlp import Activation, GaussianMLP
from .normaliser import CLIP, ObsNormaliser, normaliser_from_tensors

MAX_BYTES = 500_000_000
_ACTIVATIONS: dict[str, Activation] = {"Tanh": "tanh", "ReLU": "relu"}
_LAYER = re.compile(r"mlp_extractor\.policy_net\.(\d+)\.weight")
# All that the pickled numbers and arrays of a VecNormalize need.
_NUMPY: dict[tuple[str, str], Any] = {("numpy", "dtype"): np.dtype, ("numpy", "ndarray"): np.ndarray}
for _core in ("numpy.core.multiarray", "numpy._core.multiarray"):  # the latter since numpy 2
    _NUMPY[_core, "_reconstruct"] = np.zeros(1).__reduce__()[0]
    _NUMPY[_core, "scalar"] = np.float64(0).__reduce__()[0]


def gaussian_mlp_from_zip(
    path: Path, scaling: Path | None = None, min_log_std: float = math.log(1e-6)
) -> tuple[GaussianMLP, Float[Tensor, " P"]]:
    """The actor of a zip that SB3's PPO, A2C or TRPO saved, and its parameters; the critic is left behind.

    scaling: the VecNormalize pickle that it was trained under; as in `gaussian_mlp_from_sb3`. min_log_std: floor of the
    policy that is made. OSError if a file cannot be read; ValueError if it is damaged, no such zip, or holds a policy
    of another kind.
    """
    settings, weights = _read_zip(path)
    try:
        return _actor(settings, weights, None if scaling is None else read_vec_normalize(scaling), min_log_std)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_vec_normalize(path: Path) -> tuple[ObsNormaliser, float] | None:
    """Scaling of a saved VecNormalize, and the factor its clip puts on the first layer's weights; None if it is off.

    OSError if the file cannot be read, ValueError if it is no VecNormalize.
    """
    try:
        facts = _DataUnpickler(io.BytesIO(path.read_bytes())).load().facts
        if not facts["norm_obs"]:
            return None
        factor = float(facts["clip_obs"]) / CLIP
        statistics = facts["obs_rms"].facts
        mean, variance = np.asarray(statistics["mean"], np.float64), np.asarray(statistics["var"], np.float64)
        std = factor * np.sqrt(variance + float(facts["epsilon"]))
        if mean.ndim != 1 or mean.shape != std.shape or not (np.isfinite(mean) & (std > 0) & np.isfinite(std)).all():
            raise ValueError("its statistics are no finite numbers, one for each observation")
        return normaliser_from_tensors(torch.from_numpy(mean).float(), torch.from_numpy(std).float()), factor
    except OSError:
        raise
    except Exception as error:  # a damaged or foreign pickle raises many kinds
        raise ValueError(f"{path} is no VecNormalize that Stable-Baselines3 saved ({error})") from error


class _Record:
    """Stands for whatever class a pickle names: keeps what it is given and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.facts: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.facts = state if isinstance(state, dict) else {}

    def __setitem__(self, key: Any, value: Any) -> None:
        """What a pickle does to a dictionary of its own kind."""

    def append(self, value: Any) -> None:
        """What it does to a list."""


class _DataUnpickler(pickle.Unpickler):
    """Numpy arrays and numbers; every other class or function that the pickle names is an inert record."""

    def find_class(self, module: str, name: str) -> Any:
        return _NUMPY.get((module, name), _Record)


def _read_zip(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise ValueError(f"it unpacks to more than {MAX_BYTES:,} bytes")
            settings = json.loads(archive.read("data"))
            weights = torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True, map_location="cpu")
        if not isinstance(settings, dict) or not isinstance(weights, dict):
            raise ValueError("it lacks settings or weights")
        return settings, {str(name): value for name, value in weights.items() if isinstance(value, Tensor)}
    except OSError:
        raise
    except Exception as error:  # zipfile, json and torch raise many kinds for a damaged or foreign file
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is damaged or no model that Stable-Baselines3 saved ({reason})") from error


def _actor(
    settings: dict[str, Any],
    weights: dict[str, Tensor],
    scaling: tuple[ObsNormaliser, float] | None,
    min_log_std: float,
) -> tuple[GaussianMLP, Float[Tensor, " P"]]:
    if "action_net.weight" not in weights or "log_std" not in weights:
        raise ValueError("it is no PPO, A2C or TRPO policy with a Gaussian over a Box of actions")
    if settings.get("use_sde") or weights["log_std"].ndim != 1:
        raise ValueError("its noise depends on the state; train it without use_sde")
    indices = sorted(int(found[1]) for name in weights if (found := _LAYER.fullmatch(name)))
    if not indices:
        raise ValueError("it has no hidden layer before its action")
    layers = [f"mlp_extractor.policy_net.{i}" for i in indices] + ["action_net"]
    normaliser, factor = scaling or (None, 1.0)
    inside = {name for name in weights if name.startswith(("features_extractor.", "pi_features_extractor."))}
    if inside:
        mean, std = (weights.get(f"features_extractor.scaling.{part}") for part in ("mean", "std"))
        if mean is None or std is None:
            raise ValueError("it has a features extractor of its own; train it with 'MlpPolicy'")
        if normaliser is not None:
            raise ValueError("it scales its observations itself; leave out the VecNormalize")
        normaliser = normaliser_from_tensors(mean, std)
    named: dict[str, Tensor] = {"log_std": weights["log_std"].float()}
    for i, layer in enumerate(layers):
        weight = weights[f"{layer}.weight"].float().T
        named[f"weight_{i}"] = weight * factor if i == 0 else weight
        named[f"bias_{i}"] = weights[f"{layer}.bias"].float()
    if not all(bool(value.isfinite().all()) for value in named.values()):
        raise ValueError("it has weights that are not finite")
    network = GaussianMLP(
        obs_dim=named["weight_0"].shape[0],
        act_dim=len(named["log_std"]),
        hidden_sizes=tuple(len(named[f"bias_{i}"]) for i in range(len(layers) - 1)),
        activation=_activation(settings),
        min_log_std=min_log_std,
        normaliser=normaliser,
    )
    if normaliser is not None and len(normaliser.mean) != network.obs_dim:
        raise ValueError(f"the scaling is of {len(normaliser.mean)} observations, the network takes {network.obs_dim}")
    return network, network.layout.flatten(named)


def _activation(settings: dict[str, Any]) -> Activation:
    """From the text that SB3 writes beside the pickled class; its default is tanh."""
    options = settings.get("policy_kwargs") or {}
    text = options.get("activation_fn", "Tanh") if isinstance(options, dict) else ""
    name = str(text).removesuffix("'>").rpartition(".")[2]
    if name not in _ACTIVATIONS:
        raise ValueError(f"its activation is {name}; needed is {' or '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]
