"""The one interface of all few-shot learners: adapt on support sets, predict query sets, meta-train on episodes.

A learner is a frozen record of settings; what is meta-learned stands outside, in a dict of named tensors, so that
optimisers, checkpoints and tests treat all learners alike. Tasks are an axis of every array, and a
task's result does not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from .episodes import Episodes, Examples

MetaParams = Mapping[str, Tensor]
"""What is meta-learned, by name, in float32; running statistics count as such."""
Adapted = Any
"""What adaptation yields, of the learner's own type: task parameters, prototypes, an embedded support set, a state."""


@dataclass(frozen=True)
class MetaGradient:
    """What one batch of episodes says about the meta-parameters."""

    gradient: dict[str, Tensor]
    """Direction that the outer optimiser follows downwards, by name; not every entry need have one."""
    objective: Float[Tensor, ""]
    """What it lowers, detached; as a rule the mean query loss of the adapted tasks."""
    replaced: dict[str, Tensor] = field(default_factory=dict)
    """New values of entries that no gradient moves: running statistics."""


@runtime_checkable
class Learner(Protocol):
    """Few-shot learner for one `Problem`."""

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """New meta-parameters; the same generator state gives the same bits."""

    def adapt(self, params: MetaParams, support: Examples, steps: int | None = None) -> Adapted:
        """Learn each task from its support set.

        steps: gradient steps, None for the learner's own number; a learner without gradient steps raises ValueError
        for any other. The result is differentiable in params if autograd records.
        """

    def predict(self, adapted: Adapted, query_x: Float[Tensor, "task query *input"]) -> Float[Tensor, "task query out"]:
        """Logits of the N classes, or regression values."""

    def meta_gradient(self, params: MetaParams, episodes: Episodes, progress: float) -> MetaGradient:
        """Adapt to the support sets, look at the query sets, and say where the meta-parameters should go.

        progress: the fraction of meta-training that is done, in [0, 1), for schedules that are part of a method.
        As a rule the derivative of the mean query loss; Reptile's is the way back from where adaptation went.
        """


@runtime_checkable
class StepwiseLearner(Learner, Protocol):
    """A learner that adapts by steps."""

    def adapted_after(self, params: MetaParams, support: Examples, counts: Sequence[int]) -> list[Adapted]:
        """What `adapt` yields after each of these numbers of steps, from one adaptation of the largest number."""
