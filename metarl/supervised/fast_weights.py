"""What a task adapts, what it shares with the others, and the gradient of its support loss.

A network's flat vector theta is [batch norm | body | head]; a task's own ("fast") weights are a suffix of it:

  all      everything
  weights  all but the shifts and scales of batch norm: meta-learned and not adapted, as in the code of Finn et al. 2017
  head     the linear head alone (Raghu et al. 2020): features are then computed once, not in every step

The support loss is the MEAN cross-entropy or squared error of a task's examples. In classification the code of Finn et
al. 2017 sums over the N x K examples and divides by K, so its step sizes are to be multiplied by N here: 0.4 of its
5-way Omniglot is 2.0. In regression it takes the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from metarl.policies.params import ParamLayout

from .batch_norm import Moments
from .closed_form import has_closed_form, loss_gradient, mean_loss
from .episodes import Examples
from .networks import MLP, Network
from .objective import losses_of, mean_query_loss

Part = Literal["all", "weights", "head"]
Statistics = Literal["transductive", "inductive"]


@dataclass(frozen=True)
class TaskParams:
    """What adaptation yields: shared and own parameters, and what queries are normalised with."""

    fixed: Float[Tensor, " shared"]
    fast: Float[Tensor, "task own"]
    moments: tuple[Moments, ...] | None
    """Of the support set under these parameters; None where queries are normalised with their own."""


@dataclass(frozen=True)
class Batch:
    """What an inner step sees: shared parameters and examples, already features where only the head adapts."""

    fixed: Float[Tensor, " shared"]
    examples: Examples


@dataclass(frozen=True)
class FastWeights:
    """A network with a part of its parameters for each task."""

    network: Network
    adapts: Part = "weights"
    statistics: Statistics = "transductive"
    """Queries are normalised with their own statistics (the paper's code), or with those of the support set."""

    def __post_init__(self) -> None:
        if self.adapts not in ("all", "weights", "head"):
            raise ValueError(f"adapts is {self.adapts!r}; allowed: all, weights, head")
        if self.statistics not in ("transductive", "inductive"):
            raise ValueError(f"statistics is {self.statistics!r}; allowed: transductive, inductive")
        if self.network.outputs is None:
            raise ValueError("the network has no head to adapt; give it a number of outputs")

    @cached_property
    def fixed_layout(self) -> ParamLayout:
        """The shared entries."""
        return ParamLayout(self.network.layout.entries[: self._n_shared])

    @cached_property
    def fast_layout(self) -> ParamLayout:
        """The entries that each task has of its own."""
        return ParamLayout(self.network.layout.entries[self._n_shared :])

    @cached_property
    def _n_shared(self) -> int:
        if self.adapts == "head":
            return len(self.network.layout.entries) - len(self.network.head_names)
        return len(self.network.norm_names) if self.adapts == "weights" else 0

    def split(self, theta: Float[Tensor, " P"], n_tasks: int) -> tuple[Tensor, Tensor]:
        """Shared parameters (shared,), and the start of each task's own (task, own)."""
        fixed, fast = theta.split([self.fixed_layout.size, self.fast_layout.size])
        return fixed, fast.expand(n_tasks, -1)

    def batch(self, fixed: Tensor, support: Examples) -> tuple[Batch, tuple[Moments, ...] | None]:
        """The support set as inner steps see it; with it its moments, where adaptation does not change them."""
        if self.adapts != "head":
            return Batch(fixed, support), None
        features, moments = self.network.features(self.fixed_layout.unflatten(fixed), support.x)
        return Batch(fixed, Examples(features, support.y)), moments

    def outputs(
        self, fixed: Tensor, fast: Tensor, x: Tensor, moments: Sequence[Moments] | None = None
    ) -> tuple[Tensor, tuple[Moments, ...]]:
        """Outputs of inputs, not features, and the moments used."""
        named = self.fixed_layout.unflatten(fixed) | self.fast_layout.unflatten(fast)
        features, used = self.network.features(named, x, moments)
        return self.network.head(named, features), used

    def gradient(
        self, first_order: bool = False, seen: list[tuple[Moments, ...]] | None = None
    ) -> Callable[[Tensor, Batch], Tensor]:
        """The function (fast, batch) -> gradient of each task's mean support loss in its own parameters.

        It is differentiable in everything if autograd records, unless first_order. The moments of each call are
        appended to seen.
        """

        def gradient(fast: Tensor, batch: Batch) -> Tensor:
            differentiable = torch.is_grad_enabled() and not first_order
            if self.closed_form is not None:
                at = fast if differentiable else fast.detach()
                return loss_gradient(self.closed_form, at, batch.examples.x, batch.examples.y)
            fixed = batch.fixed if differentiable else batch.fixed.detach()
            x = batch.examples.x if differentiable else batch.examples.x.detach()
            at = fast if differentiable and fast.requires_grad else fast.detach().requires_grad_()
            with torch.enable_grad():
                if self.adapts == "head":
                    prediction = self.network.head(self.fast_layout.unflatten(at), x)
                else:
                    prediction, moments = self.outputs(fixed, at, x)
                    if seen is not None:
                        seen.append(moments)
                # Tasks do not touch, so the gradient of their losses' sum holds each task's gradient.
                loss = len(x) * mean_query_loss(prediction, batch.examples.y)
                return torch.autograd.grad(loss, at, create_graph=differentiable)[0]

        return gradient

    def support_losses(self, fast: Float[Tensor, "task own"], batch: Batch) -> Float[Tensor, " task"]:
        """The loss that `gradient` is the derivative of."""
        if self.adapts == "head":
            prediction = self.network.head(self.fast_layout.unflatten(fast), batch.examples.x)
        else:
            prediction = self.outputs(batch.fixed, fast, batch.examples.x)[0]
        return losses_of(prediction, batch.examples.y)

    def adapted(
        self, fixed: Tensor, fast: Tensor, support: Examples, moments: tuple[Moments, ...] | None
    ) -> TaskParams:
        """The end of adaptation. moments: those of `batch`; where it gave none and they are needed, computed here."""
        if self.statistics == "transductive" or not self.network.norm_names:
            return TaskParams(fixed, fast, None)
        return TaskParams(fixed, fast, moments or self.outputs(fixed, fast, support.x)[1])

    def loss(self, task: TaskParams, query: Examples) -> Float[Tensor, ""]:
        """Mean loss of the adapted networks; differentiable once."""
        if self.closed_form is not None:
            return mean_loss(self.closed_form, task.fast, query.x, query.y)
        return mean_query_loss(self.predict(task, query.x), query.y)

    @cached_property
    def closed_form(self) -> MLP | None:
        """The network, where its gradient is written out; inputs are then data, in which nothing is differentiated."""
        return (
            self.network
            if isinstance(self.network, MLP) and self.adapts != "head" and has_closed_form(self.network)
            else None
        )

    def predict(self, task: TaskParams, x: Tensor) -> Tensor:
        """Outputs of the adapted networks. Transductive ones need no moments, and leave those of others alone."""
        moments = None if self.statistics == "transductive" else task.moments
        return self.outputs(task.fixed, task.fast, x, moments)[0]


def check_steps(steps: int | None, default: int) -> int:
    """The number of gradient steps: the learner's own where none is given. ValueError for a negative one."""
    used = default if steps is None else steps
    if used < 0:
        raise ValueError(f"steps is {used}, but must be at least 0")
    return used


def check_positive(name: str, value: float) -> None:
    """ValueError for a setting that must be positive; NaN is not."""
    if not value > 0:
        raise ValueError(f"{name} is {value}, but must be positive")
