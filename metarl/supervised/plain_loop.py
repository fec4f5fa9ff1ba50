"""MAML written the plain way: one task after the other, torch's own layers and autograd. What `speed` compares with.

It is what most published code does, and a second implementation to test the task axis against; nothing else uses it.
Same mathematics as `maml.MAML`: gradients of the mean support loss, shifts of batch norm shared and not adapted.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from .batch_norm import EPSILON
from .conv4 import LAYERS, Conv4, filters_first
from .episodes import Episodes
from .networks import MLP, Network


def loop_meta_gradient(
    network: Network, theta: Float[Tensor, " P"], episodes: Episodes, step_size: float, steps: int
) -> Float[Tensor, " P"]:
    """Derivative of the mean query loss after so many inner steps. TypeError: a network other than MLP and Conv4."""
    leaves = {name: value.clone().requires_grad_() for name, value in network.layout.unflatten(theta.detach()).items()}
    losses = []
    for t in range(len(episodes.support.x)):
        adapted = dict(leaves)
        for _ in range(steps):
            own = {name: value for name, value in adapted.items() if name not in network.norm_names}
            loss = loss_of(forward(network, adapted, episodes.support.x[t]), episodes.support.y[t])
            gradients = torch.autograd.grad(loss, list(own.values()), create_graph=True)
            for (name, value), gradient in zip(own.items(), gradients, strict=True):
                adapted[name] = value - step_size * gradient
        losses.append(loss_of(forward(network, adapted, episodes.query.x[t]), episodes.query.y[t]))
    gradients = torch.autograd.grad(torch.stack(losses).mean(), list(leaves.values()))
    return network.layout.flatten(dict(zip(leaves, gradients, strict=True)))


def loss_of(prediction: Float[Tensor, "example out"], y: Tensor) -> Float[Tensor, ""]:
    """Mean squared error for float targets, else mean cross-entropy."""
    if y.dtype.is_floating_point:
        return functional.mse_loss(prediction, y)
    return functional.cross_entropy(prediction, y)


def forward(
    network: Network, at: Mapping[str, Tensor], x: Float[Tensor, example * input]
) -> Float[Tensor, "example out"]:
    """One task's outputs with torch's layers."""
    if isinstance(network, MLP):
        h = x.flatten(1)
        for i in range(len(network.hidden)):
            h = functional.linear(h, at[f"layer{i}.weight"].t(), at[f"layer{i}.bias"])
            h = (normalise(h, at, i) if network.norm else h).relu()
    elif isinstance(network, Conv4):
        h = x
        for i in range(LAYERS):
            h = functional.conv2d(h, filters_first(at[f"conv{i}.weight"]), stride=1 if network.pool else 2, padding=1)
            h = normalise(h, at, i).relu()
            h = functional.max_pool2d(h, 2) if network.pool else h
        h = h.mean((2, 3)) if network.spatial_mean else h.flatten(1)
    else:
        raise TypeError(f"the plain loop knows MLP and Conv4, not {type(network).__name__}")
    return functional.linear(h, at["head.weight"].t(), at["head.bias"])


def normalise(h: Tensor, at: Mapping[str, Tensor], i: int) -> Tensor:
    """torch's batch norm with the examples' own statistics."""
    shift = at[f"norm{i}.shift"]
    # Ones, not None: torch's second derivative fails where there is a shift and no scale.
    scale = at.get(f"norm{i}.scale", torch.ones_like(shift))
    return functional.batch_norm(h, None, None, scale, shift, training=True, eps=EPSILON)
