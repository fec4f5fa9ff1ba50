"""Relation networks: a learned module compares a query with each class.

  class k: the mean of its examples' features (for one shot, the example's own)
  relation r_k = sigmoid(g([features of class k, features of the query]))           (equation 1)
  loss = mean over queries and classes of (r_k - 1[class of the query is k])^2      (equation 2)
g on feature maps (channel, height, width): two 3 x 3 convolutions with batch norm and ReLU, each followed by 2 x 2
max-pooling where the map is at least 2 x 2, then a layer of 8 units with ReLU and one output. On feature vectors, two
layers without batch norm instead.

The first convolution of [a, b] is one of a plus one of b, so that it is done once an image instead of once a pair.
Logits are g without the sigmoid, which does not change the order of classes. Batch norm in g takes its moments from all
pairs of a task, as `Embedding` does from all its examples: the queries' pairs in meta-training, of which running means
are kept, or pairs of support examples.
Differs: a mean where the paper sums over shots (section 3.2), whose scale a network trained on one shot does not expect
of five. Features come from the shared embedding, which pads where the paper's first layers do not.
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

from .embedding import Context, Embedding, running
from .embedding_learner import EmbeddingLearner
from .episodes import Episodes, Examples
from .labels import class_means, one_hot
from .learner import MetaParams
from .naming import named, part_of
from .norm_relu import norm_relu_with
from .objective import mean_query_loss
from .task_conv import conv_channels_last, halve_channels_last

Loss = Literal["mse", "cross-entropy"]

PART = "relation"
"""The part of a learner's parameters that the module owns."""
FLOATS_AT_ONCE = 2**22
"""Of the pairs that an adapted task's queries are compared in together; bounds the memory."""


@dataclass(frozen=True)
class ClassFeatures:
    """A support set, embedded and averaged over the shots of each class."""

    features: Float[Tensor, "task way feature"]
    moments: Context
    """Of the module's batch norms."""


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
        """Kaiming-uniform weights (He et al. 2015), zero biases and shifts, unit scales."""
        module: dict[str, Tensor] = {}
        if self.map_shape is None:
            shapes: list[tuple[int, ...]] = [
                (2 * self.embedding.feature_dim, self.filters),
                (self.filters, self.filters),
            ]
            width = self.filters
        else:
            channels, height, width = self.map_shape
            shapes = [(self.filters, 2 * channels, 3, 3), (self.filters, self.filters, 3, 3)]
            for i in range(2):
                height, width = (height // 2, width // 2) if min(height, width) > 1 else (height, width)
                module |= {f"norm{i}.shift": torch.zeros(self.filters), f"norm{i}.scale": torch.ones(self.filters)}
            width *= height * self.filters
        for i, shape in enumerate([*shapes, (width, self.units), (self.units, 1)]):
            fan_in, fan_out = (math.prod(shape[1:]), shape[0]) if len(shape) == 4 else shape
            module[f"{i}.weight"] = (2 * torch.rand(shape, generator=generator) - 1) * math.sqrt(6 / fan_in)
            if len(shape) == 2:  # batch norm would take a bias away again
                module[f"{i}.bias"] = torch.zeros(fan_out)
        # The output starts small, where the sigmoid is not saturated.
        module["3.weight"] = module["3.weight"] * 0.1
        return self.embedding.init(generator) | named(PART, self.embedding.with_running(module))

    def read(self, params: MetaParams, support: Examples) -> ClassFeatures:
        classes = class_means(support.x, support.y)
        if self.embedding.statistics == "running":
            moments = running(part_of(params, PART))
        else:
            moments = self._relations(params, support.x, classes, None)[1]
        return ClassFeatures(classes, moments)

    def answer(
        self, params: MetaParams, read: ClassFeatures, features: Float[Tensor, "task query feature"]
    ) -> Float[Tensor, "task query way"]:
        """Relations before the sigmoid."""
        tasks, way, length = read.features.shape
        parts = features.split(max(1, FLOATS_AT_ONCE // (tasks * way * length)), dim=1)
        return torch.cat([self._relations(params, part, read.features, read.moments)[0] for part in parts], dim=1)

    def query_loss(
        self, params: MetaParams, read: ClassFeatures, episodes: Episodes, features: Float[Tensor, "task query feature"]
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        if self.embedding.statistics == "running":
            logits, used = self._relations(params, features, read.features, None)
            replaced = named(PART, self.embedding.updated(part_of(params, PART), used))
        else:
            logits, replaced = self.answer(params, read, features), {}
        y = episodes.query.y
        if self.loss == "cross-entropy":
            return mean_query_loss(logits, y), replaced
        return (torch.sigmoid(logits) - one_hot(y, logits.shape[2], logits)).square().mean(), replaced

    def _relations(
        self,
        params: MetaParams,
        query: Float[Tensor, "task query feature"],
        classes: Float[Tensor, "task way feature"],
        moments: Context | None,
    ) -> tuple[Float[Tensor, "task query way"], Context]:
        """g of each pair, and the moments that batch norm used: those of a task's pairs where none are given."""
        own = part_of(params, PART)
        weight = own["0.weight"]
        used: Context = ()
        if self.map_shape is None:
            of_class, of_query = weight.tensor_split(2)
            pairs = (classes @ of_class).unsqueeze(1) + (query @ of_query).unsqueeze(2) + own["0.bias"]
            h = self._compared_vectors(own, pairs.flatten(1, 2))
        else:
            of_class, of_query = weight.tensor_split(2, dim=1)
            pairs = self._mapped(classes, of_class).unsqueeze(1) + self._mapped(query, of_query).unsqueeze(2)
            h, used = self._compared_maps(own, pairs.flatten(1, 2), moments)
        h = torch.relu(h @ own["2.weight"] + own["2.bias"])
        return (h @ own["3.weight"] + own["3.bias"]).view(pairs.shape[:3]), used

    def _compared_vectors(
        self, own: Mapping[str, Tensor], h: Float[Tensor, "task pair filter"]
    ) -> Float[Tensor, "task pair filter"]:
        return torch.relu(torch.relu(h) @ own["1.weight"] + own["1.bias"])

    def _mapped(
        self, features: Float[Tensor, "task row feature"], weight: Float[Tensor, "filter channel 3 3"]
    ) -> Float[Tensor, "task row height width filter"]:
        """A convolution of features that are maps. Channels last, as the fused batch norm wants them."""
        assert self.map_shape is not None
        maps = features.flatten(0, 1).unflatten(1, self.map_shape).permute(0, 2, 3, 1)
        return conv_channels_last(maps, weight).unflatten(0, features.shape[:2])

    def _compared_maps(
        self, own: Mapping[str, Tensor], h: Float[Tensor, "task pair height width filter"], moments: Context | None
    ) -> tuple[Float[Tensor, "task pair feature"], Context]:
        """After the first convolution: batch norm, ReLU, pooling, and all of it again."""
        tasks, used = len(h), []
        h = h.flatten(0, 1)
        for i in (0, 1):
            if i == 1:
                h = conv_channels_last(h, own["1.weight"])
            given = None if moments is None else moments[i]
            rows, its = norm_relu_with(
                h.view(tasks, -1, self.filters), own[f"norm{i}.shift"], own[f"norm{i}.scale"], given
            )
            used.append(its)
            h = rows.view(h.shape)
            if min(h.shape[1:3]) > 1:
                h = halve_channels_last(h)
        return h.permute(0, 3, 1, 2).flatten(1).unflatten(0, (tasks, -1)), tuple(used)
