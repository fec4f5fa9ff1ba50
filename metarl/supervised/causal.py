"""Causal layers over a sequence, that can be asked about one more element without running the sequence again.

Each layer appends to the features of x_t something made of x_1 ... x_t only:
  dense, dilation R:  tanh(z_f) * sigmoid(z_g),  [z_f, z_g] = [x_tmR, x_t] W + b  (zeros before the start)
  attention:          sum over s <= t of softmax over s of (q_t . k_s / sqrt(key size)) v_s
What a layer keeps of a sequence is all that later elements need of it.
Source: Mishra et al. 2018, "A simple neural attentive meta-learner", section 3 and figure 2; the dense block follows
van den Oord et al. 2016, the attention Vaswani et al. 2017.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

Kept = tuple[Tensor, ...]
"""What a layer keeps of a sequence, each (task, time, ...)."""


@runtime_checkable
class CausalLayer(Protocol):
    """One layer."""

    @property
    def appended(self) -> int:
        """Features it appends."""

    def init(self, inputs: int, generator: torch.Generator) -> dict[str, Tensor]:
        """New parameters for elements of `inputs` features."""

    def run(
        self, params: Mapping[str, Tensor], x: Float[Tensor, "task time inputs"]
    ) -> tuple[Float[Tensor, "task time outputs"], Kept]:
        """The sequence with features appended, and what the layer keeps of it."""

    def extend(
        self, params: Mapping[str, Tensor], kept: Kept, x: Float[Tensor, "task query inputs"]
    ) -> Float[Tensor, "task query outputs"]:
        """What `run` would give for each x if it alone followed the sequence."""


@dataclass(frozen=True)
class Dense:
    """Dilated causal convolution of two elements, gated."""

    filters: int
    dilation: int
    """R, how far back the other element lies."""

    @property
    def appended(self) -> int:
        return self.filters

    def init(self, inputs: int, generator: torch.Generator) -> dict[str, Tensor]:
        return affine(2 * inputs, 2 * self.filters, generator)

    def run(
        self, params: Mapping[str, Tensor], x: Float[Tensor, "task time inputs"]
    ) -> tuple[Float[Tensor, "task time outputs"], Kept]:
        before = torch.nn.functional.pad(x, (0, 0, self.dilation, 0))[:, : x.shape[1]]
        return self._append(params, before, x), (x,)

    def extend(
        self, params: Mapping[str, Tensor], kept: Kept, x: Float[Tensor, "task query inputs"]
    ) -> Float[Tensor, "task query outputs"]:
        (past,) = kept
        at = past.shape[1] - self.dilation
        before = past[:, at] if at >= 0 else torch.zeros_like(past[:, 0])
        return self._append(params, before.unsqueeze(1).expand_as(x), x)

    def _append(self, params: Mapping[str, Tensor], before: Tensor, x: Tensor) -> Tensor:
        f, g = (torch.cat((before, x), dim=-1) @ params["weight"] + params["bias"]).chunk(2, dim=-1)
        return torch.cat((x, torch.tanh(f) * torch.sigmoid(g)), dim=-1)


@dataclass(frozen=True)
class Attention:
    """Causal soft attention over the elements so far, itself included."""

    key: int
    value: int
    alike: bool = False
    """At the start queries and keys are one and the same map, so that elements look at those that resemble them."""

    @property
    def appended(self) -> int:
        return self.value

    def init(self, inputs: int, generator: torch.Generator) -> dict[str, Tensor]:
        params = affine(inputs, 2 * self.key + self.value, generator)
        if self.alike:
            weight = params["weight"]
            weight[:, : self.key] = weight[:, self.key : 2 * self.key]
        return params

    def run(
        self, params: Mapping[str, Tensor], x: Float[Tensor, "task time inputs"]
    ) -> tuple[Float[Tensor, "task time outputs"], Kept]:
        query, key, value = self._project(params, x)
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        scores = (query @ key.transpose(1, 2) / math.sqrt(self.key)).masked_fill(later, -math.inf)
        return torch.cat((x, torch.softmax(scores, dim=-1) @ value), dim=-1), (key, value)

    def extend(
        self, params: Mapping[str, Tensor], kept: Kept, x: Float[Tensor, "task query inputs"]
    ) -> Float[Tensor, "task query outputs"]:
        past_key, past_value = kept
        query, key, value = self._project(params, x)
        to_past = query @ past_key.transpose(1, 2)
        to_self = (query * key).sum(-1, keepdim=True)
        weights = torch.softmax(torch.cat((to_past, to_self), dim=-1) / math.sqrt(self.key), dim=-1)
        read = weights[..., :-1] @ past_value + weights[..., -1:] * value
        return torch.cat((x, read), dim=-1)

    def _project(self, params: Mapping[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        out = x @ params["weight"] + params["bias"]
        query, key, value = out.split((self.key, self.key, self.value), dim=-1)
        return query, key, value


def temporal_convolution(length: int, filters: int) -> tuple[Dense, ...]:
    """Dense blocks of dilation 1, 2, 4, ... that together see `length` elements: a TC block."""
    return tuple(Dense(filters, 2**i) for i in range(math.ceil(math.log2(length))))


def affine(inputs: int, outputs: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Glorot-uniform weight (inputs, outputs) and zero bias."""
    bound = math.sqrt(6 / (inputs + outputs))
    weight = (2 * torch.rand(inputs, outputs, generator=generator) - 1) * bound
    return {"weight": weight, "bias": torch.zeros(outputs)}
