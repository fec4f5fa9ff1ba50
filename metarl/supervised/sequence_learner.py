"""What learners share that read a support set one example after another and are then asked about each query.

Each query is asked from the state after the support set, so queries do not see one another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Literal, TypeVar, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from .embedding import Context, Embedding
from .episodes import Episodes, Examples, Problem
from .learner import MetaGradient, MetaParams
from .objective import differentiate, mean_query_loss, refuse_steps
from .sequence import shuffled_support

Labels = Literal["delayed", "paired"]


@dataclass(frozen=True)
class ReadSupport:
    """What a learner carries after a support set; its own part stands in subclasses."""

    params: MetaParams
    context: Context


Read = TypeVar("Read", bound=ReadSupport)


@dataclass(frozen=True)
class SequenceLearner(ABC, Generic[Read]):
    """Few-shot learner for classes and for regression; the number of outputs is fixed."""

    title: ClassVar[str]
    """For errors."""

    problem: Problem
    embedding: Embedding
    shuffle: bool = field(default=True, kw_only=True)
    """Read support sets in random order in meta-training."""

    @abstractmethod
    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """New meta-parameters."""

    @abstractmethod
    def read(
        self,
        params: MetaParams,
        context: Context,
        features: Float[Tensor, "task support feature"],
        support: Examples,
    ) -> Read:
        """Go through embedded support sets."""

    @abstractmethod
    def answer(self, read: Read, features: Float[Tensor, "task query feature"]) -> Float[Tensor, "task query out"]:
        """Logits or values of embedded queries."""

    def adapt(self, params: MetaParams, support: Examples, steps: int | None = None) -> Read:
        refuse_steps(steps, self.title)
        features, context = self.embedding.support(params, support.x)
        return self.read(params, context, features, support)

    def predict(self, adapted: Read, query_x: Float[Tensor, "task query *input"]) -> Float[Tensor, "task query out"]:
        return self.answer(adapted, self.embedding.query(adapted.params, query_x, adapted.context))

    def meta_gradient(self, params: MetaParams, episodes: Episodes, progress: float) -> MetaGradient:
        if self.shuffle:
            episodes = shuffled_support(episodes, progress)

        def objective(params: MetaParams) -> tuple[Tensor, dict[str, Tensor]]:
            embedded = self.embedding.episodes(params, episodes)
            read = self.read(params, (), embedded.support, episodes.support)
            prediction = self.answer(read, embedded.query)
            return mean_query_loss(prediction, episodes.query.y), embedded.replaced

        return differentiate(objective, params)


def check_labels(labels: str, label_scale: float) -> None:
    """ValueError for settings of labels that are out of range."""
    if labels not in get_args(Labels):
        raise ValueError(f"unknown labels {labels!r}; allowed: {', '.join(get_args(Labels))}")
    if not label_scale > 0:
        raise ValueError(f"label_scale is {label_scale}, but must be positive")


def labels_as_read(
    codes: Float[Tensor, "task support out"], labels: Labels
) -> tuple[Float[Tensor, "task support out"], Float[Tensor, "task out"]]:
    """The label that is read with each example, and the one with a query.

    paired: its own, and zeros; delayed: the one before it (zeros with the first), and the last.
    """
    nothing = torch.zeros_like(codes[:, :1])
    if labels == "paired":
        return codes, nothing[:, 0]
    return torch.cat((nothing, codes[:, :-1]), dim=1), codes[:, -1]
