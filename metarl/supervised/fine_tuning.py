"""Baselines without learning to learn: one network trained on all tasks, then fine-tuned; training from scratch.

FineTuning   meta-training minimises mean over tasks of L(theta) on support and query examples: one network for all
             tasks. Adaptation is gradient descent or Adam on the support set from there, with a new head or not.
             This is the "pretrained" baseline of Finn et al. 2017 (section 5.1) and, where the one task is to tell
             all training classes apart and the head is new, the fine-tuning baseline of Vinyals et al. 2016.
oracle       FineTuning of 0 steps on inputs to which `with_truth` appended what identifies the task.
from_scratch training on the support set alone from a random network; nothing is learned across tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from metarl.inner import adapt, adapt_with

from .episodes import Episodes, Examples
from .fast_weights import FastWeights, Statistics, TaskParams, check_positive, check_steps
from .inner_adam import InnerAdam
from .learner import MetaGradient, MetaParams
from .networks import Network, Resizable
from .objective import differentiate, mean_query_loss


@dataclass(frozen=True)
class FineTuning:
    """Joint training, then training on the support set. Meta-parameters: theta (P,); everything adapts."""

    network: Network
    step_size: float = 0.01
    """Of the fine-tuning, on the mean support loss."""
    steps: int = 10
    """Of the fine-tuning where `adapt` is not told otherwise; 0 predicts with the trained network."""
    optimiser: Literal["sgd", "adam"] = "sgd"
    """Plain gradient descent, or Adam."""
    new_head: bool = False
    """In classification: start adaptation from a head of zeros with an output for each class of the task. Needed where
    training told other classes apart than the episodes."""
    pretrain: bool = True
    """False for training from scratch: the meta-gradient is empty and theta stays as it was drawn."""
    statistics: Statistics = "transductive"
    """Queries are normalised with their own statistics, or inductive: with the support set's."""

    def __post_init__(self) -> None:
        check_positive("step_size", self.step_size)
        check_steps(self.steps, 0)
        if self.optimiser not in ("sgd", "adam"):
            raise ValueError(f"optimiser is {self.optimiser!r}; allowed: sgd, adam")
        _ = self._weights  # whose settings are checked
        _ = self.new_head and self._resizable

    @cached_property
    def _weights(self) -> FastWeights:
        return FastWeights(self.network, "all", self.statistics)

    @property
    def _resizable(self) -> Resizable:
        if not isinstance(self.network, Resizable):
            raise ValueError(
                f"new_head is set, but {type(self.network).__name__} has no with_outputs(outputs), which makes the "
                "same network with a head of another size; give it one, or leave new_head out"
            )
        return self.network

    def _weights_for(self, n_classes: int) -> FastWeights:
        """With a head of the task's own classes."""
        return FastWeights(self._resizable.with_outputs(n_classes), "all", self.statistics)

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        return {"theta": self.network.init(generator)}

    def adapt(self, params: MetaParams, support: Examples, steps: int | None = None) -> TaskParams:
        """Train on the support set. Steps count as the identity in its derivative."""
        return self.adapted_after(params, support, [check_steps(steps, self.steps)])[0]

    def adapted_after(self, params: MetaParams, support: Examples, counts: Sequence[int]) -> list[TaskParams]:
        theta, count, weights = params["theta"], max(counts, default=0), self._weights
        if self.new_head:
            n_classes = int(support.y.max()) + 1
            theta, weights = with_new_head(self._resizable, theta, n_classes), self._weights_for(n_classes)
        fixed, fast = weights.split(theta, len(support.x))
        batch, moments = weights.batch(fixed, support)
        gradient, batches = weights.gradient(first_order=True), [batch] * count
        if self.optimiser == "sgd":
            path = adapt(gradient, fast, batches, [self.step_size] * count)
        else:
            path = adapt_with(InnerAdam(self.step_size), gradient, fast, batches)
        return [weights.adapted(fixed, path[n], support, moments) for n in counts]

    def predict(
        self, adapted: TaskParams, query_x: Float[Tensor, "task query *input"]
    ) -> Float[Tensor, "task query out"]:
        if not self.new_head:
            return self._weights.predict(adapted, query_x)
        n_head = adapted.fast.shape[-1] - FastWeights(self.network, "head").fixed_layout.size
        return self._weights_for(n_head // (self.network.feature_dim + 1)).predict(adapted, query_x)

    def meta_gradient(self, params: MetaParams, episodes: Episodes, progress: float) -> MetaGradient:
        """Of the mean loss of one network on all examples; from scratch there is none, and the objective is the loss
        of adapted networks on the queries."""
        support, query = episodes.support, episodes.query
        if not self.pretrain:
            adapted = self.adapt({"theta": params["theta"].detach()}, support)
            return MetaGradient({}, mean_query_loss(self.predict(adapted, query.x), query.y).detach())

        def objective(params: MetaParams) -> tuple[Tensor, dict[str, Tensor]]:
            x, y = torch.cat([support.x, query.x], 1), torch.cat([support.y, query.y], 1)
            return mean_query_loss(self.network(params["theta"], x), y), {}

        return differentiate(objective, params)


def from_scratch(
    network: Network, step_size: float = 0.01, steps: int = 100, statistics: Statistics = "inductive"
) -> FineTuning:
    """Adam on the support set from a random network, the same one for every task."""
    return FineTuning(network, step_size, steps, "adam", pretrain=False, statistics=statistics)


def oracle(network: Network) -> FineTuning:
    """One network that is told the task with every input: `with_truth` makes its inputs. It does not adapt."""
    return FineTuning(network, steps=0)


def with_new_head(network: Resizable, theta: Float[Tensor, " P"], n_classes: int) -> Float[Tensor, " Q"]:
    """theta with a head of zeros for n_classes: the same logit for each, and no memory of what classes meant."""
    body, _ = FastWeights(network, "head").split(theta, 1)
    return torch.cat([body, body.new_zeros(network.with_outputs(n_classes).layout.size - len(body))])


def with_truth(examples: Examples, truth: Float[Tensor, "task fact"]) -> Examples:
    """Each input vector with what identifies its task appended: (x, amplitude, phase) for sinusoids."""
    facts = truth.unsqueeze(1).expand(-1, examples.x.shape[1], -1)
    return Examples(torch.cat([examples.x, facts.to(examples.x.dtype)], -1), examples.y)
