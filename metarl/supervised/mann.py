"""Memory-augmented neural network: an LSTM controller that stores what it reads in an external memory.

  h_t, c_t = LSTM([f(x_t), y_tm1, r_tm1], h_tm1, c_tm1)      (labels delayed, as in the paper; or paired: y_t)
  keys k = tanh(W_k h_t + b_k) and gates a = W_a h_t + b_a of each head; the memory's step gives r_t
  output = W [h_t, r_t] + b

A query is asked after the whole support set: the controller takes one step with [f(x), y_T, r_T] (labels paired: 0 in
place of y_T), reads, and answers; nothing is written, so queries do not see one another. The memory is each task's own
and starts empty.
Source: Santoro et al. 2016, "Meta-learning with memory-augmented neural networks", https://arxiv.org/abs/1605.06065,
section 3 and appendix; the memory's equations are in `least_recently_used`.
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
from torch.nn.functional import softplus

from .episodes import Examples
from .learner import MetaParams
from .least_recently_used import MemoryState, empty_memory, read_weights, step
from .lstm import LSTMCell, LSTMState
from .naming import named, part_of
from .sequence_learner import Labels, SequenceLearner, check_labels, labels_as_read

INITIAL_STRENGTH = 4.0
"""Bias of learned strengths at the start."""


@dataclass(frozen=True)
class ReadToMemory:
    """What the network carries after a support set."""

    state: LSTMState
    """(task, hidden)."""
    memory: MemoryState
    reading: Float[Tensor, "task read"]
    """r_T, of all heads."""
    last_label: Float[Tensor, "task out"]
    """y_T as it is read where labels are delayed, zeros where they are paired."""


@dataclass(frozen=True)
class MemoryAugmentedNetwork(SequenceLearner[ReadToMemory]):
    """Few-shot learner for classes and for regression; the number of outputs is fixed."""

    title: ClassVar[str] = "a memory-augmented network"

    hidden: int = 200
    """Entries of the controller's state. Default: the paper's."""
    places: int = 128
    """Places of the memory. Default: the paper's."""
    word: int = 40
    """Entries of a place. Default: the paper's."""
    heads: int = 4
    """Heads that read and write. Default: the paper's."""
    decay: float = 0.99
    """Of the usage weights, a step. Default: the paper's."""
    learned_strength: bool = False
    """Heads choose how sharply they read, 1 + softplus(W_b h + b_b), about 5 at the start; else 1, as in the paper,
    where a softmax of bare cosines over many places is nearly flat."""
    labels: Labels = "delayed"
    """Which label is read with an example: the one before it, as in the paper, or its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.heads <= self.places:
            raise ValueError(f"heads {self.heads} must be between 1 and the number of places, {self.places}")
        check_labels(self.labels)
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay {self.decay} must be at least 0 and below 1")

    @cached_property
    def _cell(self) -> LSTMCell:
        inputs = self.embedding.feature_dim + self.problem.outputs + self.heads * self.word
        return LSTMCell(inputs, self.hidden)

    @cached_property
    def _widths(self) -> tuple[int, int, int]:
        """Outputs of the controller to the memory: keys, gates, strengths."""
        return self.heads * self.word, self.heads, self.heads if self.learned_strength else 0

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        params = self.embedding.init(generator) | named("controller", self._cell.init(generator))
        for name, n_in, n_out in (
            ("heads", self.hidden, sum(self._widths)),
            ("output", self.hidden + self.heads * self.word, self.problem.outputs),
        ):
            weight = (2 * torch.rand(n_in, n_out, generator=generator) - 1) / math.sqrt(n_in)
            params |= {f"{name}.weight": weight, f"{name}.bias": torch.zeros(n_out)}
        if self.learned_strength:
            params["heads.bias"][-self.heads :] = INITIAL_STRENGTH
        return params

    def read(self, params: MetaParams, support: Examples) -> ReadToMemory:
        features = support.x
        labels, last_label = labels_as_read(self.codes(support), self.labels)
        controller = part_of(params, "controller")
        state = self._cell.start((len(features),), features)
        memory = empty_memory(len(features), self.places, self.word, self.heads, features)
        reading = features.new_zeros(len(features), self.heads * self.word)
        for t in range(features.shape[1]):
            state = self._cell.step(controller, torch.cat((features[:, t], labels[:, t], reading), dim=-1), state)
            keys, gates, strengths = self._heads(params, state.hidden)
            memory, words = step(memory, keys, gates, strengths, self.decay)
            reading = words.flatten(1)
        return ReadToMemory(state, memory, reading, last_label)

    def answer(
        self, params: MetaParams, read: ReadToMemory, features: Float[Tensor, "task query feature"]
    ) -> Float[Tensor, "task query out"]:
        tasks, queries = features.shape[:2]
        label, reading, hidden, cell = (
            value.unsqueeze(1).expand(-1, queries, -1)
            for value in (read.last_label, read.reading, read.state.hidden, read.state.cell)
        )
        inputs = torch.cat((features, label, reading), dim=-1)
        hidden = self._cell.step(part_of(params, "controller"), inputs, LSTMState(hidden, cell)).hidden
        keys, _, strengths = self._heads(params, hidden)
        weights = read_weights(
            keys.flatten(1, 2), None if strengths is None else strengths.flatten(1), read.memory.content
        )
        words = (weights @ read.memory.content).reshape(tasks, queries, -1)
        return torch.cat((hidden, words), dim=-1) @ params["output.weight"] + params["output.bias"]

    def _heads(
        self, params: MetaParams, hidden: Float[Tensor, "*batch hidden"]
    ) -> tuple[Float[Tensor, "*batch head word"], Float[Tensor, "*batch head"], Float[Tensor, "*batch head"] | None]:
        """Keys, gates and strengths that the controller emits."""
        out = hidden @ params["heads.weight"] + params["heads.bias"]
        keys, gates, strengths = out.split(self._widths, dim=-1)
        keys = torch.tanh(keys).unflatten(-1, (self.heads, self.word))
        return keys, gates, 1 + softplus(strengths) if self.learned_strength else None
