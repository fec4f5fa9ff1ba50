"""Learners by name: each is a type of settings that makes the learner, and what users read about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .embedding_settings import LSTM, MANN, Matching, Nearest, Prototypical, Relation, Siamese, SnailSettings
from .gradient_settings import (
    ANILSettings,
    BySteps,
    FineTuneSettings,
    FirstOrderMAMLSettings,
    LSTMOptimizerSettings,
    MAMLPlusPlusSettings,
    MAMLSettings,
    MetaLSTMSettings,
    MetaSGDSettings,
    OracleSettings,
    ReptileSettings,
    ScratchSettings,
)
from .task_source import TaskKind

LearnerSettings = (
    MAMLSettings
    | FirstOrderMAMLSettings
    | ANILSettings
    | MetaSGDSettings
    | MAMLPlusPlusSettings
    | ReptileSettings
    | Prototypical
    | Matching
    | Siamese
    | Relation
    | LSTM
    | MANN
    | SnailSettings
    | LSTMOptimizerSettings
    | MetaLSTMSettings
    | FineTuneSettings
    | ScratchSettings
    | Nearest
    | OracleSettings
)
LearnerName = Literal[
    "maml",
    "fo-maml",
    "anil",
    "meta-sgd",
    "maml++",
    "reptile",
    "prototypical",
    "matching",
    "siamese",
    "relation",
    "lstm",
    "mann",
    "snail",
    "lstm-optimizer",
    "meta-lstm",
    "fine-tune",
    "scratch",
    "nearest-neighbour",
    "oracle",
]
Family = Literal["gradient", "metric", "recurrent", "learned optimizer", "baseline"]


@dataclass(frozen=True)
class LearnerEntry:
    """One learner, as users choose it."""

    settings: LearnerSettings
    """Its settings with their defaults; choosing a learner is choosing their type."""
    family: Family
    text: str
    regression: bool = True
    """Whether it does regression, too."""
    any_way: bool = False
    """Whether tasks may have another number of classes than those of training."""
    trains_on: TaskKind = "episodes"
    """What meta-training draws."""
    trains: bool = True
    """Whether meta-training changes it."""

    @property
    def classification(self) -> bool:
        """Whether it tells classes apart."""
        return self.trains_on != "truth"


LEARNERS: dict[LearnerName, LearnerEntry] = {
    "maml": LearnerEntry(MAMLSettings(), "gradient", "start from which gradient steps lead far (Finn et al. 2017)"),
    "fo-maml": LearnerEntry(FirstOrderMAMLSettings(), "gradient", "MAML without second derivatives"),
    "anil": LearnerEntry(ANILSettings(), "gradient", "MAML in which only the head adapts (Raghu et al. 2020)"),
    "meta-sgd": LearnerEntry(MetaSGDSettings(), "gradient", "MAML with a learned step size of each weight (Li 2017)"),
    "maml++": LearnerEntry(
        MAMLPlusPlusSettings(), "gradient", "MAML with rates and batch norm of each step (Antoniou et al. 2019)"
    ),
    "reptile": LearnerEntry(ReptileSettings(), "gradient", "move towards adapted weights (Nichol et al. 2018)"),
    "prototypical": LearnerEntry(
        Prototypical(), "metric", "the nearest class mean in a learned space (Snell et al. 2017)", False, True
    ),
    "matching": LearnerEntry(Matching(), "metric", "attention over the support set (Vinyals et al. 2016)", False, True),
    "siamese": LearnerEntry(Siamese(), "metric", "a learned similarity of two images (Koch et al. 2015)", False, True),
    "relation": LearnerEntry(Relation(), "metric", "a learned comparison of images (Sung et al. 2018)", False, True),
    "lstm": LearnerEntry(LSTM(), "recurrent", "an LSTM that reads the support set (Hochreiter et al. 2001)"),
    "mann": LearnerEntry(MANN(), "recurrent", "an LSTM with an external memory (Santoro et al. 2016)"),
    "snail": LearnerEntry(SnailSettings(), "recurrent", "convolution and attention over time (Mishra et al. 2018)"),
    "lstm-optimizer": LearnerEntry(
        LSTMOptimizerSettings(), "learned optimizer", "an LSTM turns gradients into steps (Andrychowicz et al. 2016)"
    ),
    "meta-lstm": LearnerEntry(
        MetaLSTMSettings(), "learned optimizer", "gradient descent with learned gates (Ravi and Larochelle 2017)"
    ),
    "fine-tune": LearnerEntry(
        FineTuneSettings(),
        "baseline",
        "trained on all classes or tasks at once, then fine-tuned",
        any_way=True,
        trains_on="classes",
    ),
    "scratch": LearnerEntry(ScratchSettings(), "baseline", "trained on each support set alone", trains=False),
    "nearest-neighbour": LearnerEntry(
        Nearest(), "baseline", "the closest support example by pixels", any_way=True, trains=False
    ),
    "oracle": LearnerEntry(OracleSettings(), "baseline", "is told amplitude and phase", trains_on="truth"),
}


def learner_name(settings: LearnerSettings) -> LearnerName:
    """The name that settings go by."""
    return next(name for name, entry in LEARNERS.items() if type(entry.settings) is type(settings))


def entry_of(settings: LearnerSettings) -> LearnerEntry:
    """The entry of the learner that settings are of."""
    return LEARNERS[learner_name(settings)]


def steps_at_test(settings: LearnerSettings) -> int | None:
    """Steps of adaptation in validation and evaluation; None for learners without steps."""
    return settings.steps_at_test if isinstance(settings, BySteps) else None
