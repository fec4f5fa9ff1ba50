"""A trained learner, opened from its run folder, with the tasks it is to be evaluated on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from metarl.run_folder import RunFolder

from .class_lists import check_classes
from .config import Setup, SupervisedConfig
from .datasets import ProblemName, of_problem
from .image_files import Progress
from .learner import Learner
from .learners import entry_of, learner_name
from .maml import MAML
from .meta_sgd import MetaSGD
from .runs import open_run
from .sampler import Sampler
from .task_source import Split, TaskKind, TaskSize
from .train_state import SupervisedState
from .training import load_run_state

READ_OFF = ("inductive", "transductive"), ("running", "transductive")
"""Statistics of queries that differ in prediction alone. Adaptation for the first keeps what either needs."""
GUARDED = "guarded"
"""Among the ways to evaluate a learner: steps that raise the support loss are undone."""


@dataclass(frozen=True)
class Trained:
    """A run and its checkpoint."""

    run: RunFolder
    config: SupervisedConfig
    setup: Setup
    state: SupervisedState

    @property
    def learner(self) -> Learner:
        """As it was trained."""
        return self.setup.learner

    @property
    def params(self) -> Mapping[str, Tensor]:
        """The meta-parameters that did best in validation, where there was one, else the last."""
        return self.state.chosen

    @property
    def chosen_iteration(self) -> int:
        """Outer updates that these had."""
        return self.state.iteration if self.state.best is None else self.state.best.iteration

    def size(self, way: int = 0, shot: int = 0, query: int = 0) -> TaskSize:
        """Size of test tasks; 0 for as trained for. ValueError if the learner cannot do so many ways."""
        own = self.config.episodes.size("test")
        size = TaskSize(way or own.way, shot or own.shot, query or own.query)
        if size.way != own.way and not entry_of(self.config.algo).any_way:
            raise ValueError(
                f"the learner {learner_name(self.config.algo)} has an output for each class and was trained for "
                f"{own.way} ways, not {size.way}; leave --way out, or evaluate a metric learner"
            )
        return size

    def sampler(self, size: TaskSize, split: Split = "test") -> Sampler:
        """Tasks of a split."""
        kind: TaskKind = "truth" if entry_of(self.config.algo).trains_on == "truth" else "episodes"
        sampler = self.setup.tasks.sampler(split, size, kind)
        if sampler is None:
            raise ValueError(f"the data of {self.run.path} have no {split} classes")
        return sampler

    def by_statistics(self) -> dict[str, Learner]:
        """The learner for each way to take batch norm's statistics in evaluation, its own first.

        One without a name where there is no such choice; beside it, in regression, the guarded one of a learner that
        can be so (`maml.Descent`): few support points are where plain steps blow up.
        """
        modes = getattr(self.config.algo, "MODES", ())
        if not modes or not self.config.network.normalises:
            learners = {"": self.learner}
            if isinstance(self.learner, MAML | MetaSGD) and of_problem(self.config.dataset) == "regression":
                learners[GUARDED] = dataclasses.replace(self.learner, guarded=True)
            return learners
        own = str(getattr(self.config.algo, "statistics"))  # noqa: B009 - not every learner's settings have it
        learners = {own: self.learner}
        for mode in modes:
            # A learner with a choice of statistics is a dataclass with a field for it.
            learners.setdefault(mode, dataclasses.replace(self.learner, statistics=mode))  # type: ignore[type-var]
        return learners

    def by_adaptation(self) -> list[dict[str, Learner]]:
        """The same, those together that one adaptation of the first serves."""
        learners = self.by_statistics()
        for modes in READ_OFF:
            if set(learners) == set(modes):
                return [{mode: learners[mode] for mode in modes}]
        return [{mode: learner} for mode, learner in learners.items()]


def open_trained(path: Path, problem: ProblemName, data: str = "", progress: Progress | None = None) -> Trained:
    """A run with its tasks and its checkpoint.

    data: where the data lie now, "" for where they were in training. Raises FileNotFoundError or ValueError if there
    is no such run, it is damaged, or one of another problem.
    """
    run, config = open_run(path)
    if of_problem(config.dataset) != problem:
        raise ValueError(f"{path} is a run of {of_problem(config.dataset)}; use 'metarl {of_problem(config.dataset)}'")
    setup = config.setup(progress, data)
    check_classes(run, setup.tasks, to_train=False)
    return Trained(run, config, setup, load_run_state(run, config, setup))
