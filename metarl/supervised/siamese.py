"""Siamese networks: a learned similarity of two inputs; a query takes the class of the most similar support examples.

  z(x, x') = sum over j of a_j |f_j(x) - f_j(x')| + b,   p(same class) = sigmoid(z)          (section 3.1)
  loss = cross-entropy of p over all support-query pairs of a task                           (section 3.2)

Same and different pairs weigh the same in total, as in the paper, which draws equal numbers of both. Then z is the
log-odds of "same" under equal odds, so the softmax over classes of z is the posterior of the query's class: z, averaged
over the shots of a class, is the logit.
Differs: f is the shared embedding, not the paper's network with 4,096 sigmoid outputs; no layer-wise rates or
distortions of the images.
Source: Koch, Zemel and Salakhutdinov 2015, "Siamese neural networks for one-shot image recognition".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import softplus

from .embedding import Context, Embedding
from .episodes import Episodes, Examples
from .labels import class_means
from .learner import MetaGradient, MetaParams
from .naming import named
from .objective import differentiate, refuse_steps


@dataclass(frozen=True)
class Gallery:
    """A support set, embedded."""

    params: MetaParams
    context: Context
    features: Float[Tensor, "task support feature"]
    y: Int[Tensor, "task support"]


@dataclass(frozen=True)
class SiameseNetwork:
    """Few-shot classifier; the number of classes is the episode's."""

    embedding: Embedding

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """The weights a start at -1/sqrt(features): the further apart, the less similar."""
        width = self.embedding.feature_dim
        similarity = {"weight": torch.full((width,), -1.0 / math.sqrt(width)), "bias": torch.zeros(())}
        return self.embedding.init(generator) | named("similarity", similarity)

    def adapt(self, params: MetaParams, support: Examples, steps: int | None = None) -> Gallery:
        refuse_steps(steps, "a Siamese network")
        features, context = self.embedding.support(params, support.x)
        return Gallery(params, context, features, support.y)

    def predict(self, adapted: Gallery, query_x: Float[Tensor, "task query *input"]) -> Float[Tensor, "task query way"]:
        """Log-odds that query and class are the same, averaged over the examples of the class."""
        features = self.embedding.query(adapted.params, query_x, adapted.context)
        z = similarity(adapted.params, features, adapted.features)
        return class_means(z.transpose(1, 2), adapted.y).transpose(1, 2)

    def meta_gradient(self, params: MetaParams, episodes: Episodes, progress: float) -> MetaGradient:
        same = episodes.query.y.unsqueeze(2) == episodes.support.y.unsqueeze(1)

        def objective(params: MetaParams) -> tuple[Tensor, dict[str, Tensor]]:
            embedded = self.embedding.episodes(params, episodes)
            z = similarity(params, embedded.query, embedded.support)
            return balanced_cross_entropy(z, same), embedded.replaced

        return differentiate(objective, params)


def similarity(
    params: MetaParams, query: Float[Tensor, "task query feature"], support: Float[Tensor, "task support feature"]
) -> Float[Tensor, "task query support"]:
    """z of each pair."""
    distance = (query.unsqueeze(2) - support.unsqueeze(1)).abs()
    return distance @ params["similarity.weight"] + params["similarity.bias"]


def balanced_cross_entropy(
    z: Float[Tensor, "task query support"], same: Bool[Tensor, "task query support"]
) -> Float[Tensor, ""]:
    """(mean of -log sigmoid(z) over same pairs + mean of -log(1 - sigmoid(z)) over different pairs) / 2."""
    return (softplus(-z[same]).mean() + softplus(z[~same]).mean()) / 2
