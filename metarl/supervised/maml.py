"""MAML: meta-learn initial parameters from which a few gradient steps lead to good ones.

  theta_0 = theta,   theta_j = theta_{j-1} - alpha * grad L_support(theta_{j-1}),   j = 1 ... k
  meta-gradient = d/dtheta mean over tasks of L_query(theta_k)

The derivative goes through the steps (second order), or takes d theta_k / d theta for the identity (first order).
Source: Finn, Abbeel and Levine 2017, section 2.2, equation 1 and section 5.2 (first order), https://arxiv.org/abs/1703.03400
Settings of the paper's code, its step sizes on a mean loss as used here (`fast_weights`):
  sinusoid       alpha 0.01, 1 step (10 at test), meta-batch 25, Adam 1e-3, 70,000 iterations, K = 10
  Omniglot       5-way: alpha 0.4 (2.0 on the mean), 1 step (3 at test), meta-batch 32;
                 20-way: alpha 0.1 (2.0 on the mean), 5 steps, meta-batch 16; Adam 1e-3, 60,000 iterations
  mini-ImageNet  5-way: alpha 0.01 (0.05 on the mean), 5 steps (10 at test), meta-batch 4, gradients clipped at 10
A few sinusoids blow up when adapted for ten steps on five points, up to infinities in float32: look at medians too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from metarl.inner import adapt

from .closed_form import meta_gradient
from .episodes import Episodes, Examples
from .fast_weights import FastWeights, Part, Statistics, TaskParams, check_positive, check_steps
from .learner import MetaGradient, MetaParams
from .networks import Network
from .objective import differentiate_in_parts


@dataclass(frozen=True)
class MAML:
    """MAML. Meta-parameters: theta (P,)."""

    network: Network
    step_size: float = 0.01
    """alpha, on the mean support loss."""
    steps: int = 1
    """k, in meta-training and where `adapt` is not told otherwise."""
    first_order: bool = False
    """Drop the second derivatives."""
    adapts: Part = "weights"
    """What adapts: all; weights, all but batch norm, as in the paper's code; or the head."""
    statistics: Statistics = "transductive"
    """Queries are normalised with their own statistics, as in the paper's code, or inductive: the support set's."""

    def __post_init__(self) -> None:
        check_positive("step_size", self.step_size)
        check_positive("steps", self.steps)
        _ = self._weights  # whose settings are checked

    @cached_property
    def _weights(self) -> FastWeights:
        return FastWeights(self.network, self.adapts, self.statistics)

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        return {"theta": self.network.init(generator)}

    def adapt(self, params: MetaParams, support: Examples, steps: int | None = None) -> TaskParams:
        step_sizes = [self.step_size] * check_steps(steps, self.steps)
        return descend(self._weights, params["theta"], support, step_sizes, self.first_order)

    def predict(
        self, adapted: TaskParams, query_x: Float[Tensor, "task query *input"]
    ) -> Float[Tensor, "task query out"]:
        return self._weights.predict(adapted, query_x)

    def meta_gradient(self, params: MetaParams, episodes: Episodes, progress: float) -> MetaGradient:
        mlp = self._weights.closed_form
        if mlp is not None:
            gradient, loss = meta_gradient(mlp, params["theta"], episodes, self.step_size, self.steps, self.first_order)
            return MetaGradient({"theta": gradient}, loss)

        def loss_of(params: MetaParams, some: Episodes) -> Tensor:
            return self._weights.loss(self.adapt(params, some.support), some.query)

        return differentiate_in_parts(loss_of, params, episodes)


def descend(
    weights: FastWeights,
    theta: Float[Tensor, " P"],
    support: Examples,
    step_sizes: Sequence[Tensor | float],
    first_order: bool = False,
) -> TaskParams:
    """Gradient descent of every task from theta on its support set, a step for each step size."""
    fixed, fast = weights.split(theta, len(support.x))
    batch, moments = weights.batch(fixed, support)
    path = adapt(weights.gradient(first_order), fast, [batch] * len(step_sizes), step_sizes)
    return weights.adapted(fixed, path[-1], support, moments)
