"""Learners by name: each is a type of settings that makes the learner, and what users read about it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from .embedding import Backbone, Embedding, Statistics
from .episodes import Problem
from .learner import Learner
from .lstm_learner import LSTMLearner
from .matching import MatchingNetwork
from .networks import MLP, Network
from .prototypical import PrototypicalNetwork
from .siamese import SiameseNetwork

NetworkKind = Literal["mlp"]


@dataclass(frozen=True)
class NetworkConfig:
    """The network that maps an input to features or outputs."""

    kind: NetworkKind = "mlp"
    """mlp: fully connected layers."""
    hidden: tuple[int, ...] = (40, 40)
    """Units of each layer of an MLP. Paper: 40 40 for sinusoids, 256 128 64 64 for Omniglot."""
    norm: bool = False
    """Batch norm after each layer of an MLP but the last."""
    init_std: float = 0.01
    """Standard deviation of an MLP's initial weights. Paper's code: 0.01."""

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden is {self.hidden}, but must be one or more positive numbers")
        if not self.init_std > 0:
            raise ValueError(f"init_std is {self.init_std}, but must be positive")

    def make(self, input_shape: tuple[int, ...], outputs: int | None) -> Network:
        """The network for inputs of these axes; outputs None for one that returns its features."""
        return MLP(math.prod(input_shape), outputs, self.hidden, norm=self.norm, init_std=self.init_std)


@dataclass(frozen=True)
class Embedded:
    """Settings of learners that embed every input with one network."""

    statistics: Statistics = "running"
    """Batch norm in the embedding uses running statistics, or those of the task's support set."""

    def embedding(self, problem: Problem, network: NetworkConfig) -> Embedding:
        """The network without a head."""
        backbone: Backbone = network.make(problem.input_shape, None)
        return Embedding(backbone, self.statistics)


@dataclass(frozen=True)
class Prototypical(Embedded):
    """Prototypical networks (Snell et al. 2017)."""

    def make(self, problem: Problem, network: NetworkConfig) -> Learner:
        """The learner."""
        return PrototypicalNetwork(self.embedding(classes_of(problem, "prototypical"), network))


@dataclass(frozen=True)
class Matching(Embedded):
    """Matching networks (Vinyals et al. 2016)."""

    context_steps: int = 0
    """Steps of the attention LSTM of full context embeddings; 0 for none."""
    sharpness: float = 1.0
    """Factor on the cosine similarity."""

    def make(self, problem: Problem, network: NetworkConfig) -> Learner:
        """The learner."""
        embedding = self.embedding(classes_of(problem, "matching"), network)
        return MatchingNetwork(embedding, self.context_steps, self.sharpness)


@dataclass(frozen=True)
class Siamese(Embedded):
    """Siamese networks (Koch et al. 2015)."""

    def make(self, problem: Problem, network: NetworkConfig) -> Learner:
        """The learner."""
        return SiameseNetwork(self.embedding(classes_of(problem, "siamese"), network))


@dataclass(frozen=True)
class LSTM(Embedded):
    """An LSTM that reads the support set (Hochreiter et al. 2001)."""

    hidden: int = 200
    """Entries of the LSTM's state. Santoro et al.: 200."""
    labels: Literal["delayed", "paired"] = "paired"
    """Which label is read with an example: the one before it, or its own."""

    def make(self, problem: Problem, network: NetworkConfig) -> Learner:
        """The learner."""
        return LSTMLearner(problem, self.embedding(problem, network), self.hidden, self.labels)


def classes_of(problem: Problem, learner: str) -> Problem:
    """The problem, which must be one of telling classes apart. ValueError otherwise."""
    if not problem.classification:
        raise ValueError(f"the learner {learner} tells classes apart and does no regression; choose maml or lstm")
    return problem


LearnerSettings = Prototypical | Matching | Siamese | LSTM
LearnerName = Literal["prototypical", "matching", "siamese", "lstm"]


@dataclass(frozen=True)
class LearnerEntry:
    """One learner, as users choose it."""

    settings: LearnerSettings
    """Its settings with their defaults; choosing a learner is choosing their type."""
    text: str
    regression: bool = False
    """Whether it does regression, too."""


LEARNERS: dict[LearnerName, LearnerEntry] = {
    "prototypical": LearnerEntry(Prototypical(), "the nearest class mean in a learned space (Snell et al. 2017)"),
    "matching": LearnerEntry(Matching(), "attention over the support set (Vinyals et al. 2016)"),
    "siamese": LearnerEntry(Siamese(), "a learned similarity of two images (Koch et al. 2015)"),
    "lstm": LearnerEntry(LSTM(), "an LSTM that reads the support set (Hochreiter et al. 2001)", regression=True),
}


def learner_name(settings: LearnerSettings) -> LearnerName:
    """The name that settings go by."""
    return next(name for name, entry in LEARNERS.items() if type(entry.settings) is type(settings))
