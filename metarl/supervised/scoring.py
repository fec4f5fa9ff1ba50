"""How well a learner answers query sets, task by task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .episodes import Episodes, Examples, tasks
from .learner import Adapted, Learner, MetaParams, StepwiseLearner
from .objective import losses_of
from .sampler import Sampler

EPISODES_AT_ONCE = 20
"""Tasks that are drawn together in evaluation; bounds the memory."""
NUMBERS_AT_ONCE = 150_000
"""Input numbers (pixels) of tasks that are adapted together, if that is more than one task: some 190 Omniglot images,
whose features stay in a core's cache."""


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
    return scores_of_readers([learner], params, episodes, [steps])[0][0]


def scores_of(
    prediction: Float[Tensor, "task query out"], y: Int[Tensor, "task query"] | Float[Tensor, "task query out"]
) -> TaskScores:
    """Scores of predictions."""
    accuracy = None if y.dtype.is_floating_point else task_accuracies(prediction, y).double().numpy()
    return TaskScores(losses_of(prediction, y).double().numpy(), accuracy)


def scores_of_readers(
    readers: Sequence[Learner], params: MetaParams, episodes: Episodes, counts: Sequence[int | None]
) -> list[list[TaskScores]]:
    """`score` after each of these numbers of steps, of learners that read off one adaptation, the first one's.

    [reader][step].
    """
    query = episodes.query
    with torch.no_grad():
        adapted = adapted_after(readers[0], params, episodes.support, counts)
        return [[scores_of(reader.predict(task, query.x), query.y) for task in adapted] for reader in readers]


def adapted_after(
    learner: Learner, params: MetaParams, support: Examples, counts: Sequence[int | None]
) -> list[Adapted]:
    """`Learner.adapt` for each of these numbers of steps, in one go where the learner can."""
    steps = [count for count in counts if count is not None]
    if isinstance(learner, StepwiseLearner) and len(steps) == len(counts):
        return learner.adapted_after(params, support, steps)
    return [learner.adapt(params, support, count) for count in counts]


def draw_episodes(
    sampler: Sampler, n_episodes: int, generator: torch.Generator, at_once: int = EPISODES_AT_ONCE
) -> Iterator[Episodes]:
    """n_episodes tasks, drawn at most so many at once, in batches of fewer if they are large.

    The same generator state gives the same tasks.
    """
    for start in range(0, n_episodes, at_once):
        drawn = sampler(min(at_once, n_episodes - start), generator)
        one = sum(x[0].numel() for x in (drawn.support.x, drawn.query.x))
        together = max(1, NUMBERS_AT_ONCE // one)
        for first in range(0, len(drawn.support.x), together):
            yield tasks(drawn, slice(first, first + together))


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
