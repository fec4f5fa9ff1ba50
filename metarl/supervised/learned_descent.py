"""What learned optimizers share: the losses they descend, and how they see gradients.

Second derivatives are left out, as in both papers: a gradient is an input of the optimizer, not a function of what it
has done before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .batch_norm import Moments
from .episodes import Examples
from .learner import MetaParams
from .networks import Network
from .objective import losses_of


@dataclass(frozen=True)
class AdaptedNetwork:
    """A network for each task."""

    theta: Float[Tensor, "task P"]
    moments: tuple[Moments, ...]
    """Of each batch norm: those of the task's support set, so that queries do not see one another."""


def log_and_sign(gradient: Float[Tensor, "*shape"], p: float) -> Float[Tensor, "*shape 2"]:
    """(log |g| / p, sign g) where |g| >= exp(-p), else (-1, exp(p) g).

    Brings gradients of very different sizes into [-1, 1] or so. Source: Andrychowicz et al. 2016, appendix A.
    """
    size = gradient.abs()
    large = size >= math.exp(-p)
    logarithm = torch.where(large, size.clamp(min=math.exp(-p)).log() / p, torch.full_like(size, -1.0))
    return torch.stack((logarithm, torch.where(large, gradient.sign(), gradient * math.exp(p))), dim=-1)


def task_losses(network: Network, theta: Float[Tensor, "task P"], examples: Examples) -> Float[Tensor, " task"]:
    """Mean loss of each task's examples, with their own batch-norm moments."""
    return losses_of(network(theta, examples.x), examples.y)


def loss_and_gradient(
    network: Network, theta: Float[Tensor, "task P"], examples: Examples
) -> tuple[Float[Tensor, " task"], Float[Tensor, "task P"]]:
    """Each task's loss and its derivative at theta, as numbers: neither depends on anything differentiably."""
    at = theta.detach().requires_grad_()
    with torch.enable_grad():
        losses = task_losses(network, at, examples)
        (gradient,) = torch.autograd.grad(losses.sum(), at)
    return losses.detach(), gradient


def adapted_network(network: Network, theta: Float[Tensor, "task P"], support: Examples) -> AdaptedNetwork:
    """The network at theta with the support set's moments."""
    return AdaptedNetwork(theta, network.features(theta, support.x)[1])


def outputs(
    network: Network, adapted: AdaptedNetwork, x: Float[Tensor, "task query *input"]
) -> Float[Tensor, "task query out"]:
    """Logits or values, each query by itself."""
    return network.head(adapted.theta, network.features(adapted.theta, x, adapted.moments)[0])


def start_of(params: MetaParams, tasks: int) -> Float[Tensor, "task P"]:
    """The network's parameters before the first step, one copy a task."""
    return params["theta"].expand(tasks, -1)
