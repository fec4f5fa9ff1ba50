"""The derivative of a meta-objective, and the losses it is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from .episodes import Episodes, tasks
from .learner import MetaGradient

PIXELS_AT_ONCE = 131_072
"""Support and query pixels of the tasks that are differentiated together. With many more, the buffers between layers
are so large that the allocator takes them from the system anew each time: measured on Conv4, a third more time."""


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


def differentiate_in_parts(
    loss: Callable[[Mapping[str, Tensor], Episodes], Tensor], params: Mapping[str, Tensor], episodes: Episodes
) -> MetaGradient:
    """The gradient of loss(params, episodes), a mean over tasks, a few tasks at a time, which bounds the memory."""
    n_tasks = len(episodes.support.x)
    at_once = max(1, PIXELS_AT_ONCE * n_tasks // (episodes.support.x.numel() + episodes.query.x.numel()))
    n_parts = -(-n_tasks // at_once)
    if n_parts == 1:
        return differentiate(lambda at: (loss(at, episodes), {}), params)
    gradient: dict[str, Tensor] = {}
    objective = torch.zeros(())
    for i in range(n_parts):
        part = tasks(episodes, slice(n_tasks * i // n_parts, n_tasks * (i + 1) // n_parts))
        found = differentiate(lambda at, part=part: (loss(at, part), {}), params)  # type: ignore[misc]
        share = len(part.support.x) / n_tasks
        for name, value in found.gradient.items():
            gradient[name] = gradient[name] + share * value if name in gradient else share * value
        objective = objective + share * found.objective
    return MetaGradient(gradient, objective)


def losses_of(
    prediction: Float[Tensor, "task example out"], y: Int[Tensor, "task example"] | Float[Tensor, "task example out"]
) -> Float[Tensor, " task"]:
    """Mean cross-entropy of each task's logits (nats), or its mean squared error for float targets."""
    if y.dtype.is_floating_point:
        return (prediction - y).square().mean((1, 2))
    return cross_entropy(prediction.transpose(1, 2), y, reduction="none").mean(1)


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
