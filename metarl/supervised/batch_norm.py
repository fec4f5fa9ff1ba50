"""Batch normalisation over a task axis, from primitives.

  h = (x - mean) / sqrt(variance + eps),   y = h * scale + shift

mean and variance (biased) are of one task's examples, per channel, so that a task does not depend on its neighbours.
Which examples is the caller's choice, and results should say so: a query set's own statistics (transductive, as in the
code of Finn et al. 2017), the support set's (inductive: a query's prediction does not depend on the other queries), or
running statistics.
torch's batch norm under vmap has a silently wrong second derivative (relative error 0.14 in float64), so this has none
of it. Source: Ioffe and Szegedy 2015, algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

EPSILON = 1e-3
"""Added to the variance. The default of TensorFlow's contrib layers, which the code of Finn et al. 2017 uses."""


@dataclass(frozen=True)
class Moments:
    """What one layer normalises with."""

    mean: Float[Tensor, "*task channel"]
    variance: Float[Tensor, "*task channel"]
    """Biased: divided by the number of rows."""


def moments_of(x: Float[Tensor, "task row channel *position"]) -> Moments:
    """Mean and biased variance of each task's rows (and positions, of images), per channel."""
    mean = x.mean(over(x))
    return Moments(mean, (x - channelwise(mean, x)).square().mean(over(x)))


def batch_norm(
    x: Float[Tensor, "task row channel *position"],
    shift: Float[Tensor, "*per channel"],
    scale: Float[Tensor, "*each channel"] | None = None,
    moments: Moments | None = None,
    eps: float = EPSILON,
) -> tuple[Float[Tensor, "task row channel *position"], Moments]:
    """The normalised rows, and the moments they were normalised with: x's own where none are given.

    shift, scale and moments have a task axis or are shared by all tasks. Differentiable any number of times.
    """
    mean = x.mean(over(x)) if moments is None else moments.mean
    centred = x - channelwise(mean, x)
    used = Moments(mean, centred.square().mean(over(x))) if moments is None else moments
    factor = (used.variance + eps).rsqrt()
    if scale is not None:
        factor = factor * scale
    return torch.addcmul(channelwise(shift, x), centred, channelwise(factor, x)), used


def over(x: Tensor) -> tuple[int, ...]:
    """The axes that moments are taken over: all but task and channel."""
    return (1, *range(3, x.dim()))


def channelwise(value: Tensor, like: Tensor) -> Tensor:
    """(task, channel) or (channel,) with the axes that make it broadcast over the rows and positions of like."""
    return value.reshape(*value.shape[:-1], 1, value.shape[-1], *(1,) * (like.dim() - 3))
