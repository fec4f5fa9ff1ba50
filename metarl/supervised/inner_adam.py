"""Adam as the update of an inner loop, over a task axis and differentiable.

  m_t = b1 m_{t-1} + (1 - b1) g,   v_t = b2 v_{t-1} + (1 - b2) g^2
  theta_t = theta_{t-1} - lr * (m_t / (1 - b1^t)) / (sqrt(v_t / (1 - b2^t)) + eps)

Source: Kingma and Ba 2015, algorithm 1; b1 = 0 is the inner optimiser of Reptile (Nichol et al. 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

EPSILON = 1e-8


@dataclass(frozen=True)
class AdamMemory:
    """Moments of the gradients so far, one entry a parameter, and the number of steps taken."""

    first: Tensor
    second: Tensor
    n_steps: int


@dataclass(frozen=True)
class InnerAdam:
    """The update rule; an `Update` of `metarl.inner.adapt_with`."""

    lr: float
    beta_1: float = 0.9
    beta_2: float = 0.999

    def init(self, params: Tensor) -> AdamMemory:
        zeros = torch.zeros_like(params)
        return AdamMemory(zeros, zeros, 0)

    def step(self, params: Tensor, signal: Tensor, state: AdamMemory) -> tuple[Tensor, AdamMemory]:
        t = state.n_steps + 1
        first = self.beta_1 * state.first + (1 - self.beta_1) * signal
        second = self.beta_2 * state.second + (1 - self.beta_2) * signal.square()
        step = (first / (1 - self.beta_1**t)) / ((second / (1 - self.beta_2**t)).sqrt() + EPSILON)
        return params - self.lr * step, AdamMemory(first, second, t)
