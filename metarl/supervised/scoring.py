"""How well a learner answers query sets, task by task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from .episodes import Episodes, tasks
from .learner import Learner, MetaParams
from .sampler import Sampler

EPISODES_AT_ONCE = 20
"""Tasks that are adapted together in evaluation; bounds the memory."""


def task_losses(
    prediction: Float[Tensor, "task query out"], y: Int[Tensor, "task query"] | Float[Tensor, "task query out"]
) -> Float[Tensor, task]:
    """Mean cross-entropy of each task's logits (nats), or its mean squared error for float targets."""
    if y.dtype.is_floating_point:
        return (prediction - y).square().mean((1, 2))
    return cross_entropy(prediction.transpose(1, 2), y, reduction="none").mean(1)


def task_accuracies(prediction: Float[Tensor, "task query way"], y: Int[Tensor, "task query"]) -> Float[Tensor, task]:
    """Share of each task's queries whose largest logit is that of their class, in [0, 1]; NaN logits are wrong."""
    finite = prediction.isfinite().all(-1)
    return ((prediction.argmax(-1) == y) & finite).float().mean(1)


@dataclass(frozen=True)
class TaskScores:
    """Scores of each task."""

    loss: Float[np.ndarray, task]
    """Mean cross-entropy (nats) or mean squared error of the query set."""
    accuracy: Float[np.ndarray, task] | None
    """In [0, 1]; None for regression."""


def score(learner: Learner, params: MetaParams, episodes: Episodes, steps: int | None = None) -> TaskScores:
    """Adapt to the support sets and ask about the query sets; steps as in `Learner.adapt`."""
    with torch.no_grad():
        prediction = learner.predict(learner.adapt(params, episodes.support, steps), episodes.query.x)
    y = episodes.query.y
    accuracy = None if y.dtype.is_floating_point else task_accuracies(prediction, y).double().numpy()
    return TaskScores(task_losses(prediction, y).double().numpy(), accuracy)


def draw_episodes(
    sampler: Sampler, n_episodes: int, generator: torch.Generator, at_once: int = EPISODES_AT_ONCE
) -> Iterator[Episodes]:
    """n_episodes tasks in batches of at most so many; the same generator state gives the same tasks."""
    for start in range(0, n_episodes, at_once):
        yield sampler(min(at_once, n_episodes - start), generator)


def score_all(
    learner: Learner,
    params: MetaParams,
    sampler: Sampler,
    n_episodes: int,
    generator: torch.Generator,
    steps: int | None = None,
) -> TaskScores:
    """Scores of n_episodes tasks; steps as in `Learner.adapt`."""
    batches = draw_episodes(sampler, n_episodes, generator)
    return join_scores([score(learner, params, batch, steps) for batch in batches])


def join_scores(parts: list[TaskScores]) -> TaskScores:
    """Scores of several batches as one."""
    accuracies = [part.accuracy for part in parts if part.accuracy is not None]
    return TaskScores(np.concatenate([part.loss for part in parts]), np.concatenate(accuracies) if accuracies else None)


def one_episode(episodes: Episodes, task: int) -> Episodes:
    """A batch of one: the task of that number."""
    return tasks(episodes, slice(task, task + 1))
