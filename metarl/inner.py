"""Hot loop 2: adaptation. One fold serves reinforcement learning and supervised learning.

theta_0 = theta;  theta_j = theta_{j-1} - alpha_j * grad L_j(theta_{j-1}),   j = 1 ... k
Source: Finn et al. 2017, equation 1, repeated k times. alpha is a number or one per parameter (Li et al. 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import Tensor

Batch = TypeVar("Batch")


def sgd_step(params: Tensor, gradient: Tensor, step_size: Tensor | float) -> Tensor:
    """params - step_size * gradient; differentiable in all three."""
    return params - step_size * gradient


def adapt(
    gradient: Callable[[Tensor, Batch], Tensor],
    params: Tensor,
    batches: Sequence[Batch],
    step_sizes: Sequence[Tensor | float],
) -> list[Tensor]:
    """[theta_0, theta_1, ..., theta_k] for k batches, each step on its own batch with its own step size."""
    trajectory = [params]
    for batch, step_size in zip(batches, step_sizes, strict=True):
        trajectory.append(sgd_step(trajectory[-1], gradient(trajectory[-1], batch), step_size))
    return trajectory
