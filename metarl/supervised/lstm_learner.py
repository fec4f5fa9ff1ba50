"""A plain LSTM that reads the support set as a sequence and is then asked about a query: the recurrent baseline.

  read the support set:  input [f(x_t), y_tm1] (labels delayed) or [f(x_t), y_t] (labels paired),  t = 1 ... T
  asked about x:         one more step from the state after T, with input [f(x), y_T] or [f(x), 0];  output W h + b

y is a one-hot class or a regression target; y_0 = 0. Each query starts from the state after the support set, so
queries do not see one another.
Source: Hochreiter, Younger and Conwell 2001, "Learning to learn using gradient descent": an LSTM fed with x_t and the
previous target learns a learning rule; Santoro et al. 2016, section 4, use it as baseline for Omniglot.
Differs: the loss is that of the queries after the whole support set, not of each element of the sequence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from .embedding import Context, Embedding
from .episodes import Episodes, Examples, Problem
from .learner import MetaGradient, MetaParams
from .lstm import LSTMCell, LSTMState
from .naming import named, part_of
from .objective import differentiate, mean_query_loss, refuse_steps
from .sequence import label_codes, shuffled_support

Labels = Literal["delayed", "paired"]


@dataclass(frozen=True)
class ReadSupport:
    """The state after a support set."""

    params: MetaParams
    context: Context
    state: LSTMState
    """(task, hidden)."""
    last_label: Float[Tensor, "task out"]
    """y_T as it is read where labels are delayed, zeros where they are paired."""


@dataclass(frozen=True)
class LSTMLearner:
    """Few-shot learner for classes and for regression; the number of outputs is fixed."""

    problem: Problem
    embedding: Embedding
    hidden: int = 200
    """Entries of the LSTM's state; Santoro et al. use 200."""
    labels: Labels = "delayed"
    """Which label is read with an example: the one before it, as in the papers, or its own."""
    label_scale: float = 1.0
    """Factor on labels as they are read. A one-hot label beside many features hardly moves the gates at the start, and
    learning stays at chance for long; with about the square root of the number of features it soon leaves it."""
    shuffle: bool = True
    """Read support sets in random order in meta-training."""

    def __post_init__(self) -> None:
        if self.labels not in ("delayed", "paired"):
            raise ValueError(f"unknown labels {self.labels!r}; allowed: delayed, paired")
        if not self.label_scale > 0:
            raise ValueError(f"label_scale is {self.label_scale}, but must be positive")

    @cached_property
    def _cell(self) -> LSTMCell:
        return LSTMCell(self.embedding.feature_dim + self.problem.outputs, self.hidden)

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        params = self.embedding.init(generator) | named("lstm", self._cell.init(generator))
        bound = 1.0 / math.sqrt(self.hidden)
        weight = (2 * torch.rand(self.hidden, self.problem.outputs, generator=generator) - 1) * bound
        return params | {"output.weight": weight, "output.bias": torch.zeros(self.problem.outputs)}

    def adapt(self, params: MetaParams, support: Examples, steps: int | None = None) -> ReadSupport:
        refuse_steps(steps, "an LSTM learner")
        features, context = self.embedding.support(params, support.x)
        return self._read(params, context, features, support)

    def predict(
        self, adapted: ReadSupport, query_x: Float[Tensor, "task query *input"]
    ) -> Float[Tensor, "task query out"]:
        return self._answer(adapted, self.embedding.query(adapted.params, query_x, adapted.context))

    def meta_gradient(self, params: MetaParams, episodes: Episodes, progress: float) -> MetaGradient:
        if self.shuffle:
            episodes = shuffled_support(episodes, progress)

        def objective(params: MetaParams) -> tuple[Tensor, dict[str, Tensor]]:
            embedded = self.embedding.episodes(params, episodes)
            read = self._read(params, (), embedded.support, episodes.support)
            prediction = self._answer(read, embedded.query)
            return mean_query_loss(prediction, episodes.query.y), embedded.replaced

        return differentiate(objective, params)

    def _read(
        self,
        params: MetaParams,
        context: Context,
        features: Float[Tensor, "task support feature"],
        support: Examples,
    ) -> ReadSupport:
        codes = self.label_scale * label_codes(support.y, self.problem.outputs, features)
        nothing = torch.zeros_like(codes[:, 0])
        lstm = part_of(params, "lstm")
        state = self._cell.start((len(features),), features)
        for t in range(features.shape[1]):
            label = codes[:, t] if self.labels == "paired" else codes[:, t - 1] if t else nothing
            state = self._cell.step(lstm, torch.cat((features[:, t], label), dim=-1), state)
        return ReadSupport(params, context, state, nothing if self.labels == "paired" else codes[:, -1])

    def _answer(
        self, read: ReadSupport, features: Float[Tensor, "task query feature"]
    ) -> Float[Tensor, "task query out"]:
        n_queries = features.shape[1]
        label, hidden, cell = (
            value.unsqueeze(1).expand(-1, n_queries, -1)
            for value in (read.last_label, read.state.hidden, read.state.cell)
        )
        inputs = torch.cat((features, label), dim=-1)
        state = self._cell.step(part_of(read.params, "lstm"), inputs, LSTMState(hidden, cell))
        return state.hidden @ read.params["output.weight"] + read.params["output.bias"]
