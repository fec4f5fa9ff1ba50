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
A few sinusoids blow up when adapted for ten plain steps on five points, up to infinities in float32: look at medians
too, or use `guarded`.
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
from .fast_weights import Batch, FastWeights, Part, Statistics, TaskParams, check_positive, check_steps
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
    guarded: bool = False
    """See `Descent`; adaptation is then not differentiable."""

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
        return self.adapted_after(params, support, [check_steps(steps, self.steps)])[0]

    def adapted_after(self, params: MetaParams, support: Examples, counts: Sequence[int]) -> list[TaskParams]:
        rule = Descent(self._weights, [self.step_size] * max(counts, default=0), self.first_order, self.guarded)
        return rule.adapted_after(params["theta"], support, counts)

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


@dataclass(frozen=True)
class Descent:
    """Gradient descent of every task from common parameters on its support set."""

    weights: FastWeights
    step_sizes: Sequence[Tensor | float]
    """One for each step."""
    first_order: bool = False
    """Drop the second derivatives."""
    guarded: bool = False
    """Undo a step that raises a task's support loss, and halve that task's steps from then on. Not differentiable."""

    def adapted_after(self, theta: Float[Tensor, " P"], support: Examples, counts: Sequence[int]) -> list[TaskParams]:
        """The tasks' networks after each of these numbers of steps."""
        fixed, fast = self.weights.split(theta, len(support.x))
        batch, moments = self.weights.batch(fixed, support)
        if self.guarded:
            with torch.no_grad():
                path = self._guarded(fast, batch)
        else:
            batches = [batch] * len(self.step_sizes)
            path = adapt(self.weights.gradient(self.first_order), fast, batches, self.step_sizes)
        return [self.weights.adapted(fixed, path[count], support, moments) for count in counts]

    def _guarded(self, fast: Tensor, batch: Batch) -> list[Tensor]:
        gradient_of, best = self.weights.gradient(), fast
        loss, gradient = self.weights.support_losses(best, batch), gradient_of(best, batch)
        share = torch.ones_like(loss)
        path = [best]
        for step_size in self.step_sizes:
            tried = best - share.unsqueeze(1) * step_size * gradient
            its_loss, its_gradient = self.weights.support_losses(tried, batch), gradient_of(tried, batch)
            good = its_loss <= loss  # not where it is NaN
            loss, share = torch.where(good, its_loss, loss), torch.where(good, share, share / 2)
            best = torch.where(good.unsqueeze(1), tried, best)
            gradient = torch.where(good.unsqueeze(1), its_gradient, gradient)
            path.append(best)
        return path
