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
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from .episodes import Examples
from .learner import MetaParams
from .lstm import LSTMCell, LSTMState
from .naming import named, part_of
from .sequence_learner import Labels, SequenceLearner, check_labels, labels_as_read


@dataclass(frozen=True)
class ReadByLSTM:
    """The state after a support set."""

    state: LSTMState
    """(task, hidden)."""
    last_label: Float[Tensor, "task out"]
    """y_T as it is read where labels are delayed, zeros where they are paired."""


@dataclass(frozen=True)
class LSTMLearner(SequenceLearner[ReadByLSTM]):
    """Few-shot learner for classes and for regression; the number of outputs is fixed."""

    title: ClassVar[str] = "an LSTM learner"

    hidden: int = 200
    """Entries of the LSTM's state; Santoro et al. use 200."""
    labels: Labels = "delayed"
    """Which label is read with an example: the one before it, as in the papers, or its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_labels(self.labels)

    @cached_property
    def _cell(self) -> LSTMCell:
        return LSTMCell(self.embedding.feature_dim + self.problem.outputs, self.hidden)

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        params = self.embedding.init(generator) | named("lstm", self._cell.init(generator))
        bound = 1.0 / math.sqrt(self.hidden)
        weight = (2 * torch.rand(self.hidden, self.problem.outputs, generator=generator) - 1) * bound
        return params | {"output.weight": weight, "output.bias": torch.zeros(self.problem.outputs)}

    def read(self, params: MetaParams, support: Examples) -> ReadByLSTM:
        features = support.x
        labels, last_label = labels_as_read(self.codes(support), self.labels)
        lstm = part_of(params, "lstm")
        state = self._cell.start((len(features),), features)
        for t in range(features.shape[1]):
            state = self._cell.step(lstm, torch.cat((features[:, t], labels[:, t]), dim=-1), state)
        return ReadByLSTM(state, last_label)

    def answer(
        self, params: MetaParams, read: ReadByLSTM, features: Float[Tensor, "task query feature"]
    ) -> Float[Tensor, "task query out"]:
        n_queries = features.shape[1]
        label, hidden, cell = (
            value.unsqueeze(1).expand(-1, n_queries, -1)
            for value in (read.last_label, read.state.hidden, read.state.cell)
        )
        inputs = torch.cat((features, label), dim=-1)
        state = self._cell.step(part_of(params, "lstm"), inputs, LSTMState(hidden, cell))
        return state.hidden @ params["output.weight"] + params["output.bias"]
