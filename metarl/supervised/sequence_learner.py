"""What learners share that read a support set one example after another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from .embedding import Embedding
from .embedding_learner import EmbeddingLearner, Read
from .episodes import Episodes, Examples, Problem
from .sequence import label_codes, shuffled_support

Labels = Literal["delayed", "paired"]


@dataclass(frozen=True)
class SequenceLearner(EmbeddingLearner[Read]):
    """Few-shot learner for classes and for regression; the number of outputs is fixed."""

    problem: Problem
    embedding: Embedding
    shuffle: bool = field(default=True, kw_only=True)
    """Read support sets in random order in meta-training."""
    label_scale: float = field(default=1.0, kw_only=True)
    """Factor on labels as they are read. A one-hot label beside many features hardly counts at the start, and learning
    stays at chance for long; with about the square root of the number of features it soon leaves it."""

    def __post_init__(self) -> None:
        if not self.label_scale > 0:
            raise ValueError(f"label_scale is {self.label_scale}, but must be positive")

    def arranged(self, episodes: Episodes, progress: float) -> Episodes:
        return shuffled_support(episodes, progress) if self.shuffle else episodes

    def codes(self, support: Examples) -> Float[Tensor, "task support out"]:
        """Codes of a support set's labels as they are read, of its features' type."""
        return self.label_scale * label_codes(support.y, self.problem.outputs, support.x)


def check_labels(labels: str) -> None:
    """ValueError for an unknown way to read labels."""
    if labels not in get_args(Labels):
        raise ValueError(f"unknown labels {labels!r}; allowed: {', '.join(get_args(Labels))}")


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
