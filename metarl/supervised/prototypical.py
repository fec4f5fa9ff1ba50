"""Prototypical networks: a class is the mean of its examples' features, a query goes to the nearest mean.

  c_k = mean over the support examples i of class k of f(x_i)                     (equation 1)
  p(y = k | x) = softmax over k of -|f(x) - c_k|^2                                (equation 2)
  loss = -log p(y | x), mean over queries                                         (algorithm 1)

With squared Euclidean distance this is a linear classifier on f with weights 2 c_k and biases -|c_k|^2 (equation 8).
Source: Snell, Swersky and Zemel 2017, "Prototypical networks for few-shot learning", https://arxiv.org/abs/1703.05175
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .embedding import Context, Embedding
from .episodes import Episodes, Examples
from .labels import class_means
from .learner import MetaGradient, MetaParams
from .objective import differentiate, mean_query_loss, refuse_steps


@dataclass(frozen=True)
class Prototypes:
    """A support set, embedded."""

    params: MetaParams
    context: Context
    prototypes: Float[Tensor, "task way feature"]


@dataclass(frozen=True)
class PrototypicalNetwork:
    """Few-shot classifier; the number of classes is the episode's, so training may use more of them than testing."""

    embedding: Embedding

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        return self.embedding.init(generator)

    def adapt(self, params: MetaParams, support: Examples, steps: int | None = None) -> Prototypes:
        refuse_steps(steps, "a prototypical network")
        features, context = self.embedding.support(params, support.x)
        return Prototypes(params, context, class_means(features, support.y))

    def predict(
        self, adapted: Prototypes, query_x: Float[Tensor, "task query *input"]
    ) -> Float[Tensor, "task query way"]:
        features = self.embedding.query(adapted.params, query_x, adapted.context)
        return -squared_distances(features, adapted.prototypes)

    def meta_gradient(self, params: MetaParams, episodes: Episodes, progress: float) -> MetaGradient:
        def objective(params: MetaParams) -> tuple[Tensor, dict[str, Tensor]]:
            embedded = self.embedding.episodes(params, episodes)
            prototypes = class_means(embedded.support, episodes.support.y)
            logits = -squared_distances(embedded.query, prototypes)
            return mean_query_loss(logits, episodes.query.y), embedded.replaced

        return differentiate(objective, params)


def squared_distances(
    a: Float[Tensor, "task n feature"], b: Float[Tensor, "task m feature"]
) -> Float[Tensor, "task n m"]:
    """|a_i - b_j|^2, by |a|^2 + |b|^2 - 2 a.b: no array of all differences is made."""
    norms = a.square().sum(-1).unsqueeze(2) + b.square().sum(-1).unsqueeze(1)
    return norms - 2 * a @ b.transpose(1, 2)
