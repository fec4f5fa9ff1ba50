"""What the trainer asks of a policy. Any object with these members can be meta-trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from .params import ParamLayout


@runtime_checkable
class GaussianPolicy(Protocol):
    """A policy a ~ N(mean(obs; params), diag(exp(log_std(params)))^2) with functional parameters."""

    @property
    def layout(self) -> ParamLayout:
        """Names and shapes of the parameters."""
        ...

    def init(self, generator: torch.Generator) -> Float[Tensor, " P"]:
        """Initial parameters, float32."""
        ...

    def distribution(
        self, params: Float[Tensor, "task P"], obs: Float[Tensor, "task batch obs"]
    ) -> tuple[Float[Tensor, "task batch act"], Float[Tensor, "task act"]]:
        """Mean and log-std for every task's observations under that task's parameters; twice differentiable."""
        ...

    def actor(
        self, params: Float[Tensor, "task P"]
    ) -> Callable[[Float[Tensor, "task env obs"]], Float[Tensor, "task env act"]]:
        """The mean as a function for repeated evaluation without gradients, for the rollout."""
        ...


def actor_from_distribution(
    policy: GaussianPolicy, params: Float[Tensor, "task P"]
) -> Callable[[Float[Tensor, "task env obs"]], Float[Tensor, "task env act"]]:
    """A `GaussianPolicy.actor` for policies that have no faster one."""

    def mean(obs: Tensor) -> Tensor:
        with torch.inference_mode():
            return policy.distribution(params, obs)[0]

    return mean
