"""Batch norm with a task's own statistics and ReLU as one operation, with its first and second derivative written out.

With rows x of one task and channel, m(u) the mean of u over rows, r = (m((x - m(x))^2) + eps)^(-1/2), h = r (x - m(x)):

  y = relu(h + shift)
  pull-back of g:  with g zero where y is:   d shift = sum g,   d x = r P(g),   P(u) = u - m(u) - h m(u h)
  of (a, b) through that:                    d g = r P(a) + b where y is not zero, else 0
                                             d x = -r^2 (h (m(a g) - m(a) m(g) - m(a h) m(g h))
                                                         + m(g h) P(a) + m(a h) P(g))

Autograd on primitives does the same with some forty passes over the data; batch norm and ReLU are as costly as the
convolutions there. Derivation: d h = r P(d x), d r = -r^2 m(h d x).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def norm_relu(
    x: Float[Tensor, "task row channel"], shift: Float[Tensor, "task channel"], eps: float
) -> tuple[Float[Tensor, "task row channel"], Float[Tensor, "task channel"], Float[Tensor, "task channel"]]:
    """relu(batch norm of x + shift), and x's mean and biased variance, detached. Differentiable twice."""
    return _NormReLU.apply(x, shift, eps)


def _mean(a: Tensor, b: Tensor) -> Tensor:
    """Mean over rows of a product, (task, 1, channel)."""
    return (a * b).mean(1, keepdim=True)


class _NormReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        mean = x.mean(1, keepdim=True)
        h = x - mean
        variance = _mean(h, h)
        r = (variance + eps).rsqrt()
        h *= r
        y = (h + shift.unsqueeze(1)).relu_()
        mean, variance = mean.squeeze(1), variance.squeeze(1)
        ctx.save_for_backward(x, y, h, r)
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, y, h, r = ctx.saved_tensors
        to_x, to_shift = _PullBack.apply(grads[0], x, y, h, r)
        return to_x, to_shift, None


class _PullBack(torch.autograd.Function):
    """(d x, d shift) from g, as a function of g and x; h, r and where y is zero are known from x."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, y: Tensor, h: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        g = torch.ops.aten.threshold_backward(g, y, 0)
        mean, mean_h = g.mean(1, keepdim=True), _mean(g, h)
        projected = torch.addcmul(g - mean, h, mean_h, value=-1)
        ctx.save_for_backward(g, y, h, r, mean, mean_h, projected)
        return projected * r, mean.squeeze(1) * g.shape[1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, a: Tensor, b: Tensor) -> Any:
        g, y, h, r, mean, mean_h, projected = ctx.saved_tensors
        a_mean, a_mean_h = a.mean(1, keepdim=True), _mean(a, h)
        a_projected = torch.addcmul(a - a_mean, h, a_mean_h, value=-1)
        to_g = torch.ops.aten.threshold_backward(torch.addcmul(b.unsqueeze(1), a_projected, r), y, 0)
        factor = -r.square()
        along_h = _mean(a, g) - a_mean * mean - a_mean_h * mean_h
        to_x = h * (factor * along_h)
        to_x.addcmul_(a_projected, factor * mean_h).addcmul_(projected, factor * a_mean_h)
        return to_g, to_x, None, None, None
