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

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import softplus

from .embedding import Embedding
from .embedding_learner import EmbeddingLearner
from .episodes import Episodes, Examples
from .labels import class_means
from .learner import MetaParams
from .naming import named


@dataclass(frozen=True)
class SiameseNetwork(EmbeddingLearner[Examples]):
    """Few-shot classifier; the number of classes is the episode's."""

    title: ClassVar[str] = "a Siamese network"
    embedding: Embedding

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """The weights a start at -1/features: the further apart on average, the less similar."""
        width = self.embedding.feature_dim
        similarity = {"weight": torch.full((width,), -1.0 / width), "bias": torch.zeros(())}
        return self.embedding.init(generator) | named("similarity", similarity)

    def read(self, params: MetaParams, support: Examples) -> Examples:
        return support

    def answer(
        self, params: MetaParams, read: Examples, features: Float[Tensor, "task query feature"]
    ) -> Float[Tensor, "task query way"]:
        """Log-odds that query and class are the same, averaged over the examples of the class."""
        z = similarity(params, features, read.x)
        return class_means(z.transpose(1, 2), read.y).transpose(1, 2)

    def query_loss(
        self, params: MetaParams, read: Examples, episodes: Episodes, features: Float[Tensor, "task query feature"]
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        same = episodes.query.y.unsqueeze(2) == read.y.unsqueeze(1)
        return balanced_cross_entropy(similarity(params, features, read.x), same), {}


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
