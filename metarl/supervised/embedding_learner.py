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


@dataclass(frozen=True)
class ReadSupport:
    """What a learner carries after a support set; its own part stands in subclasses."""

    params: MetaParams
    context: Context


Read = TypeVar("Read", bound=ReadSupport)


class EmbeddingLearner(ABC, Generic[Read]):
    """A learner without gradient steps; subclasses say what is read and how it answers."""

    title: ClassVar[str]
    """For errors."""
    embedding: Embedding

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        return self.embedding.init(generator)

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

    def query_loss(
        self, read: Read, episodes: Episodes, features: Float[Tensor, "task query feature"]
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """What meta-training lowers, given embedded queries, and new running statistics of the learner's own."""
        return mean_query_loss(self.answer(read, features), episodes.query.y), {}

    def arranged(self, episodes: Episodes, progress: float) -> Episodes:
        """The episodes as meta-training reads them."""
        return episodes

    def adapt(self, params: MetaParams, support: Examples, steps: int | None = None) -> Read:
        refuse_steps(steps, self.title)
        features, context = self.embedding.support(params, support.x)
        return self.read(params, context, features, support)

    def predict(self, adapted: Read, query_x: Float[Tensor, "task query *input"]) -> Float[Tensor, "task query out"]:
        return self.answer(adapted, self.embedding.query(adapted.params, query_x, adapted.context))

    def meta_gradient(self, params: MetaParams, episodes: Episodes, progress: float) -> MetaGradient:
        episodes = self.arranged(episodes, progress)

        def objective(params: MetaParams) -> tuple[Tensor, dict[str, Tensor]]:
            embedded = self.embedding.episodes(params, episodes)
            read = self.read(params, (), embedded.support, episodes.support)
            loss, replaced = self.query_loss(read, episodes, embedded.query)
            return loss, embedded.replaced | replaced

        return differentiate(objective, params)
