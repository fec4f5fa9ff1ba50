"""Where tasks of a split come from: the sinusoids, or a set of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch

from .episodes import Episodes, Examples, Problem
from .fine_tuning import with_truth
from .image_set import FewShotData, ImageSet
from .sampler import Sampler
from .sampling import EpisodeSpec, ImageSampler, LabelledSampler
from .sinusoid import SinusoidSampler

Split = Literal["train", "validation", "test"]
TaskKind = Literal["episodes", "classes", "truth"]
"""episodes: support and query sets. classes: the one task of telling all classes of a split apart; in regression,
episodes. truth: episodes whose inputs tell what the task is."""


@dataclass(frozen=True)
class TaskSize:
    """How large a task is; of regression only shots and query points count."""

    way: int
    """N, classes of a task."""
    shot: int
    """K, support examples of a class; in regression, support points."""
    query: int
    """Query examples of a class; in regression, query points."""


@runtime_checkable
class TaskSource(Protocol):
    """Tasks of three splits."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What a record says about the data: plain values."""

    def sampler(self, split: Split, size: TaskSize, kind: TaskKind = "episodes") -> Sampler | None:
        """Tasks of a split; None if the data have no such split. ValueError if they do not suffice for the size."""


@dataclass(frozen=True)
class SinusoidTasks:
    """Sinusoids; all splits are drawn from the same continuum."""

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"tasks": "amplitude U[0.1, 5], phase U[0, pi], x U[-5, 5], no noise"}

    def sampler(self, split: Split, size: TaskSize, kind: TaskKind = "episodes") -> Sampler | None:
        sampler = SinusoidSampler(size.shot, size.query)
        return ToldSinusoids(sampler) if kind == "truth" else sampler


@dataclass(frozen=True)
class ToldSinusoids:
    """Sinusoids whose inputs are (x, amplitude, phase): the same tasks as those of the sampler, for an oracle."""

    sampler: SinusoidSampler

    @property
    def problem(self) -> Problem:
        return Problem(input_shape=(3,), outputs=1, classification=False)

    def __call__(self, n_tasks: int, generator: torch.Generator) -> Episodes:
        episodes, waves = self.sampler.with_truth(n_tasks, generator)
        truth = torch.stack((waves.amplitude, waves.phase), dim=1)
        return Episodes(with_truth(episodes.support, truth), with_truth(episodes.query, truth))


ADVICE: Mapping[Split, str] = {
    "train": " (--train-way, --train-shot and --train-query are the size of training tasks, where they are not 0)",
    "validation": " (or give more classes to validation)",
    "test": " (or give more classes to test)",
}
"""What else may help where a split is too small for its tasks."""


@dataclass(frozen=True, eq=False)
class ImageTasks:
    """Images by class, in three splits."""

    data: FewShotData
    within_group: bool = False
    """All classes of a task are of one group, such as one alphabet."""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def sampler(self, split: Split, size: TaskSize, kind: TaskKind = "episodes") -> Sampler | None:
        images: ImageSet | None = getattr(self.data, split)
        if images is None:
            return None
        if kind == "truth":
            raise ValueError("the oracle is told what a sinusoid is and knows no images; choose another learner")
        if kind == "classes" and split == "train":
            return AllClasses(images, size.way * size.shot, size.way * size.query)
        try:
            return ImageSampler(images, EpisodeSpec(size.way, size.shot, size.query, self.within_group))
        except ValueError as error:
            raise ValueError(f"{split} tasks: {error}{ADVICE[split]}") from None


@dataclass(frozen=True, eq=False)
class AllClasses:
    """Plain batches over all classes of a set as tasks: what a network is pretrained on."""

    images: ImageSet
    support: int
    """Images of a task's support set, of any classes."""
    query: int

    @property
    def problem(self) -> Problem:
        return Problem(self.images.shape, self.images.n_classes, classification=True)

    def __call__(self, n_tasks: int, generator: torch.Generator) -> Episodes:
        x, y = LabelledSampler(self.images)(n_tasks * (self.support + self.query), generator)
        x, y = x.unflatten(0, (n_tasks, -1)), y.unflatten(0, (n_tasks, -1))
        n = self.support
        return Episodes(Examples(x[:, :n], y[:, :n]), Examples(x[:, n:], y[:, n:]))
