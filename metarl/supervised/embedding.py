"""The network that metric and recurrent learners share: it maps each input to features, with one set of weights.

Batch norm needs moments, and what they are taken from decides whether predictions are each query's own:
  running   meta-training normalises each task with the moments of its support and query examples together, and keeps a
            running mean of them over tasks and steps; adapted tasks are normalised with that
  support   support and query examples are normalised with the moments of the task's support set, in training and after
Either way, a prediction does not depend on the other queries: nothing here is transductive after training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from metarl.policies.params import ParamLayout

from .batch_norm import Moments
from .episodes import Episodes
from .naming import named, part_of

Statistics = Literal["running", "support"]
Context = tuple[Moments, ...]
"""What queries are normalised with, a layer each."""

PART = "embedding"
"""The part of a learner's parameters that the embedding owns."""


@runtime_checkable
class Backbone(Protocol):
    """What the embedding needs of a network."""

    @property
    def feature_dim(self) -> int:
        """Length of a feature vector."""

    @property
    def layout(self) -> ParamLayout:
        """Entries of its parameters."""

    def init(self, generator: torch.Generator) -> Float[Tensor, " P"]:
        """New parameters."""

    def features(
        self, params: Mapping[str, Tensor], x: Float[Tensor, "task example *input"], moments: Sequence[Moments] | None
    ) -> tuple[Float[Tensor, "task example feature"], tuple[Moments, ...]]:
        """Features, and the moments that each batch norm used: the examples' own where none are given."""


@dataclass(frozen=True)
class Pixels:
    """The input itself as a vector: no network."""

    input_shape: tuple[int, ...]
    """Axes of one input."""

    @property
    def feature_dim(self) -> int:
        return math.prod(self.input_shape)

    @property
    def layout(self) -> ParamLayout:
        return ParamLayout(())

    def init(self, generator: torch.Generator) -> Float[Tensor, " P"]:
        return torch.zeros(0)

    def features(
        self, params: Mapping[str, Tensor], x: Float[Tensor, "task example *input"], moments: Sequence[Moments] | None
    ) -> tuple[Float[Tensor, "task example feature"], tuple[Moments, ...]]:
        return x.flatten(2), ()


@dataclass(frozen=True)
class EmbeddedEpisodes:
    """Features of a batch of tasks in meta-training."""

    support: Float[Tensor, "task support feature"]
    query: Float[Tensor, "task query feature"]
    replaced: dict[str, Tensor]
    """New running statistics, by their names among the learner's parameters."""


@dataclass(frozen=True)
class Embedding:
    """A backbone and where its batch norm takes its moments from."""

    backbone: Backbone
    statistics: Statistics = "running"
    """See the module's docstring; a backbone without batch norm has none of this."""
    momentum: float = 0.1
    """Weight of a meta-step's moments in the running mean, in (0, 1]; torch's default."""

    def __post_init__(self) -> None:
        if self.statistics not in ("running", "support"):
            raise ValueError(f"unknown statistics {self.statistics!r}; allowed: running, support")
        if not 0 < self.momentum <= 1:
            raise ValueError(f"momentum {self.momentum} must be above 0 and at most 1")

    @property
    def feature_dim(self) -> int:
        """Length of a feature vector."""
        return self.backbone.feature_dim

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Parameters under `embedding.`; running moments start at mean 0 and variance 1."""
        entries = self.backbone.layout.unflatten(self.backbone.init(generator))
        # Clones: views of one vector would share storage, which checkpoint formats refuse.
        params = {name: value.clone() for name, value in entries.items()}
        return named(PART, self.with_running(params))

    def with_running(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Parameters with the first running moments of their batch norms, where those are taken."""
        with_moments = dict(own)
        if self.statistics == "running":
            for name in [name for name in own if name.endswith(".shift")]:
                layer = name.removesuffix(".shift")
                with_moments[f"{layer}.mean"] = torch.zeros_like(own[name])
                with_moments[f"{layer}.variance"] = torch.ones_like(own[name])
        return with_moments

    def support(
        self, params: Mapping[str, Tensor], x: Float[Tensor, "task support *input"]
    ) -> tuple[Float[Tensor, "task support feature"], Context]:
        """Features of support sets, and what their tasks' queries are normalised with."""
        own = part_of(params, PART)
        return self.backbone.features(own, x, running(own) if self.statistics == "running" else None)

    def query(
        self, params: Mapping[str, Tensor], x: Float[Tensor, "task query *input"], context: Context
    ) -> Float[Tensor, "task query feature"]:
        """Features of queries, each by itself."""
        return self.backbone.features(part_of(params, PART), x, context)[0]

    def episodes(self, params: Mapping[str, Tensor], episodes: Episodes) -> EmbeddedEpisodes:
        """Features of support and query sets as meta-training sees them."""
        if self.statistics == "support":
            support, context = self.support(params, episodes.support.x)
            return EmbeddedEpisodes(support, self.query(params, episodes.query.x, context), {})
        own, n_support = part_of(params, PART), episodes.support.x.shape[1]
        features, used = self.backbone.features(own, torch.cat((episodes.support.x, episodes.query.x), dim=1), None)
        new = named(PART, self.updated(own, used))
        return EmbeddedEpisodes(features[:, :n_support], features[:, n_support:], new)

    def updated(self, own: Mapping[str, Tensor], used: Sequence[Moments]) -> dict[str, Tensor]:
        """The running moments after a meta-step: moved towards the mean of the tasks' moments, without a derivative."""
        new = {}
        for i, moments in enumerate(used):
            for name, value in ((f"norm{i}.mean", moments.mean), (f"norm{i}.variance", moments.variance)):
                new[name] = own[name].detach().lerp(value.detach().mean(0), self.momentum)
        return new


def running(own: Mapping[str, Tensor]) -> Context:
    """The running moments of each batch norm, in the order of the layers."""
    layers = sum(name.endswith(".mean") for name in own)
    return tuple(Moments(own[f"norm{i}.mean"], own[f"norm{i}.variance"]) for i in range(layers))
