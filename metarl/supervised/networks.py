"""Networks over a task axis: pure functions of one flat parameter vector, shared by all tasks or one for each.

Every network can be called with params (P,) or (task, P) on x (task, example, *input). Its layout orders the vector as
shifts and scales of batch norm, then the body, then the head. So what a learner adapts is a suffix: all of it, all but
batch norm (Finn et al. 2017), or the head alone (ANIL).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from metarl.policies.params import ParamLayout

from .batch_norm import Moments, batch_norm

Params = Tensor | Mapping[str, Tensor]
"""A network's parameters: the flat vector, (P,) or (task, P), or its entries by name, each with a task axis or not."""


@runtime_checkable
class Network(Protocol):
    """A backbone and, unless outputs is None, a linear head."""

    @property
    def outputs(self) -> int | None:
        """Logits or regression values; None for a backbone that returns its features."""

    @property
    def feature_dim(self) -> int:
        """Length of a feature vector, what the head maps to outputs."""

    @property
    def layout(self) -> ParamLayout:
        """Entries of the flat vector: norm_names, then the body's, then head_names."""

    @property
    def norm_names(self) -> tuple[str, ...]:
        """Shifts and scales of batch norm."""

    @property
    def head_names(self) -> tuple[str, ...]:
        """Weight and bias of the head."""

    def init(self, generator: torch.Generator) -> Float[Tensor, " P"]:
        """New parameters."""

    def features(
        self, params: Params, x: Float[Tensor, "task example *input"], moments: Sequence[Moments] | None = None
    ) -> tuple[Float[Tensor, "task example feature"], tuple[Moments, ...]]:
        """Features, and the moments that each batch norm used: the examples' own where none are given."""

    def head(
        self, params: Params, features: Float[Tensor, "task example feature"]
    ) -> Float[Tensor, "task example out"]:
        """Outputs from features."""

    def __call__(
        self, params: Params, x: Float[Tensor, "task example *input"], moments: Sequence[Moments] | None = None
    ) -> Float[Tensor, "task example out"]:
        """Outputs, or features where there is no head."""


@runtime_checkable
class Resizable(Network, Protocol):
    """A network whose head can be of any size."""

    def with_outputs(self, outputs: int) -> Network:
        """The same backbone with a head of another size."""


def linear(
    x: Float[Tensor, "task row fan_in"],
    weight: Float[Tensor, "*per fan_in fan_out"],
    bias: Float[Tensor, "*each fan_out"],
) -> Float[Tensor, "task row fan_out"]:
    """x @ weight + bias with weights of all tasks, or one for each."""
    if weight.dim() == 3:
        bias = bias if bias.dim() == 1 else bias.unsqueeze(1)
        return torch.baddbmm(bias.expand(len(x), 1, -1), x, weight)
    out = x @ weight
    return out + (bias if bias.dim() == 1 else bias.unsqueeze(1))


def glorot_uniform(shape: tuple[int, ...], fan_in: int, fan_out: int, generator: torch.Generator) -> Tensor:
    """Uniform in +- sqrt(6 / (fan_in + fan_out)): Glorot and Bengio 2010, equation 16."""
    bound = math.sqrt(6 / (fan_in + fan_out))
    return (2 * torch.rand(shape, generator=generator) - 1) * bound


def truncated_normal(shape: tuple[int, ...], std: float, generator: torch.Generator) -> Tensor:
    """Normal of standard deviation std, cut at two of them (before the cut, as TensorFlow counts it)."""
    return torch.nn.init.trunc_normal_(torch.empty(shape), std=std, a=-2 * std, b=2 * std, generator=generator)


def named(layout: ParamLayout, params: Params) -> Mapping[str, Tensor]:
    """The entries by name."""
    return layout.unflatten(params) if isinstance(params, Tensor) else params


@dataclass(frozen=True)
class MLP:
    """x -> ReLU layers -> linear head; with batch norm before each ReLU as an option.

    Source: Finn et al. 2017: 1-40-40-1 for sinusoids; 256-128-64-64 with batch norm for Omniglot without convolution.
    """

    input_dim: int
    """Length of an input after flattening its axes."""
    outputs: int | None
    hidden: tuple[int, ...] = (40, 40)
    norm: bool = False
    """Batch norm, a shift without scale, after each layer but the head."""
    scale: bool = False
    """Batch norm with a scale as well."""
    init_std: float = 0.01
    """Standard deviation of the initial weights (truncated normal); biases start at 0. Paper's code: 0.01."""

    @property
    def feature_dim(self) -> int:
        return self.hidden[-1]

    @cached_property
    def norm_names(self) -> tuple[str, ...]:
        return norm_names(len(self.hidden), self.scale) if self.norm else ()

    @property
    def head_names(self) -> tuple[str, ...]:
        return () if self.outputs is None else ("head.weight", "head.bias")

    @cached_property
    def layout(self) -> ParamLayout:
        entries: list[tuple[str, tuple[int, ...]]] = [
            (name, (self.hidden[int(name.split(".")[0][4:])],)) for name in self.norm_names
        ]
        for i, (fan_in, fan_out) in enumerate(zip((self.input_dim, *self.hidden), self.hidden, strict=False)):
            entries += [(f"layer{i}.weight", (fan_in, fan_out)), (f"layer{i}.bias", (fan_out,))]
        if self.outputs is not None:
            entries += [("head.weight", (self.feature_dim, self.outputs)), ("head.bias", (self.outputs,))]
        return ParamLayout(tuple(entries))

    def with_outputs(self, outputs: int) -> MLP:
        return replace(self, outputs=outputs)

    def init(self, generator: torch.Generator) -> Float[Tensor, " P"]:
        return self.layout.flatten(
            {
                name: truncated_normal(shape, self.init_std, generator)
                if name.endswith("weight")
                else start(name, shape)
                for name, shape in self.layout.entries
            }
        )

    def features(
        self, params: Params, x: Float[Tensor, "task example *input"], moments: Sequence[Moments] | None = None
    ) -> tuple[Float[Tensor, "task example feature"], tuple[Moments, ...]]:
        at, h, used = named(self.layout, params), x.flatten(2), []
        for i in range(len(self.hidden)):
            h = linear(h, at[f"layer{i}.weight"], at[f"layer{i}.bias"])
            if self.norm:
                given = None if moments is None else moments[i]
                h, own = batch_norm(h, at[f"norm{i}.shift"], at.get(f"norm{i}.scale"), given)
                used.append(own)
            h = h.relu()
        return h, tuple(used)

    def head(
        self, params: Params, features: Float[Tensor, "task example feature"]
    ) -> Float[Tensor, "task example out"]:
        at = named(self.layout, params)
        return linear(features, at["head.weight"], at["head.bias"])

    def __call__(
        self, params: Params, x: Float[Tensor, "task example *input"], moments: Sequence[Moments] | None = None
    ) -> Float[Tensor, "task example out"]:
        at = named(self.layout, params)
        out = self.features(at, x, moments)[0]
        return out if self.outputs is None else self.head(at, out)


def norm_names(n_layers: int, scale: bool) -> tuple[str, ...]:
    """Names of the entries of batch norm in n_layers layers."""
    kinds = ("shift", "scale") if scale else ("shift",)
    return tuple(f"norm{i}.{kind}" for i in range(n_layers) for kind in kinds)


def start(name: str, shape: tuple[int, ...]) -> Tensor:
    """Initial value of an entry that is not a weight: ones for a scale, zeros for a shift or bias."""
    return torch.ones(shape) if name.endswith("scale") else torch.zeros(shape)
