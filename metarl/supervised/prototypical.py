"""Prototypical networks: a class is the mean of its examples' features, a query goes to the nearest mean.

  c_k = mean over the support examples i of class k of f(x_i)                     (equation 1)
  p(y = k | x) = softmax over k of -|f(x) - c_k|^2                                (equation 2)
  loss = -log p(y | x), mean over queries                                         (algorithm 1)

With squared Euclidean distance this is a linear classifier on f with weights 2 c_k and biases -|c_k|^2 (equation 8).
Source: Snell, Swersky and Zemel 2017, "Prototypical networks for few-shot learning", https://arxiv.org/abs/1703.05175
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from .embedding import Embedding
from .embedding_learner import EmbeddingLearner
from .episodes import Examples
from .labels import class_means
from .learner import MetaParams


@dataclass(frozen=True)
class PrototypicalNetwork(EmbeddingLearner[Tensor]):
    """Few-shot classifier; the number of classes is the episode's, so training may use more of them than testing."""

    title: ClassVar[str] = "a prototypical network"
    embedding: Embedding

    def read(self, params: MetaParams, support: Examples) -> Float[Tensor, "task way feature"]:
        """The prototypes."""
        return class_means(support.x, support.y)

    def answer(
        self, params: MetaParams, read: Float[Tensor, "task way feature"], features: Float[Tensor, "task query feature"]
    ) -> Float[Tensor, "task query way"]:
        return -squared_distances(features, read)


def squared_distances(
    a: Float[Tensor, "task n feature"], b: Float[Tensor, "task m feature"]
) -> Float[Tensor, "task n m"]:
    """|a_i - b_j|^2, by |a|^2 + |b|^2 - 2 a.b: no array of all differences is made."""
    norms = a.square().sum(-1).unsqueeze(2) + b.square().sum(-1).unsqueeze(1)
    return norms - 2 * a @ b.transpose(1, 2)
