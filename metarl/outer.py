"""Derivatives through adaptation: how a small change of the initial parameters moves the adapted ones.

With H_j the Hessian of the inner loss j at theta_{j-1} and g_j its gradient there,

  d theta_j = (I - diag(alpha) H_j) d theta_{j-1} - g_j * d alpha.

`push_forward` applies this to a direction and `pull_back` its transpose to a gradient; together they give the
meta-gradient and the Gauss-Newton Fisher product J^T F J v of MAML-TRPO. First order drops every H_j.
Source: Finn et al. 2017, the gradient in equation 1 (one step); the chain rule for more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .losses import Linearised


@dataclass(frozen=True)
class InnerStep:
    """One inner step of one task, linearised where it was taken."""

    loss: Linearised
    gradient: Float[Tensor, " P"]


def pull_back(
    steps: Sequence[InnerStep],
    step_size: Tensor,
    v: Float[Tensor, " P"],
    first_order: bool = False,
    v_before: Sequence[Float[Tensor, " P"]] = (),
) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"]]:
    """J^T v: the gradient in (theta, alpha) of a loss whose gradient in the adapted parameters is v.

    step_size: () or (P,). The gradient in alpha is per parameter, (P,), summed over steps.
    v_before: for a loss that also depends on theta_0, ... theta_{k-1} directly, its gradients there; empty for none.
    """
    v_alpha = torch.zeros_like(v)
    for j in reversed(range(len(steps))):
        v_alpha = v_alpha - steps[j].gradient * v
        if not first_order:
            v = v - steps[j].loss.hvp(step_size * v)
        if v_before:
            v = v + v_before[j]
    return v, v_alpha


def push_forward(
    steps: Sequence[InnerStep],
    step_size: Tensor,
    v: Float[Tensor, " P"],
    v_alpha: Tensor | None = None,
    first_order: bool = False,
) -> Float[Tensor, " P"]:
    """J (v, v_alpha): how the adapted parameters move when theta moves along v and alpha along v_alpha."""
    for step in steps:
        moved = v if first_order else v - step_size * step.loss.hvp(v)
        v = moved if v_alpha is None else moved - step.gradient * v_alpha
    return v
