"""A policy's deterministic action as a plain `nn.Module`, to export."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .gaussian_mlp import Activation, GaussianMLP
from .normaliser import CLIP, ObsNormaliser

ACTIVATIONS: dict[Activation, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}


class DeterministicActor(nn.Module):
    """action = clip(mean(clip((obs - obs_mean) / obs_std, -5, 5)), -1, 1): (batch, obs) -> (batch, act), float32.

    Without a normaliser the mean is of the raw observation. What `SavedPolicy.act` computes without a generator.
    """

    def __init__(self, network: GaussianMLP, theta: Float[Tensor, " P"]) -> None:
        super().__init__()
        self.scaling = None if network.normaliser is None else Scaling(network.normaliser)
        layers: list[nn.Module] = []
        for i, layer in enumerate(linear_layers(network, theta)):
            layers += [layer] if i == 0 else [ACTIVATIONS[network.activation](), layer]
        self.layers = nn.Sequential(*layers)

    def forward(self, obs: Tensor) -> Tensor:
        """Clipped mean actions."""
        if self.scaling is not None:
            obs = self.scaling(obs)
        return self.layers(obs).clamp(-1.0, 1.0)


class Scaling(nn.Module):
    """The normaliser's arithmetic with its constants as buffers."""

    mean: Tensor
    std: Tensor

    def __init__(self, normaliser: ObsNormaliser) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(normaliser.mean))
        self.register_buffer("std", torch.tensor(normaliser.std))

    def forward(self, obs: Tensor) -> Tensor:
        """clip((obs - mean) / std, -5, 5)."""
        return ((obs - self.mean) * (1.0 / self.std)).clamp(-CLIP, CLIP)


def linear_layers(network: GaussianMLP, theta: Float[Tensor, " P"]) -> list[nn.Linear]:
    """The network's layers from observation to mean, in order; copies."""
    named = network.layout.unflatten(theta.detach())
    out = []
    for i, (n_in, n_out) in enumerate(zip(network.sizes[:-1], network.sizes[1:], strict=True)):
        layer = nn.utils.skip_init(nn.Linear, n_in, n_out)
        with torch.no_grad():
            layer.weight.copy_(named[f"weight_{i}"].T)
            layer.bias.copy_(network.bias(named, i))
        out.append(layer)
    return out
