"""Meta-SGD: meta-learn the initial parameters and one step size for each of them.

  theta_j = theta_{j-1} - alpha o grad L_support(theta_{j-1}),   o: entry by entry;   j = 1 ... k
  meta-gradient = d/d(theta, alpha) mean over tasks of L_query(theta_k)

Step sizes may become negative, as in the paper.
Source: Li, Zhou, Chen and Li 2017, equation 2 and algorithm 1, https://arxiv.org/abs/1707.09835 (one step).
Differs: step sizes start at one number instead of at random ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from .episodes import Episodes, Examples
from .fast_weights import FastWeights, Part, Statistics, TaskParams, check_positive, check_steps
from .learner import MetaGradient, MetaParams
from .maml import Descent
from .networks import Network
from .objective import differentiate_in_parts


@dataclass(frozen=True)
class MetaSGD:
    """Meta-SGD. Meta-parameters: theta (P,), step_sizes (own,), those of the entries that adapt."""

    network: Network
    step_size: float = 0.01
    """Where all step sizes start, on the mean support loss."""
    steps: int = 1
    """k, in meta-training and where `adapt` is not told otherwise; all steps have the same step sizes. Paper: 1."""
    first_order: bool = False
    """Drop the second derivatives."""
    adapts: Part = "weights"
    """What adapts; see MAML."""
    statistics: Statistics = "transductive"
    """What queries are normalised with; see MAML."""
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
        theta = self.network.init(generator)
        return {"theta": theta, "step_sizes": theta.new_full((self._weights.fast_layout.size,), self.step_size)}

    def adapt(self, params: MetaParams, support: Examples, steps: int | None = None) -> TaskParams:
        return self.adapted_after(params, support, [check_steps(steps, self.steps)])[0]

    def adapted_after(self, params: MetaParams, support: Examples, counts: Sequence[int]) -> list[TaskParams]:
        step_sizes = [params["step_sizes"]] * max(counts, default=0)
        rule = Descent(self._weights, step_sizes, self.first_order, self.guarded)
        return rule.adapted_after(params["theta"], support, counts)

    def predict(
        self, adapted: TaskParams, query_x: Float[Tensor, "task query *input"]
    ) -> Float[Tensor, "task query out"]:
        return self._weights.predict(adapted, query_x)

    def meta_gradient(self, params: MetaParams, episodes: Episodes, progress: float) -> MetaGradient:
        def loss_of(params: MetaParams, some: Episodes) -> Tensor:
            return self._weights.loss(self.adapt(params, some.support), some.query)

        return differentiate_in_parts(loss_of, params, episodes)
