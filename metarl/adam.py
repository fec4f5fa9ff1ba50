"""Adam as a pure function of tensors, so that its state is plain data in a checkpoint.

  m_t = b1 m_{t-1} + (1 - b1) g_t,   v_t = b2 v_{t-1} + (1 - b2) g_t^2
  step = lr * (m_t / (1 - b1^t)) / (sqrt(v_t / (1 - b2^t)) + eps)

Source: Kingma and Ba 2015, algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class AdamState:
    """Running moments of the gradient."""

    first: Float[Tensor, "*shape"]
    """m: the mean."""
    second: Float[Tensor, "*shape"]
    """v: the mean square."""
    n_steps: int
    """t: steps taken."""


def init_adam(like: Float[Tensor, "*shape"]) -> AdamState:
    """The state before the first step of a tensor like this one."""
    return AdamState(torch.zeros_like(like), torch.zeros_like(like), 0)


def adam_step(
    state: AdamState, gradient: Float[Tensor, "*shape"], lr: float, beta_1: float = BETA_1
) -> tuple[AdamState, Float[Tensor, "*shape"]]:
    """The state after a gradient, and the step to subtract from the parameters. Mutates neither argument.

    beta_1: 0 for no momentum, as Reptile's inner steps.
    """
    t = state.n_steps + 1
    first = beta_1 * state.first + (1 - beta_1) * gradient
    second = BETA_2 * state.second + (1 - BETA_2) * gradient**2
    scale = (second / (1 - BETA_2**t)).sqrt() + EPSILON
    return AdamState(first, second, t), lr * (first / (1 - beta_1**t)) / scale
