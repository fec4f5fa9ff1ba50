"""An LSTM's step on very many rows, as a learned optimizer takes it: one row a coordinate.

Rows are stepped a block at a time, so that all that is made of a block stays in a core's cache, and with gates as the
leading axis, so that each is one stretch of memory. Nothing but inputs is kept for the derivative: gates, which would
be most of a learned optimizer's memory, are computed anew there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS_AT_ONCE = 2048
"""Rows of a block."""


def step_rows(
    x: Float[Tensor, "row inputs"],
    hidden: Float[Tensor, "row hidden"],
    cell: Float[Tensor, "row hidden"],
    weight: Float[Tensor, "inputs_and_hidden gates"],
    bias: Float[Tensor, " gates"],
) -> tuple[Float[Tensor, "row hidden"], Float[Tensor, "row hidden"]]:
    """The next hidden state and cell, as `lstm.LSTMCell` defines them. Differentiable once."""
    new_hidden, new_cell = _StepRows.apply(x, hidden, cell, weight, bias)
    return new_hidden, new_cell


class _StepRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, hidden: Tensor, cell: Tensor, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, hidden, cell, weight, bias)
        new_hidden, new_cell = _columns(hidden), _columns(cell)
        for block in _blocks(len(x)):
            i, f, g, o = _gates(_seen(x, hidden, block), weight, bias)
            new = i.mul_(g).add_(f.mul_(cell.T[:, block]))
            new_cell.T[:, block] = new
            torch.mul(o, new.tanh_(), out=new_hidden.T[:, block])
        return new_hidden, new_cell

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_new_hidden: Tensor, d_new_cell: Tensor) -> Any:
        x, hidden, cell, weight, bias = ctx.saved_tensors
        d_x = _columns(x) if ctx.needs_input_grad[0] else None
        d_hidden, d_cell = _columns(hidden), _columns(cell)
        d_weight, d_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        for block in _blocks(len(x)):
            seen, before = _seen(x, hidden, block), cell.T[:, block].contiguous()
            i, f, g, o = gates = _gates(seen, weight, bias)
            squashed = torch.addcmul(f * before, i, g).tanh_()
            d_out = d_new_hidden.T[:, block].contiguous()
            d_new = (1 - squashed.square()).mul_(o).mul_(d_out).add_(d_new_cell.T[:, block])
            torch.mul(d_new, f, out=d_cell.T[:, block])
            # Of what the gates are the sigmoid or tanh of.
            d_z = torch.stack((d_new * g, d_new * before, d_new * i, d_out * squashed))
            d_z[:2] *= gates[:2] * (1 - gates[:2])
            d_z[2] *= 1 - g.square()
            d_z[3] *= o * (1 - o)
            flat = d_z.flatten(0, 1)
            if d_x is not None:
                torch.mm(weight[: x.shape[1]], flat, out=d_x.T[:, block])
            torch.mm(weight[x.shape[1] :], flat, out=d_hidden.T[:, block])
            d_weight.addmm_(seen, flat.T)
            d_bias += flat.sum(1)
        return d_x, d_hidden, d_cell, d_weight, d_bias


def _blocks(n_rows: int) -> Iterator[slice]:
    return (slice(first, first + ROWS_AT_ONCE) for first in range(0, n_rows, ROWS_AT_ONCE))


def _columns(like: Float[Tensor, "row entry"]) -> Float[Tensor, "row entry"]:
    """Room for as much, a column after the other: what the next step, and the next layer, read without turning it."""
    return like.new_empty(like.shape[::-1]).T


def _seen(x: Tensor, hidden: Tensor, block: slice) -> Float[Tensor, "inputs_and_hidden row"]:
    """[x, h] of a block's rows."""
    return torch.cat((x.T[:, block], hidden.T[:, block]))


def _gates(seen: Tensor, weight: Tensor, bias: Tensor) -> Float[Tensor, "4 hidden row"]:
    """i, f, g, o of rows of [x, h]."""
    z = torch.addmm(bias.unsqueeze(1), weight.T, seen).unflatten(0, (4, -1))
    z[:2].sigmoid_()
    z[2].tanh_()
    z[3].sigmoid_()
    return z
