"""What the figures of an evaluation show: some of its test tasks, and what the learner makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .datasets import SinusoidConfig, dataset_name, of_problem
from .evaluation import StepNumbers, generator_of_tests, predictions
from .figures import Curves, PicturedEpisode, adaptation_figure, curves_figure, episode_figure
from .learners import learner_name
from .scoring import EPISODES_AT_ONCE, one_episode
from .sinusoid import SinusoidSampler, sinusoid_grid
from .task_source import TaskSize
from .trained import Trained

CURVES = 3
QUERIES_OF_A_CLASS = 8


def write_pictures(trained: Trained, size: TaskSize, result: Mapping[str, Any], stem: Path) -> list[Path]:
    """Write the figures that there are for a result of `evaluate`, as STEM-steps.png and STEM-tasks.png."""
    written = []
    classes = of_problem(trained.config.dataset) == "fewshot"
    way = f"{size.way}-way " if classes else ""
    title = f"{dataset_name(trained.config.dataset)}, {learner_name(trained.config.algo)}, {way}{size.shot}-shot"
    if len(result["steps"]) > 1 or result["baselines"]:
        written.append(Path(f"{stem}-steps.png"))
        adaptation_figure(result, title, written[-1])
    path = Path(f"{stem}-tasks.png")
    sampler = trained.sampler(size)
    if classes:
        episode_figure(pictured_episode(trained, size, result["seed"], result["steps"][-1]), title, path)
        written.append(path)
    elif isinstance(sampler, SinusoidSampler):  # not for an oracle, whose inputs are more than x
        curves_figure(task_curves(trained, sampler, result["seed"], result["steps"]), title, path)
        written.append(path)
    return written


def task_curves(trained: Trained, sampler: SinusoidSampler, seed: int, steps: StepNumbers) -> list[Curves]:
    """The first test tasks: before adaptation, after one step and after the last number of steps; or adapted."""
    shown = [count for count in steps if count in (None, 0, 1, steps[-1])]
    episodes, truth = sampler.with_truth(EPISODES_AT_ONCE, generator_of_tests(seed))
    x = sinusoid_grid().expand(EPISODES_AT_ONCE, -1, -1)
    found = predictions(trained.learner, trained.params, episodes.support, x, shown)
    return [
        Curves(
            sampler.shot,
            x[task, :, 0].numpy(),
            truth(x)[task, :, 0].numpy(),
            episodes.support.x[task, :, 0].numpy(),
            episodes.support.y[task, :, 0].numpy(),
            {_after(count): y[task, :, 0].numpy() for count, y in zip(shown, found, strict=True)},
        )
        for task in range(CURVES)
    ]


def pictured_episode(trained: Trained, size: TaskSize, seed: int, steps: int | None) -> PicturedEpisode:
    """The first test task with the learner's answers, and at most so many queries of each class."""
    dataset = trained.config.dataset
    assert not isinstance(dataset, SinusoidConfig)  # regression has no classes
    episode = one_episode(trained.sampler(size)(EPISODES_AT_ONCE, generator_of_tests(seed)), 0)
    (logits,) = predictions(trained.learner, trained.params, episode.support, episode.query.x, [steps])
    query_y = episode.query.y[0]
    kept = torch.cat([torch.where(query_y == k)[0][:QUERIES_OF_A_CLASS] for k in range(size.way)])
    return PicturedEpisode(
        episode.support.x[0].numpy(),
        episode.support.y[0].numpy(),
        episode.query.x[0, kept].numpy(),
        query_y[kept].numpy(),
        logits[0].argmax(-1)[kept].numpy(),
        inverted=dataset.image_format.invert,
    )


def _after(steps: int | None) -> str:
    if steps is None:
        return "after adaptation"
    return {0: "before adaptation", 1: "after 1 step"}.get(steps, f"after {steps} steps")
