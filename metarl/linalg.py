"""Conjugate gradients and backtracking, as TRPO uses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], b: Float[Tensor, " n"], iterations: int = 10, tolerance: float = 1e-10
) -> Float[Tensor, " n"]:
    """Approximate A^-1 b for a symmetric positive definite A given by its product with a vector.

    Stops after `iterations`, when the squared residual is below tolerance * |b|^2, or when A turns out not to be
    positive along the search direction (rounding), keeping what it has by then.
    Source: Hestenes and Stiefel 1952.
    """
    x = torch.zeros_like(b)
    residual = b.clone()
    direction = b.clone()
    rr = float(residual @ residual)
    stop = tolerance * rr
    for _ in range(iterations):
        if rr <= stop or rr == 0.0:
            break
        a_direction = product(direction)
        curvature = float(direction @ a_direction)
        if curvature <= 0.0:
            break
        step = rr / curvature
        x.add_(direction, alpha=step)
        residual.sub_(a_direction, alpha=step)
        rr_next = float(residual @ residual)
        direction = residual + (rr_next / rr) * direction
        rr = rr_next
    return x


class LineSearchResult(NamedTuple):
    """Outcome of a backtracking line search."""

    fraction: float
    """The accepted fraction of the full step; 0 when none was."""
    loss: float
    """Loss there (of the start when none was accepted)."""
    kl: float
    """Divergence there (0 when none was accepted)."""


def backtracking_line_search(
    evaluate: Callable[[float], tuple[float, float]],
    loss_before: float,
    max_kl: float,
    ratio: float = 0.8,
    max_steps: int = 15,
) -> LineSearchResult:
    """The largest of 1, ratio, ratio^2, ... of the full step that lowers the loss and keeps KL <= max_kl.

    evaluate: fraction -> (loss, kl). Source: Schulman et al. 2015, appendix C.
    """
    for i in range(max_steps):
        fraction = ratio**i
        loss, kl = evaluate(fraction)
        if loss < loss_before and kl <= max_kl:  # False for NaN
            return LineSearchResult(fraction, loss, kl)
    return LineSearchResult(0.0, loss_before, 0.0)
