"""Reptile: move towards the parameters that training on each task leads to.

  theta_i = theta after k steps of Adam (beta_1 = 0) on mini-batches of task i
  theta <- theta + epsilon * mean over tasks of (theta_i - theta),   epsilon from 1 to 0 over meta-training

The gradient reported is epsilon-free, mean of (theta - theta_i): the outer optimiser is plain gradient descent whose
step size is epsilon, on a linear schedule to 0. There is no query set in meta-training: a task's mini-batches come from
support and query examples together.
Source: Nichol, Achiam and Schulman 2018, algorithm 2 and appendix A, https://arxiv.org/abs/1803.02999
Settings of the paper for Omniglot 5-way: Adam 1e-3, 5 inner steps of batch 10, 50 at test, meta-batch 5, epsilon from 1
to 0 over 100,000 iterations.
Differs: Adam's second moments start anew in every task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metarl.inner import adapt_with

from .episodes import Episodes, Examples
from .fast_weights import FastWeights, Statistics, TaskParams, check_positive, check_steps
from .inner_adam import InnerAdam
from .learner import MetaGradient, MetaParams
from .networks import Network
from .objective import mean_query_loss


@dataclass(frozen=True)
class Reptile:
    """Reptile. Meta-parameters: theta (P,); everything adapts, batch norm too."""

    network: Network
    step_size: float = 1e-3
    """Step size of the inner Adam."""
    beta_1: float = 0.0
    """Decay of its mean gradient. Paper: 0."""
    steps: int = 5
    """Inner steps in meta-training and where `adapt` is not told otherwise. Paper: 5, and 50 at test."""
    batch: int = 10
    """Examples of a mini-batch; all of a task's where it has no more than that."""
    statistics: Statistics = "inductive"
    """Queries are normalised with the support set's statistics, or transductive: their own. The paper reports both."""

    def __post_init__(self) -> None:
        for name in ("step_size", "steps", "batch"):
            check_positive(name, getattr(self, name))
        _ = self._weights  # whose settings are checked

    @cached_property
    def _weights(self) -> FastWeights:
        return FastWeights(self.network, "all", self.statistics)

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        return {"theta": self.network.init(generator)}

    def adapt(self, params: MetaParams, support: Examples, steps: int | None = None) -> TaskParams:
        """Train on mini-batches of the support set, the same ones in every call.

        First order: the result is differentiable in params, its derivative the identity, as Adam's steps have none.
        """
        return self.adapted_after(params, support, [check_steps(steps, self.steps)])[0]

    def adapted_after(self, params: MetaParams, support: Examples, counts: Sequence[int]) -> list[TaskParams]:
        generator = torch.Generator().manual_seed(0)
        return self._train(params["theta"], support, support, counts, generator)

    def predict(
        self, adapted: TaskParams, query_x: Float[Tensor, "task query *input"]
    ) -> Float[Tensor, "task query out"]:
        return self._weights.predict(adapted, query_x)

    def meta_gradient(self, params: MetaParams, episodes: Episodes, progress: float) -> MetaGradient:
        """The way back from where training goes. The mini-batches depend on progress alone."""
        support, query = episodes.support, episodes.query
        union = Examples(torch.cat([support.x, query.x], 1), torch.cat([support.y, query.y], 1))
        generator = torch.Generator().manual_seed(int(progress * 2**53))
        with torch.no_grad():
            (adapted,) = self._train(params["theta"], union, support, [self.steps], generator)
            way_back = params["theta"] - adapted.fast.mean(0)
            objective = mean_query_loss(self.predict(adapted, query.x), query.y)
        return MetaGradient({"theta": way_back}, objective)

    def _train(
        self, theta: Tensor, examples: Examples, support: Examples, counts: Sequence[int], generator: torch.Generator
    ) -> list[TaskParams]:
        fixed, fast = self._weights.split(theta, len(examples.x))
        order = mini_batches(examples.x.shape[1], self.batch, max(counts, default=0), generator)
        batches = [self._weights.batch(fixed, take(examples, index))[0] for index in order]
        update = InnerAdam(self.step_size, self.beta_1)
        path = adapt_with(update, self._weights.gradient(first_order=True), fast, batches)
        return [self._weights.adapted(fixed, path[count], support, None) for count in counts]


def take(examples: Examples, index: Int[Tensor, " batch"]) -> Examples:
    """The examples of these numbers, of every task."""
    index = index.to(examples.x.device)
    return Examples(examples.x[:, index], examples.y[:, index])


def mini_batches(n_examples: int, batch: int, steps: int, generator: torch.Generator) -> list[Int[Tensor, " batch"]]:
    """Numbers of the examples of each step: through all of them in random order, again and again.

    The order is the same in all tasks, so that a task's result does not depend on its place among them.
    """
    if batch >= n_examples:
        return [torch.arange(n_examples)] * steps
    rounds = -(-steps * batch // n_examples)
    shuffled = [torch.randperm(n_examples, generator=generator) for _ in range(rounds)]
    return list(torch.cat([*shuffled, torch.empty(0, dtype=torch.int64)]).split(batch))[:steps]
