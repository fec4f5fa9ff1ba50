"""Nearest neighbour: a query takes the target of the closest support example. The baseline without meta-learning.

  d_i = |f(x) - f(x_i)|^2, or 1 - cosine of the two
  classes: logit of class k = -min over the examples i of class k of d_i;   regression: y of the smallest d_i
f is the input itself (`Pixels`), or the features of a network trained otherwise: the parameters given are not changed.
Source: Vinyals et al. 2016, section 4.1.1, have both as baselines ("pixels", "baseline classifier", cosine distance).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .embedding import Embedding
from .embedding_learner import EmbeddingLearner
from .episodes import Episodes, Examples
from .labels import count_ways, one_hot, require_examples
from .learner import MetaGradient, MetaParams
from .matching import cosine_similarities
from .objective import mean_query_loss
from .prototypical import squared_distances

Distance = Literal["euclidean", "cosine"]


@dataclass(frozen=True)
class NearestNeighbour(EmbeddingLearner[Examples]):
    """Few-shot learner for classes and for regression that is not meta-trained."""

    title: ClassVar[str] = "nearest neighbour"
    embedding: Embedding
    distance: Distance = "euclidean"

    def __post_init__(self) -> None:
        if self.distance not in ("euclidean", "cosine"):
            raise ValueError(f"unknown distance {self.distance!r}; allowed: euclidean, cosine")

    def read(self, params: MetaParams, support: Examples) -> Examples:
        return support

    def answer(
        self, params: MetaParams, read: Examples, features: Float[Tensor, "task query feature"]
    ) -> Float[Tensor, "task query out"]:
        if self.distance == "cosine":
            distances = 1 - cosine_similarities(features, read.x)
        else:
            distances = squared_distances(features, read.x)
        if read.y.dtype.is_floating_point:
            nearest = distances.argmin(2).unsqueeze(2).expand(-1, -1, read.y.shape[2])
            return read.y.gather(1, nearest)
        return -nearest_of_class(distances, read.y)

    def meta_gradient(self, params: MetaParams, episodes: Episodes, progress: float) -> MetaGradient:
        """The query loss and no gradient: nothing is meta-learned."""
        with torch.no_grad():
            prediction = self.predict(self.adapt(params, episodes.support), episodes.query.x)
            return MetaGradient({}, mean_query_loss(prediction, episodes.query.y))


def nearest_of_class(
    distances: Float[Tensor, "task query support"], y: Int[Tensor, "task support"]
) -> Float[Tensor, "task query way"]:
    """The smallest distance to an example of each class."""
    membership = one_hot(y, count_ways(y), distances)
    require_examples(membership.sum(1))
    return distances.unsqueeze(-1).masked_fill(membership.unsqueeze(1) == 0, math.inf).amin(2)
