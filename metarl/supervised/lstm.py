"""Long short-term memory: one step of one cell as a pure function of named parameters.

  z = [x_t, h_tm1] W + b,   split into i, f, g, o
  c_t = sigmoid(f) * c_tm1 + sigmoid(i) * tanh(g),   h_t = sigmoid(o) * tanh(c_t)

Source: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .lstm_rows import ROWS_AT_ONCE, step_rows


@dataclass(frozen=True)
class LSTMState:
    """What a cell carries from step to step; the leading axes are the caller's (task, query, coordinate)."""

    hidden: Float[Tensor, "*batch hidden"]
    cell: Float[Tensor, "*batch hidden"]


@dataclass(frozen=True)
class LSTMCell:
    """Settings of one layer."""

    inputs: int
    """Entries of x_t."""
    hidden: int
    """Entries of h_t and of c_t."""

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """`weight` (inputs + hidden, 4 hidden) uniform in +-1/sqrt(hidden), `bias` zero but 1 at the forget gates.

        Source of the 1: Jozefowicz et al. 2015, section 2.1; a cell remembers until it has learned to forget.
        """
        bound = 1.0 / math.sqrt(self.hidden)
        weight = (2 * torch.rand(self.inputs + self.hidden, 4 * self.hidden, generator=generator) - 1) * bound
        bias = torch.zeros(4 * self.hidden)
        bias[self.hidden : 2 * self.hidden] = 1.0
        return {"weight": weight, "bias": bias}

    def start(self, batch: tuple[int, ...], like: Tensor) -> LSTMState:
        """The state before the first step, all zeros, of `like`'s type and device."""
        zeros = torch.zeros((*batch, self.hidden), dtype=like.dtype, device=like.device)
        return LSTMState(zeros, zeros)

    def step(self, params: Mapping[str, Tensor], x: Float[Tensor, "*batch inputs"], state: LSTMState) -> LSTMState:
        """The state after input x. Of more than `lstm_rows.ROWS_AT_ONCE` rows it is differentiable once."""
        rows = x.shape[:-1]
        if rows.numel() > ROWS_AT_ONCE:
            flat, before, memory = (value.expand(*rows, -1).flatten(0, -2) for value in (x, state.hidden, state.cell))
            hidden, cell = step_rows(flat, before, memory, params["weight"], params["bias"])
            return LSTMState(hidden.unflatten(0, rows), cell.unflatten(0, rows))
        z = torch.cat((x, state.hidden), dim=-1) @ params["weight"] + params["bias"]
        i, f, g, o = z.chunk(4, dim=-1)
        cell = torch.sigmoid(f) * state.cell + torch.sigmoid(i) * torch.tanh(g)
        return LSTMState(torch.sigmoid(o) * torch.tanh(cell), cell)
