"""Data sets by name: each is a type of settings that yields samplers of training, validation and test tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .sampler import Sampler
from .sinusoid import SinusoidSampler

Split = Literal["train", "validation", "test"]
ProblemName = Literal["fewshot", "regression"]


@dataclass(frozen=True)
class SinusoidConfig:
    """Sinusoids of random amplitude and phase (Finn et al. 2017, section 5.1); nothing to choose."""

    def sampler(self, data: str, split: Split, way: int, shot: int, query: int) -> Sampler | None:
        """Tasks of a split; all splits are drawn from the same continuum."""
        return SinusoidSampler(shot, query)


Dataset = SinusoidConfig
DatasetName = Literal["sinusoid"]


@dataclass(frozen=True)
class DatasetEntry:
    """What users read about a data set."""

    settings: Dataset
    """Its settings with their defaults."""
    problem: ProblemName
    text: str


DATASETS: dict[DatasetName, DatasetEntry] = {
    "sinusoid": DatasetEntry(SinusoidConfig(), "regression", "sinusoids from a few points (Finn et al. 2017)"),
}


def dataset_name(settings: Dataset) -> DatasetName:
    """The name that settings go by."""
    return next(name for name, entry in DATASETS.items() if type(entry.settings) is type(settings))


def of_problem(settings: Dataset) -> ProblemName:
    """The command that the data set belongs to: few-shot classification or regression."""
    return DATASETS[dataset_name(settings)].problem
