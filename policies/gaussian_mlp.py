"""The Gaussian MLP policy of Finn et al. 2017: a mean network and a state-independent log standard deviation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from .normaliser import ObsNormaliser
from .params import ParamLayout

Activation = Literal["tanh", "relu"]

# MKL's last bit depends on whether a matrix starts at a multiple of 64 bytes. With every layer as wide as a multiple of
# 16 floats (the rest zeros) all matrices of a stack do, and a task's actions do not depend on its place in it.
ALIGNED_FLOATS = 16


@dataclass(frozen=True)
class GaussianMLP:
    """mean = W_L phi(... phi(W_0 obs + b_0) ...) + b_L,  std = exp(max(log_std, min_log_std)).

    All parameters, log_std included, are adapted in the inner loop, as in the paper. Where log_std lies below the
    floor its gradient is zero.
    """

    obs_dim: int
    act_dim: int
    hidden_sizes: tuple[int, ...] = (100, 100)
    activation: Activation = "tanh"
    init_log_std: float = 0.0
    """Initial log standard deviation; actions are in [-1, 1]."""
    min_log_std: float = math.log(1e-6)
    """Floor of the log standard deviation."""
    output_scale: float = 1.0
    """Factor on the initial weights of the last layer; near 0, the initial mean action is near 0 everywhere."""
    normaliser: ObsNormaliser | None = None
    """Scaling of the observation before the first layer; None for raw observations."""

    def __post_init__(self) -> None:
        if self.activation not in ("tanh", "relu"):
            raise ValueError(f"unknown activation {self.activation!r}; allowed: tanh, relu")
        if not self.hidden_sizes or min(self.hidden_sizes) < 1:
            raise ValueError(f"hidden sizes {self.hidden_sizes} must be one or more positive numbers")

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Layer widths from observation to action."""
        return (self.obs_dim, *self.hidden_sizes, self.act_dim)

    @cached_property
    def layout(self) -> ParamLayout:
        entries: list[tuple[str, tuple[int, ...]]] = []
        for i, (n_in, n_out) in enumerate(zip(self.sizes[:-1], self.sizes[1:], strict=True)):
            entries += [(f"weight_{i}", (n_in, n_out)), (f"bias_{i}", (n_out,))]
        return ParamLayout((*entries, ("log_std", (self.act_dim,))))

    def init(self, generator: torch.Generator) -> Float[Tensor, " P"]:
        """Xavier-uniform weights (Glorot and Bengio 2010), zero biases: with output_scale 1 the paper's."""
        named = {}
        last = f"weight_{len(self.sizes) - 2}"
        for name, shape in self.layout.entries:
            if name.startswith("weight"):
                bound = math.sqrt(6.0 / sum(shape)) * (self.output_scale if name == last else 1.0)
                named[name] = (2 * torch.rand(shape, generator=generator) - 1) * bound
            else:
                named[name] = torch.full(shape, self.init_log_std if name == "log_std" else 0.0)
        return self.layout.flatten(named)

    def distribution(
        self, params: Float[Tensor, "task P"], obs: Float[Tensor, "task batch obs"]
    ) -> tuple[Float[Tensor, "task batch act"], Float[Tensor, "task act"]]:
        named = self.layout.unflatten(params)
        h = self.inputs(obs)
        n_layers = len(self.sizes) - 1
        for i in range(n_layers):
            h = torch.baddbmm(named[f"bias_{i}"].unsqueeze(-2), h, named[f"weight_{i}"])
            if i < n_layers - 1:
                h = torch.tanh(h) if self.activation == "tanh" else torch.relu(h)
        return h, self.effective_log_std(named["log_std"])

    def inputs(self, obs: Float[Tensor, "*batch obs"]) -> Float[Tensor, "*batch obs"]:
        """What the first layer sees."""
        return obs if self.normaliser is None else self.normaliser(obs)

    def effective_log_std(self, log_std: Float[Tensor, "*task act"]) -> Float[Tensor, "*task act"]:
        """The log standard deviation with its floor."""
        return log_std.clamp(min=self.min_log_std)

    def actor(
        self, params: Float[Tensor, "task P"]
    ) -> Callable[[Float[Tensor, "task env obs"]], Float[Tensor, "task env act"]]:
        named = self.layout.unflatten(params.detach())
        n_layers = len(self.sizes) - 1
        padding = [-size % ALIGNED_FLOATS for size in self.sizes]
        weights = [pad(named[f"weight_{i}"], (0, padding[i + 1], 0, padding[i])) for i in range(n_layers)]
        biases = [pad(named[f"bias_{i}"], (0, padding[i + 1])).unsqueeze(-2) for i in range(n_layers)]

        def mean(obs: Tensor) -> Tensor:
            h = pad(self.inputs(obs), (0, padding[0]))
            for i in range(n_layers):
                h = torch.baddbmm(biases[i], h, weights[i])
                if i < n_layers - 1:
                    activate_(h, self.activation)
            return h[..., : self.act_dim]

        return mean


def activate_(z: Tensor, activation: Activation) -> Tensor:
    """Apply the activation to a CPU tensor in place, without gradients."""
    if activation == "relu":
        return torch.relu_(z)
    if z.device.type == "cpu":
        # numpy's vectorised tanh is 7 times faster than torch's on CPUs with AVX-512 (37 against 253 us for 1e5).
        array = z.numpy()
        np.tanh(array, out=array)
        return z
    return z.tanh_()
