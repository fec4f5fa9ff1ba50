"""How well a learner does on test tasks: after each number of steps, for each kind of statistics, beside baselines."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from metarl.seeding import Purpose, torch_generator_for

from .datasets import dataset_name, of_problem
from .episodes import Examples
from .learner import Learner, MetaParams
from .learners import LearnerName, learner_name, steps_at_test
from .presets import preset
from .sampler import Sampler
from .scoring import TaskScores, adapted_after, draw_episodes, join_scores, scores_of_readers
from .task_source import TaskSize
from .trained import Trained
from .training import torch_threads

StepNumbers = Sequence[int | None]
"""Numbers of steps to look at; [None] for a learner without steps."""
Progress = Callable[[str, int, int], None]
"""Told who is evaluated, how many tasks are done, and of how many."""
EVERY_STEP = 10
SPARSE = (0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class Summary:
    """Scores of many tasks in short."""

    mean: float
    """Over tasks whose score is finite."""
    ci95: float
    """Half width of the normal 95 % interval of the mean over tasks (1.96 s / sqrt(n)); NaN for one task."""
    median: float
    """Over all tasks."""
    n_not_finite: int
    """Tasks that blew up: their loss is infinite or NaN."""


def summarise(values: Float[np.ndarray, task]) -> Summary:
    """Mean with its interval, and median, of a score of each task."""
    fine = values[np.isfinite(values)]
    spread = float(fine.std(ddof=1)) if len(fine) > 1 else float("nan")
    return Summary(
        float(fine.mean()) if len(fine) else float("nan"),
        float(1.96 * spread / np.sqrt(max(len(fine), 1))),
        float(np.median(np.nan_to_num(values, nan=np.inf))),
        len(values) - len(fine),
    )


def step_numbers(steps: int | None) -> StepNumbers:
    """Numbers of steps up to so many: all of them, or fewer and fewer of many; [None] for a learner without steps."""
    if steps is None:
        return [None]
    if steps <= EVERY_STEP:
        return list(range(steps + 1))
    return [*(n for n in SPARSE if n < steps), steps]


def scores_by_step(
    readers: Sequence[Learner],
    params: MetaParams,
    sampler: Sampler,
    n_episodes: int,
    generator: torch.Generator,
    steps: StepNumbers,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[TaskScores]]:
    """Scores of the same tasks after each number of steps, of learners that read off one adaptation, the first one's;
    [reader][step]."""
    parts: list[list[list[TaskScores]]] = [[[] for _ in steps] for _ in readers]
    done = 0
    for batch in draw_episodes(sampler, n_episodes, generator):
        for own, found in zip(parts, scores_of_readers(readers, params, batch, steps), strict=True):
            for part, scores in zip(own, found, strict=True):
                part.append(scores)
        done += len(batch.support.x)
        if progress is not None:
            progress(done, n_episodes)
    return [[join_scores(part) for part in own] for own in parts]


def predictions(
    learner: Learner,
    params: MetaParams,
    support: Examples,
    query_x: Float[Tensor, "task query *input"],
    steps: StepNumbers,
) -> list[Float[Tensor, "task query out"]]:
    """What a learner answers after each number of steps on the support sets: logits, or values."""
    with torch.no_grad():
        return [learner.predict(task, query_x) for task in adapted_after(learner, params, support, steps)]


def generator_of_tests(seed: int) -> torch.Generator:
    """What draws the test tasks of a seed: whoever is evaluated meets the same ones."""
    return torch_generator_for(seed, Purpose.EVAL_TASKS)


def evaluate(
    trained: Trained,
    size: TaskSize,
    n_episodes: int,
    seed: int,
    *,
    steps: int | None = None,
    baselines: bool = False,
    oracle: Trained | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Scores on test tasks, as plain values for JSON.

    steps: to look at, None for as many as the learner takes at test. oracle: a run of it, for the same tasks.
    "loss" and, of classes, "accuracy" are lists of `Summary`, one for each number in "steps" (null: no steps).
    """
    start = time.perf_counter()
    contenders = _contenders(trained, size, seed, steps, baselines, oracle)
    found: dict[str, dict[str, Any]] = {}
    with torch_threads(threads):
        for readers, params, sampler, numbers in contenders:
            told = None if progress is None else _told(progress, " and ".join(readers))
            tests, learners = generator_of_tests(seed), list(readers.values())
            scores = scores_by_step(learners, params, sampler, n_episodes, tests, numbers, told)
            found |= {name: _described(numbers, own) for name, own in zip(readers, scores, strict=True)}
    statistics = list(trained.by_statistics())
    own = found.pop(_named(trained, statistics[0]))
    others = {mode: found.pop(_named(trained, mode)) for mode in statistics[1:]}
    return {
        **description(trained),
        **dataclasses.asdict(size),
        "episodes": n_episodes,
        "seed": seed,
        "interval": "mean +- ci95 over tasks, ci95 = 1.96 standard errors",
        "statistics": statistics[0] or None,
        **own,
        "other_statistics": others,
        "baselines": found,
        "evaluation_wall_s": time.perf_counter() - start,
    }


def description(trained: Trained) -> dict[str, Any]:
    """What a record says about a run: plain values."""
    config, state = trained.config, trained.state
    return {
        "problem": of_problem(config.dataset),
        "on": dataset_name(config.dataset),
        "learner": learner_name(config.algo),
        "trained_for": dataclasses.asdict(config.episodes.size("test")),
        "trained_with": dataclasses.asdict(config.episodes.size("train")),
        "train_seed": config.seed,
        "iterations": state.iteration,
        "chosen_iteration": trained.chosen_iteration,
        "n_skipped": state.n_skipped,
        "train_wall_s": state.wall_s,
        "train_cpu_s": state.cpu_s,
        "network": dataclasses.asdict(config.network),
        "data": dict(trained.setup.tasks.facts),
    }


Contender = tuple[dict[str, Learner], MetaParams, Sampler, StepNumbers]
"""Learners by name that read off one adaptation, and what they are evaluated with."""


def _contenders(
    trained: Trained, size: TaskSize, seed: int, steps: int | None, baselines: bool, oracle: Trained | None
) -> list[Contender]:
    own = steps_at_test(trained.config.algo)
    if own is None and steps is not None:
        raise ValueError(f"the learner {learner_name(trained.config.algo)} takes no gradient steps; leave --steps out")
    numbers = step_numbers(own if steps is None else steps)
    sampler = trained.sampler(size)
    out: list[Contender] = [
        ({_named(trained, mode): learner for mode, learner in readers.items()}, trained.params, sampler, numbers)
        for readers in trained.by_adaptation()
    ]
    if baselines:
        plain = trained.setup.tasks.sampler("test", size)
        assert plain is not None  # or there was no sampler above
        for name in ("nearest-neighbour", "scratch"):
            out.append(_untrained(name, trained, plain, size, seed))
    if oracle is not None:
        out.append(({"oracle": oracle.learner}, oracle.params, oracle.sampler(size), [0]))
    return out


def _untrained(name: LearnerName, trained: Trained, sampler: Sampler, size: TaskSize, seed: int) -> Contender:
    """A baseline that needs no meta-training, with its preset's settings."""
    config = preset(dataset_name(trained.config.dataset), name, "paper", size.way, size.shot)
    learner = config.algo.make(sampler.problem, config.network)
    params = learner.init(torch_generator_for(seed, Purpose.RANDOM_INIT))
    return {name: learner}, params, sampler, [steps_at_test(config.algo)]


def _named(trained: Trained, mode: str) -> str:
    name = learner_name(trained.config.algo)
    return f"{name}, {mode}" if mode else f"{name} (this run)"


def _told(progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done, total)


def _described(steps: StepNumbers, scores: Sequence[TaskScores]) -> dict[str, Any]:
    out: dict[str, Any] = {
        "steps": list(steps),
        "loss": [dataclasses.asdict(summarise(score.loss)) for score in scores],
    }
    accuracies = [score.accuracy for score in scores if score.accuracy is not None]
    if accuracies:
        out["accuracy"] = [dataclasses.asdict(summarise(values)) for values in accuracies]
    return out
