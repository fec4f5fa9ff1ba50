"""Relation networks: a learned module compares a query with each class.

  class k: the mean of its examples' features (for one shot, the example's own)
  relation r_k = sigmoid(g([features of class k, features of the query]))           (equation 1)
  loss = mean over queries and classes of (r_k - 1[class of the query is k])^2      (equation 2)
g on feature maps (channel, height, width): two 3 x 3 convolutions with ReLU, each followed by 2 x 2 max-pooling where
the map is at least 2 x 2, then a layer of 8 units with ReLU and one output. On feature vectors, two layers instead.

Logits are g without the sigmoid, which does not change the order of classes.
Differs: a mean where the paper sums over shots (section 3.2), whose scale a network trained on one shot does not expect
of five. No batch norm in g. Features come from the shared embedding, whose maps are smaller than the paper's (2 x 2
from 28 x 28 pixels with four strides of 2).
Source: Sung et al. 2018, "Learning to compare: relation network for few-shot learning",
https://arxiv.org/abs/1711.06025
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from .embedding import Context, Embedding
from .embedding_learner import EmbeddingLearner, ReadSupport
from .episodes import Episodes, Examples
from .labels import class_means, one_hot
from .learner import MetaParams
from .naming import named, part_of
from .objective import mean_query_loss

Loss = Literal["mse", "cross-entropy"]


@dataclass(frozen=True)
class ClassFeatures(ReadSupport):
    """A support set, embedded and averaged over the shots of each class."""

    features: Float[Tensor, "task way feature"]


@dataclass(frozen=True)
class RelationNetwork(EmbeddingLearner[ClassFeatures]):
    """Few-shot classifier; the number of classes is the episode's."""

    title: ClassVar[str] = "a relation network"
    embedding: Embedding
    map_shape: tuple[int, int, int] | None = None
    """(channel, height, width) of the embedding's features where they are a flattened map, else None."""
    filters: int = 64
    """Of the module's convolutions, or units of its layers on vectors. Default: the paper's."""
    units: int = 8
    """Of its hidden layer. Default: the paper's."""
    loss: Loss = "mse"
    """The paper's squared error to one-hot targets, or cross-entropy over the classes."""

    def __post_init__(self) -> None:
        if self.loss not in ("mse", "cross-entropy"):
            raise ValueError(f"unknown loss {self.loss!r}; allowed: mse, cross-entropy")
        if self.map_shape is not None and math.prod(self.map_shape) != self.embedding.feature_dim:
            raise ValueError(
                f"map_shape {self.map_shape} has {math.prod(self.map_shape)} entries, the embedding's features have "
                f"{self.embedding.feature_dim}; give the shape of its last map, or None for vectors"
            )

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Kaiming-uniform weights (He et al. 2015), zero biases."""
        if self.map_shape is None:
            shapes: list[tuple[int, ...]] = [
                (2 * self.embedding.feature_dim, self.filters),
                (self.filters, self.filters),
            ]
            width = self.filters
        else:
            channels, height, width = self.map_shape
            shapes = [(self.filters, 2 * channels, 3, 3), (self.filters, self.filters, 3, 3)]
            for _ in range(2):
                height, width = (height // 2, width // 2) if min(height, width) > 1 else (height, width)
            width *= height * self.filters
        module = {}
        for i, shape in enumerate([*shapes, (width, self.units), (self.units, 1)]):
            fan_in, fan_out = (math.prod(shape[1:]), shape[0]) if len(shape) == 4 else shape
            module[f"{i}.weight"] = (2 * torch.rand(shape, generator=generator) - 1) * math.sqrt(6 / fan_in)
            module[f"{i}.bias"] = torch.zeros(fan_out)
        # The output starts small, where the sigmoid is not saturated.
        module["3.weight"] = module["3.weight"] * 0.1
        return self.embedding.init(generator) | named("relation", module)

    def read(
        self,
        params: MetaParams,
        context: Context,
        features: Float[Tensor, "task support feature"],
        support: Examples,
    ) -> ClassFeatures:
        return ClassFeatures(params, context, class_means(features, support.y))

    def answer(
        self, read: ClassFeatures, features: Float[Tensor, "task query feature"]
    ) -> Float[Tensor, "task query way"]:
        """Relations before the sigmoid."""
        return self._relations(read.params, features, read.features)

    def query_loss(
        self, read: ClassFeatures, episodes: Episodes, features: Float[Tensor, "task query feature"]
    ) -> Float[Tensor, ""]:
        logits, y = self.answer(read, features), episodes.query.y
        if self.loss == "cross-entropy":
            return mean_query_loss(logits, y)
        return (torch.sigmoid(logits) - one_hot(y, logits.shape[2], logits)).square().mean()

    def _relations(
        self,
        params: MetaParams,
        query: Float[Tensor, "task query feature"],
        classes: Float[Tensor, "task way feature"],
    ) -> Float[Tensor, "task query way"]:
        """g of each pair."""
        tasks, queries, way = len(query), query.shape[1], classes.shape[1]
        shape = (-1,) if self.map_shape is None else self.map_shape
        a = classes.unflatten(2, shape).unsqueeze(1).expand(-1, queries, *[-1] * (len(shape) + 1))
        b = query.unflatten(2, shape).unsqueeze(2).expand(-1, -1, way, *[-1] * len(shape))
        pairs = torch.cat((a, b), dim=3).flatten(0, 2)
        return self._module(part_of(params, "relation"), pairs).reshape(tasks, queries, way)

    def _module(self, params: Mapping[str, Tensor], h: Tensor) -> Float[Tensor, "pair 1"]:
        for i in (0, 1):
            weight, bias = params[f"{i}.weight"], params[f"{i}.bias"]
            if self.map_shape is None:
                h = torch.relu(h @ weight + bias)
            else:
                h = torch.relu(functional.conv2d(h, weight, bias, padding=1))
                h = functional.max_pool2d(h, 2) if min(h.shape[2:]) > 1 else h
        h = torch.relu(h.flatten(1) @ params["2.weight"] + params["2.bias"])
        return h @ params["3.weight"] + params["3.bias"]
