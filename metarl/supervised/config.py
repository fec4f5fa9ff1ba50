"""The settings of a supervised meta-training run as one tree of frozen dataclasses; options and TOML derive from it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from metarl.settings import nearest, require_countable, require_finite, settings_from_dict

from .datasets import DATASETS, Dataset, DatasetName, ProblemName, SinusoidConfig, dataset_name, of_problem
from .gradient_settings import MAMLSettings
from .image_files import Progress
from .learner import Learner
from .learners import LEARNERS, LearnerName, LearnerSettings, entry_of, learner_name, steps_at_test
from .network_config import NetworkConfig
from .outer_optimiser import OuterConfig
from .sampler import Sampler
from .task_source import Split, TaskKind, TaskSize, TaskSource


@dataclass(frozen=True)
class EpisodesConfig:
    """How large a task is, at test and in training. Of regression only shots and query points count."""

    way: int = 5
    """Classes N of a task."""
    shot: int = 1
    """Support examples K of each class; in regression, support points of a task."""
    query: int = 15
    """Query examples of each class; in regression, query points of a task."""
    train_way: int = 0
    """Classes of a training task; 0 for as many as at test. Prototypical networks: 60."""
    train_shot: int = 0
    """Support examples of each class in training; 0 for as many as at test. Reptile: 10 to 15."""
    train_query: int = 0
    """Query examples of each class in training; 0 for as many as at test."""

    def __post_init__(self) -> None:
        for name, least in (("way", 1), ("shot", 1), ("query", 1), ("train_way", 0), ("train_shot", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least {least}")
        if self.train_query < 0:
            raise ValueError(f"train_query is {self.train_query}, but must be at least 0")

    def size(self, split: Split) -> TaskSize:
        """Size of the tasks of a split."""
        if split != "train":
            return TaskSize(self.way, self.shot, self.query)
        return TaskSize(self.train_way or self.way, self.train_shot or self.shot, self.train_query or self.query)


@dataclass(frozen=True)
class Setup:
    """What settings amount to: a learner and where its tasks come from."""

    tasks: TaskSource
    """The data."""
    learner: Learner
    train: Sampler
    """Training tasks."""
    validation: Sampler | None
    """Tasks of other classes, of the size of test tasks, to choose meta-parameters by; None where there are none."""
    steps: int | None
    """Of adaptation in validation; None for a learner without steps."""


@dataclass(frozen=True)
class SupervisedConfig:
    """Everything that decides a training run's result."""

    dataset: tyro.conf.AvoidSubcommands[Dataset] = field(default_factory=SinusoidConfig)
    data: Annotated[str, tyro.conf.arg(metavar="PATH", help_behavior_hint="(default: a download, kept)")] = ""
    """Folder or zip with the data; Omniglot can be downloaded."""
    episodes: Annotated[EpisodesConfig, tyro.conf.arg(name="")] = field(default_factory=EpisodesConfig)
    """Without prefixes on the command line: --way 5 --shot 1."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    """The network of all learners but nearest neighbour."""
    algo: tyro.conf.AvoidSubcommands[LearnerSettings] = field(default_factory=MAMLSettings)
    """The learner's own settings."""
    outer: OuterConfig = field(default_factory=OuterConfig)
    iterations: int = 10_000
    """Outer updates."""
    meta_batch: int = 16
    """Tasks per iteration."""
    seed: int = 0
    """Seed of every random number of the run."""
    threads: int = 1
    """Threads of torch. Sums over images are rounded differently by different numbers of threads."""
    log_every: int = 100
    """Iterations that a row of metrics is the mean of."""
    validate_every: int = 500
    """Iterations between validations, which choose the meta-parameters to evaluate: the last of the best ones."""
    validation_episodes: int = 100
    """Tasks of a validation, the same ones each time."""
    checkpoint_every: int = 500
    """Iterations between checkpoints; one is also written at the end, on Ctrl-C and on SIGTERM."""

    def __post_init__(self) -> None:
        counts = ("iterations", "meta_batch", "threads", "log_every", "validate_every", "validation_episodes")
        for name in (*counts, "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, but must be at least 0")
        if of_problem(self.dataset) == "fewshot" and self.episodes.way < 2:
            raise ValueError(f"way is {self.episodes.way}, but telling classes apart takes at least 2")
        for table in ("network", "algo", "outer"):
            require_finite(getattr(self, table), table)
        require_countable(self)

    def setup(self, progress: Progress | None = None, data: str = "") -> Setup:
        """The learner, and training and validation tasks. ValueError or OSError if the data do not suffice.

        progress: told how many images are decoded. data: where the data lie now, "" for where the settings say.
        """
        self.check_learner()
        tasks = self.dataset.load(data or self.data, progress)
        kind = entry_of(self.algo).trains_on
        told: TaskKind = "truth" if kind == "truth" else "episodes"
        validation = tasks.sampler("validation", self.episodes.size("validation"), told)
        train = tasks.sampler("train", self.episodes.size("train"), kind)
        assert train is not None  # every data set has classes to train on
        problem = train.problem if kind == "classes" else (validation or train).problem
        return Setup(tasks, self.algo.make(problem, self.network), train, validation, steps_at_test(self.algo))

    def check_learner(self) -> None:
        """ValueError if the learner cannot do what the data set or the tasks' sizes ask."""
        name, entry, problem = learner_name(self.algo), entry_of(self.algo), of_problem(self.dataset)
        can = [key for key, of in LEARNERS.items() if (of.classification if problem == "fewshot" else of.regression)]
        if name not in can:
            does = "tells classes apart and does no regression" if problem == "regression" else "does regression only"
            raise ValueError(f"the learner {name} {does}; choose one of {', '.join(can)}")
        if problem == "fewshot" and not entry.any_way:
            way, train_way = self.episodes.way, self.episodes.size("train").way
            if way != train_way:
                raise ValueError(
                    f"the learner {name} has an output for each class, so training tasks need as many classes as "
                    f"those at test: train_way is {train_way}, way is {way}; leave train_way out"
                )


def config_to_dict(config: SupervisedConfig) -> dict[str, Any]:
    """A config as nested dicts and lists of plain values, for JSON, with the names of what its types stand for."""
    named = {
        "problem": of_problem(config.dataset),
        "on": dataset_name(config.dataset),
        "learner": learner_name(config.algo),
    }
    return {**named, **dataclasses.asdict(config)}


def config_from_dict(base: SupervisedConfig, data: Any, where: str = "config") -> SupervisedConfig:
    """`base` with the given fields replaced, as TOML and JSON give them.

    `on` names the data set and `learner` the learner, whose settings `dataset` and `algo` hold; without them, they
    are of base's. ValueError names the field for an unknown name (close matches), a wrong type or value.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{where} must be a table of settings, got {data!r}")
    rest = {key: value for key, value in data.items() if key not in ("problem", "on", "learner")}
    try:
        if "on" in data and check_dataset(data["on"]) != dataset_name(base.dataset):
            base = dataclasses.replace(base, dataset=DATASETS[check_dataset(data["on"])].settings)
        if "learner" in data and check_learner(data["learner"]) != learner_name(base.algo):
            base = dataclasses.replace(base, algo=LEARNERS[check_learner(data["learner"])].settings)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return settings_from_dict(base, rest, where)


def check_learner(name: Any) -> LearnerName:
    """The name of a learner. ValueError with the nearest for one that there is not."""
    if not isinstance(name, str) or name not in LEARNERS:
        raise ValueError(f"unknown learner {name!r}; {nearest(str(name), LEARNERS)}")
    return name


def check_dataset(name: Any, problem: ProblemName | None = None) -> DatasetName:
    """The name of a data set, for one kind of problem if given. ValueError with the nearest for one there is not."""
    allowed = [key for key, entry in DATASETS.items() if problem in (None, entry.problem)]
    if not isinstance(name, str) or name not in allowed:
        raise ValueError(f"unknown data set {name!r}; {nearest(str(name), allowed)}")
    return name
