"""Matching networks: a query's class is a weighted vote of the support set, the weights by cosine similarity.

  a(x, x_i) = softmax over i of s * cos(f(x), g(x_i)),   P(y | x, S) = sum over i of a(x, x_i) y_i   (equation 1, 2.1.1)

f and g are the same embedding, or, with full context embeddings (2.1.2 and the appendix), functions of the whole set:
  g(x_i, S) = forward_i + backward_i + g'(x_i), from an LSTM over the support set in each direction
  f(x, S) = h_K, attending over the set K times from h_0 = 0, r_0 = 0:
    h'_k, c_k = LSTM(f'(x), [h_km1, r_km1], c_km1),   h_k = h'_k + f'(x)
    r_k = sum over i of softmax over i of (h_k . g(x_i, S)) g(x_i, S)
s = 1 is the paper's. A softmax of cosines cannot be sharp: with s = 1 and 5 examples, P is at most 0.65.
Source: Vinyals et al. 2016, "Matching networks for one shot learning", https://arxiv.org/abs/1606.04080
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .embedding import Embedding
from .embedding_learner import EmbeddingLearner
from .episodes import Episodes, Examples
from .labels import count_ways, one_hot, require_examples
from .learner import MetaParams
from .lstm import LSTMCell, LSTMState
from .naming import named, part_of
from .sequence import shuffled_support


@dataclass(frozen=True)
class MatchingNetwork(EmbeddingLearner[Examples]):
    """Few-shot classifier; the number of classes is the episode's. With context, the support set's order matters."""

    title: ClassVar[str] = "a matching network"
    embedding: Embedding
    context_steps: int = 0
    """K, steps of the attention LSTM that makes f depend on the support set; 0 for no full context embeddings."""
    sharpness: float = 1.0
    """s, factor on the cosine."""

    def __post_init__(self) -> None:
        if self.context_steps < 0 or self.sharpness <= 0:
            raise ValueError(
                f"context_steps {self.context_steps} must be at least 0 and sharpness {self.sharpness} positive"
            )

    @cached_property
    def _width(self) -> int:
        return self.embedding.feature_dim

    @cached_property
    def _set_cell(self) -> LSTMCell:
        return LSTMCell(self._width, self._width)

    @cached_property
    def _attention_cell(self) -> LSTMCell:
        return LSTMCell(2 * self._width, self._width)

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        params = self.embedding.init(generator)
        if self.context_steps:
            params |= named("forward", self._set_cell.init(generator))
            params |= named("backward", self._set_cell.init(generator))
            params |= named("attention", self._attention_cell.init(generator))
        return params

    def read(self, params: MetaParams, support: Examples) -> Examples:
        """What queries attend to: x are g(x_i, S)."""
        return Examples(self._support_embedding(params, support.x), support.y)

    def answer(
        self, params: MetaParams, read: Examples, features: Float[Tensor, "task query feature"]
    ) -> Float[Tensor, "task query way"]:
        """Logarithms of the class probabilities."""
        queries = self._query_embedding(params, read.x, features)
        return vote(self.sharpness * cosine_similarities(queries, read.x), read.y)

    def arranged(self, episodes: Episodes, progress: float) -> Episodes:
        # Only a context depends on the order of the support set.
        return shuffled_support(episodes, progress) if self.context_steps else episodes

    def _support_embedding(
        self, params: MetaParams, features: Float[Tensor, "task support feature"]
    ) -> Float[Tensor, "task support feature"]:
        """g(x_i, S) from g'(x_i)."""
        if not self.context_steps:
            return features
        forward = _run(self._set_cell, part_of(params, "forward"), features)
        backward = _run(self._set_cell, part_of(params, "backward"), features.flip(1)).flip(1)
        return forward + backward + features

    def _query_embedding(
        self,
        params: MetaParams,
        keys: Float[Tensor, "task support feature"],
        features: Float[Tensor, "task query feature"],
    ) -> Float[Tensor, "task query feature"]:
        """f(x, S) from f'(x)."""
        if not self.context_steps:
            return features
        own = part_of(params, "attention")
        state = self._attention_cell.start(tuple(features.shape[:2]), features)
        read = torch.zeros_like(features)
        for _ in range(self.context_steps):
            state = self._attention_cell.step(own, torch.cat((features, read), dim=-1), state)
            state = LSTMState(state.hidden + features, state.cell)
            read = torch.softmax(state.hidden @ keys.transpose(1, 2), dim=-1) @ keys
        return state.hidden


def cosine_similarities(
    a: Float[Tensor, "task n feature"], b: Float[Tensor, "task m feature"]
) -> Float[Tensor, "task n m"]:
    """a_i . b_j / (|a_i| |b_j|); 0 for a vector of zeros."""
    unit_a, unit_b = (torch.nn.functional.normalize(v, dim=-1) for v in (a, b))
    return unit_a @ unit_b.transpose(1, 2)


def vote(
    scores: Float[Tensor, "task query support"], y: Int[Tensor, "task support"]
) -> Float[Tensor, "task query way"]:
    """log of the sum, over the support examples of each class, of softmax(scores)."""
    way = count_ways(y)
    membership = one_hot(y, way, scores)
    require_examples(membership.sum(dim=1))
    of_class = scores.unsqueeze(-1).masked_fill(membership.unsqueeze(1) == 0, -math.inf)
    return of_class.logsumexp(dim=2) - scores.logsumexp(dim=2, keepdim=True)


def _run(
    cell: LSTMCell, params: dict[str, Tensor], sequence: Float[Tensor, "task time feature"]
) -> Float[Tensor, "task time hidden"]:
    state = cell.start((len(sequence),), sequence)
    hidden = []
    for t in range(sequence.shape[1]):
        state = cell.step(params, sequence[:, t], state)
        hidden.append(state.hidden)
    return torch.stack(hidden, dim=1)
