"""Batch norm with a task's own statistics and ReLU as one operation, with its first and second derivative written out.

With rows x of one task and channel, m(u) the mean of u over rows, r = (m((x - m(x))^2) + eps)^(-1/2), h = r (x - m(x)):

  y = relu(scale h + shift)
  pull-back of g:  with g zero where y is:   d shift = sum g,   d scale = sum g h,   d x = scale r P(g)
                                             P(u) = u - m(u) - h m(u h)
  of (a, b, c) through that:                 d g = scale r P(a) + b + c h where y is not zero, else 0
                                             d scale = n r q,   q = m(a g) - m(a) m(g) - m(a h) m(g h)
                                             d x = -scale r^2 (h q + m(g h) P(a) + m(a h) P(g)) + c r P(g)

Autograd on primitives does the same with some forty passes over the data; batch norm and ReLU are as costly as the
convolutions there. Derivation: d h = r P(d x), d r = -r^2 m(h d x).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .batch_norm import EPSILON, Moments, batch_norm


def norm_relu_with(
    x: Float[Tensor, "task row channel"],
    shift: Float[Tensor, "*per channel"],
    scale: Float[Tensor, "*each channel"] | None,
    moments: Moments | None,
) -> tuple[Float[Tensor, "task row channel"], Moments]:
    """ReLU of batch norm, and the moments it used: x's own where none are given; see `batch_norm`."""
    if moments is not None:
        rows, used = batch_norm(x, shift, scale, moments)
        return rows.relu(), used
    like = (len(x), x.shape[2])
    rows, mean, variance = norm_relu(x, shift.expand(like), EPSILON, None if scale is None else scale.expand(like))
    return rows, Moments(mean, variance)


def norm_relu(
    x: Float[Tensor, "task row channel"],
    shift: Float[Tensor, "task channel"],
    eps: float,
    scale: Float[Tensor, "task channel"] | None = None,
) -> tuple[Float[Tensor, "task row channel"], Float[Tensor, "task channel"], Float[Tensor, "task channel"]]:
    """relu(batch norm of x * scale + shift), and x's mean and biased variance. Differentiable twice.

    scale None: no scale, 1.
    """
    return _NormReLU.apply(x, shift, torch.ones_like(shift) if scale is None else scale, eps)


def _mean(a: Tensor, b: Tensor) -> Tensor:
    """Mean over rows of a product, (task, 1, channel)."""
    return (a * b).mean(1, keepdim=True)


class _NormReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        mean = x.mean(1, keepdim=True)
        h = x - mean
        variance = _mean(h, h)
        r = (variance + eps).rsqrt()
        h *= r
        y = torch.addcmul(shift.unsqueeze(1), h, scale.unsqueeze(1)).relu_()
        mean, variance = mean.squeeze(1), variance.squeeze(1)
        ctx.save_for_backward(x, scale, y, h, r)
        ctx.set_materialize_grads(False)  # whoever does not use the moments does not pay for their derivatives
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        x, scale, y, h, r = ctx.saved_tensors
        to_y, to_mean, to_variance = grads
        to_x, to_shift, to_scale = None, None, None
        if to_y is not None:
            to_x, to_shift, to_scale = _PullBack.apply(to_y, x, scale.unsqueeze(1), y, h, r)
        if to_mean is not None or to_variance is not None:
            of_moments = torch.zeros_like(r.squeeze(1)) if to_mean is None else to_mean
            more = of_moments.unsqueeze(1).expand_as(x) / x.shape[1]
            if to_variance is not None:
                centred = x - x.mean(1, keepdim=True)
                more = more + centred * (to_variance.unsqueeze(1) * (2 / x.shape[1]))
            to_x = more if to_x is None else to_x + more
        return to_x, to_shift, to_scale, None


class _PullBack(torch.autograd.Function):
    """(d x, d shift, d scale) from g, as a function of g, x and scale; h, r and where y is zero are known from x."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, scale: Tensor, y: Tensor, h: Tensor, r: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        g = torch.ops.aten.threshold_backward(g, y, 0)
        mean, mean_h = g.mean(1, keepdim=True), _mean(g, h)
        projected = torch.addcmul(g - mean, h, mean_h, value=-1)
        ctx.save_for_backward(g, scale, y, h, r, mean, mean_h, projected)
        n = g.shape[1]
        return projected * (scale * r), mean.squeeze(1) * n, mean_h.squeeze(1) * n

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, a: Tensor, b: Tensor, c: Tensor) -> Any:
        g, scale, y, h, r, mean, mean_h, projected = ctx.saved_tensors
        b, c = b.unsqueeze(1), c.unsqueeze(1)
        a_mean, a_mean_h = a.mean(1, keepdim=True), _mean(a, h)
        a_projected = torch.addcmul(a - a_mean, h, a_mean_h, value=-1)
        to_g = torch.addcmul(b, a_projected, scale * r).addcmul_(h, c)
        to_g = torch.ops.aten.threshold_backward(to_g, y, 0)
        along_h = _mean(a, g) - a_mean * mean - a_mean_h * mean_h
        factor = -scale * r.square()
        to_x = h * (factor * along_h)
        to_x.addcmul_(a_projected, factor * mean_h).addcmul_(projected, factor * a_mean_h + c * r)
        return to_g, to_x, along_h * r * g.shape[1], None, None, None
