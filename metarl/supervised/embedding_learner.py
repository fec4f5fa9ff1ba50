"""What metric and recurrent learners share: a support set is embedded and read once, then asked about each query.

Each query is asked from what was read, so queries do not see one another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from .embedding import Context, Embedding
from .episodes import Episodes, Examples
from .learner import MetaGradient, MetaParams
from .objective import differentiate, mean_query_loss, refuse_steps

Read = TypeVar("Read")
"""What a learner makes of support sets."""


@dataclass(frozen=True)
class AdaptedByReading(Generic[Read]):
    """What is carried after support sets."""

    params: MetaParams
    context: Context
    """What queries are normalised with as they are embedded."""
    read: Read


class EmbeddingLearner(ABC, Generic[Read]):
    """A learner without gradient steps; subclasses say what is read and how it answers."""

    title: ClassVar[str]
    """For errors."""
    embedding: Embedding

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        return self.embedding.init(generator)

    @abstractmethod
    def read(self, params: MetaParams, support: Examples) -> Read:
        """Go through support sets whose x are features, (task, example, feature)."""

    @abstractmethod
    def answer(
        self, params: MetaParams, read: Read, features: Float[Tensor, "task query feature"]
    ) -> Float[Tensor, "task query out"]:
        """Logits or values of embedded queries."""

    def query_loss(
        self, params: MetaParams, read: Read, episodes: Episodes, features: Float[Tensor, "task query feature"]
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """What meta-training lowers, given embedded queries, and new running statistics of the learner's own."""
        return mean_query_loss(self.answer(params, read, features), episodes.query.y), {}

    def arranged(self, episodes: Episodes, progress: float) -> Episodes:
        """The episodes as meta-training reads them."""
        return episodes

    def adapt(self, params: MetaParams, support: Examples, steps: int | None = None) -> AdaptedByReading[Read]:
        refuse_steps(steps, self.title)
        features, context = self.embedding.support(params, support.x)
        return AdaptedByReading(params, context, self.read(params, Examples(features, support.y)))

    def predict(
        self, adapted: AdaptedByReading[Read], query_x: Float[Tensor, "task query *input"]
    ) -> Float[Tensor, "task query out"]:
        features = self.embedding.query(adapted.params, query_x, adapted.context)
        return self.answer(adapted.params, adapted.read, features)

    def meta_gradient(self, params: MetaParams, episodes: Episodes, progress: float) -> MetaGradient:
        episodes = self.arranged(episodes, progress)

        def objective(params: MetaParams) -> tuple[Tensor, dict[str, Tensor]]:
            embedded = self.embedding.episodes(params, episodes)
            read = self.read(params, Examples(embedded.support, episodes.support.y))
            loss, replaced = self.query_loss(params, read, episodes, embedded.query)
            return loss, embedded.replaced | replaced

        return differentiate(objective, params)
