"""The derivative of a meta-objective, and the losses it is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from .learner import MetaGradient


def differentiate(
    objective: Callable[[Mapping[str, Tensor]], tuple[Tensor, dict[str, Tensor]]], params: Mapping[str, Tensor]
) -> MetaGradient:
    """The gradient of objective(params) = (loss, new running statistics) with respect to each entry it depends on."""
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    with torch.enable_grad():
        loss, replaced = objective(leaves)
        grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    gradient = {
        name: grad
        for name, grad in zip(leaves, grads, strict=True)
        if grad is not None and name not in replaced  # a running statistic has its own rule
    }
    return MetaGradient(gradient, loss.detach(), {name: value.detach() for name, value in replaced.items()})


def mean_query_loss(
    prediction: Float[Tensor, "task query out"], y: Int[Tensor, "task query"] | Float[Tensor, "task query out"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy of logits if targets are classes, else mean squared error; over queries and tasks."""
    if y.dtype.is_floating_point:
        return (prediction - y).square().mean()
    return cross_entropy(prediction.flatten(0, 1), y.flatten())


def refuse_steps(steps: int | None, learner: str) -> None:
    """ValueError if a number of gradient steps is asked of a learner that takes none."""
    if steps is not None:
        raise ValueError(f"{learner} adapts without gradient steps: got steps={steps}, allowed is None; leave it out")
