"""SNAIL: temporal convolutions and causal attention over the support set and then one query.

  sequence: [f(x_1), y_1], ..., [f(x_T), y_T], [f(x), 0];  the answer is an affine map of the last element's features
  layers: attention, TC block, attention, TC block, attention

Layers are causal, so what they make of the support set does not depend on the query: `adapt` runs them over the support
set once, and each query extends them by one element; queries do not see one another.
Source: Mishra, Rohaninejad, Chen and Abbeel 2018, "A simple neural attentive meta-learner",
https://arxiv.org/abs/1707.03141, sections 3 and 4, appendix A.
Differs: f is the shared embedding. Beyond the paper, attention may start alike and labels be scaled: both make it find
the example that resembles the query, without which it stays at chance for long.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from .causal import Attention, CausalLayer, Kept, affine, temporal_convolution
from .episodes import Examples
from .learner import MetaParams
from .naming import named, part_of
from .sequence_learner import SequenceLearner


@dataclass(frozen=True)
class SNAIL(SequenceLearner[tuple[Kept, ...]]):
    """Few-shot learner for classes and for regression; the number of outputs is fixed."""

    title: ClassVar[str] = "SNAIL"

    support: int
    """T, examples of a support set (N x K): TC blocks reach back that far. Others can be read all the same."""
    filters: int = 128
    """Of each dense block. Default: the paper's."""
    attention: tuple[tuple[int, int], ...] = ((64, 32), (256, 128), (512, 256))
    """(key, value) sizes of the attention layers; a TC block stands between two. Default: the paper's."""
    alike: bool = False
    """Queries and keys of an attention layer start alike; else independently, as is usual."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.support < 1 or not self.attention:
            raise ValueError(f"support {self.support} must be positive, and attention {self.attention} not empty")

    @cached_property
    def layers(self) -> tuple[CausalLayer, ...]:
        """In order of use."""
        out: list[CausalLayer] = []
        for i, (key, value) in enumerate(self.attention):
            if i:
                out.extend(temporal_convolution(self.support + 1, self.filters))
            out.append(Attention(key, value, self.alike))
        return tuple(out)

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        params = self.embedding.init(generator)
        width = self.embedding.feature_dim + self.problem.outputs
        for i, layer in enumerate(self.layers):
            params |= named(f"layer{i}", layer.init(width, generator))
            width += layer.appended
        return params | named("output", affine(width, self.problem.outputs, generator))

    def read(self, params: MetaParams, support: Examples) -> tuple[Kept, ...]:
        """What each layer keeps."""
        h = torch.cat((support.x, self.codes(support)), dim=-1)
        kept = []
        for i, layer in enumerate(self.layers):
            h, keeps = layer.run(part_of(params, f"layer{i}"), h)
            kept.append(keeps)
        return tuple(kept)

    def answer(
        self, params: MetaParams, read: tuple[Kept, ...], features: Float[Tensor, "task query feature"]
    ) -> Float[Tensor, "task query out"]:
        no_label = features.new_zeros(*features.shape[:2], self.problem.outputs)
        h = torch.cat((features, no_label), dim=-1)
        for i, layer in enumerate(self.layers):
            h = layer.extend(part_of(params, f"layer{i}"), read[i], h)
        return h @ params["output.weight"] + params["output.bias"]
