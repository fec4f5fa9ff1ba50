"""Settings of the learners that embed every input with one network: metric and recurrent ones, nearest neighbour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .embedding import Backbone, Embedding, Pixels, Statistics
from .episodes import Problem
from .learner import Learner
from .lstm_learner import LSTMLearner
from .mann import MemoryAugmentedNetwork
from .matching import MatchingNetwork
from .nearest_neighbour import NearestNeighbour
from .network_config import NetworkConfig
from .prototypical import PrototypicalNetwork
from .relation import RelationNetwork
from .siamese import SiameseNetwork
from .snail import SNAIL


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
    """Factor on the cosine similarity. Paper: 1."""

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
class Relation(Embedded):
    """Relation networks (Sung et al. 2018)."""

    filters: int = 64
    """Filters of the relation module's convolutions, or units of its layers on vectors. Paper: 64."""
    units: int = 8
    """Units of its hidden layer. Paper: 8."""
    loss: Literal["mse", "cross-entropy"] = "mse"
    """The paper's squared error, or cross-entropy over the classes."""

    def make(self, problem: Problem, network: NetworkConfig) -> Learner:
        """The learner."""
        embedding = self.embedding(classes_of(problem, "relation"), network)
        shape = network.map_shape(problem.input_shape)
        return RelationNetwork(embedding, shape, self.filters, self.units, self.loss)


@dataclass(frozen=True)
class LSTM(Embedded):
    """An LSTM that reads the support set (Hochreiter et al. 2001)."""

    hidden: int = 200
    """Entries of the LSTM's state. Santoro et al.: 200."""
    labels: Literal["delayed", "paired"] = "paired"
    """Which label is read with an example: the one before it, or its own."""
    label_scale: float = 1.0
    """Factor on labels as they are read; beside many features a bare one-hot label is learned from very slowly."""

    def make(self, problem: Problem, network: NetworkConfig) -> Learner:
        """The learner."""
        return LSTMLearner(
            problem, self.embedding(problem, network), self.hidden, self.labels, label_scale=self.label_scale
        )


@dataclass(frozen=True)
class MANN(Embedded):
    """A memory-augmented network (Santoro et al. 2016)."""

    hidden: int = 200
    """Entries of the controller's state. Paper: 200."""
    places: int = 128
    """Places of the memory. Paper: 128."""
    word: int = 40
    """Entries of a place. Paper: 40."""
    heads: int = 4
    """Heads that read and write. Paper: 4."""
    decay: float = 0.99
    """Of the usage weights, a step. Paper: 0.99."""
    learned_strength: bool = False
    """Heads choose how sharply they read; in the paper they do not."""
    labels: Literal["delayed", "paired"] = "delayed"
    """Which label is read with an example: the one before it as in the paper, or its own."""
    label_scale: float = 1.0
    """Factor on labels as they are read; beside many features a bare one-hot label is learned from very slowly."""

    def make(self, problem: Problem, network: NetworkConfig) -> Learner:
        """The learner."""
        sizes = (self.hidden, self.places, self.word, self.heads, self.decay, self.learned_strength)
        return MemoryAugmentedNetwork(
            problem, self.embedding(problem, network), *sizes, self.labels, label_scale=self.label_scale
        )


@dataclass(frozen=True)
class SnailSettings(Embedded):
    """SNAIL (Mishra et al. 2018)."""

    support: int = 5
    """Examples that temporal convolutions reach back: N x K, or K in regression, as presets set it."""
    filters: int = 128
    """Filters of each dense block. Paper: 128."""
    alike: bool = False
    """Queries and keys of an attention layer start alike, so that a query looks at examples that resemble it; else
    independently, as is usual."""
    label_scale: float = 1.0
    """Factor on labels as they are read. Paper: 1."""

    def make(self, problem: Problem, network: NetworkConfig) -> Learner:
        """The learner."""
        embedding = self.embedding(problem, network)
        return SNAIL(problem, embedding, self.support, self.filters, alike=self.alike, label_scale=self.label_scale)


@dataclass(frozen=True)
class Nearest:
    """The closest support example, by the inputs themselves: no meta-learning."""

    distance: Literal["euclidean", "cosine"] = "euclidean"
    """Between pixels, or numbers."""

    def make(self, problem: Problem, network: NetworkConfig) -> Learner:
        """The learner; the network is not used."""
        return NearestNeighbour(Embedding(Pixels(problem.input_shape)), self.distance)


def classes_of(problem: Problem, learner: str) -> Problem:
    """The problem, which must be one of telling classes apart. ValueError otherwise."""
    if not problem.classification:
        raise ValueError(f"the learner {learner} tells classes apart and does no regression; choose maml or lstm")
    return problem
