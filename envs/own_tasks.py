"""Tasks that an environment samples itself: `sample_tasks(n)` of ProMP, pytorch-maml-rl, garage and learn2learn.

Such a task is a number, an array, or a dict of them ({"velocity": 1.3}); here it is the vector of its numbers, named
after the dict's keys. A fixed pool of tasks is drawn once, with every fifth one held out, so that training and test
tasks are disjoint and a seed decides everything, whatever generator the environment uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float

from .tasks import FOLD, Split, TaskLike, Tasks, floats_of, goal_vector, shown, split_checked

POOL = 1000


@dataclass(frozen=True)
class OwnTasks:
    """A pool of tasks. The task of a goal that a user gives need not be in it."""

    names: tuple[str, ...]
    train: Float[np.ndarray, "n goal"]
    test: Float[np.ndarray, "m goal"]
    template: Any
    """One task as the environment gave it, for its form."""

    def sample(self, n: int, rng: np.random.Generator, split: Split = "all") -> Tasks:
        """n tasks of the pool, each at most once more than another."""
        split_checked(n, split)
        pool = {"train": self.train, "test": self.test}.get(split)
        if pool is None:
            pool = np.unique(np.concatenate([self.train, self.test]), axis=0)
        order = np.concatenate([rng.permutation(len(pool)) for _ in range(-(-n // len(pool)))])[:n]
        return Tasks(pool[order])

    def parse(self, text: str) -> Tasks:
        """One task from numbers, in the order of `names`."""
        return self.validate(floats_of(text, self.names))

    def validate(self, task: TaskLike) -> Tasks:
        """One task from numbers; between the smallest and the largest of the pool, component by component."""
        goal = goal_vector(task, self.names)
        pool = np.concatenate([self.train, self.test])
        low, high = pool.min(axis=0), pool.max(axis=0)
        if not ((goal >= low) & (goal <= high)).all():
            raise ValueError(
                f"task {shown(goal)} is outside what the environment samples; {', '.join(self.names)}: "
                f"{shown(low)} to {shown(high)}"
            )
        return Tasks(goal[None])

    def of_goal(self, goal: Float[np.ndarray, " goal"]) -> Any:
        """The task in the environment's own form."""
        return _like(self.template, iter(goal.tolist()))


def has_own_tasks(env: gymnasium.Env) -> bool:
    """Whether an environment samples and takes tasks."""
    unwrapped = env.unwrapped
    return hasattr(unwrapped, "sample_tasks") and (hasattr(unwrapped, "set_task") or hasattr(unwrapped, "reset_task"))


def tasks_of(env: gymnasium.Env, who: str, n: int = POOL) -> OwnTasks:
    """The pool of an environment's tasks. ValueError if they are not numbers, or change in form."""
    unwrapped: Any = env.unwrapped
    unwrapped.reset(seed=0)
    with _global_seed(0):
        sampled = list(unwrapped.sample_tasks(n))
    if not sampled:
        raise ValueError(f"{who}: sample_tasks({n}) returned no task")
    try:
        goals = np.array([np.concatenate([values for _, values in _parts(task, "task")]) for task in sampled])
        names = _names(sampled[0])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{who}: sample_tasks gives tasks such as {sampled[0]!r}; each must be a number, an array, or a dict of "
            "them, all of one form. Set the class's `tasks`, and override set_task(env, task)"
        ) from error
    distinct = np.unique(goals, axis=0)
    if len(distinct) < FOLD:  # a handful of named tasks, such as two directions: nothing to hold out
        return OwnTasks(names, distinct, distinct, sampled[0])
    _, first = np.unique(goals, axis=0, return_index=True)
    pool = goals[np.sort(first)]
    held_out = np.arange(len(pool)) % FOLD == 2
    return OwnTasks(names, pool[~held_out], pool[held_out], sampled[0])


def _parts(task: Any, name: str) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(task, dict):
        for key, value in task.items():
            yield from _parts(value, str(key))
    else:
        yield name, np.asarray(task, dtype=np.float64).reshape(-1)


def _names(task: Any) -> tuple[str, ...]:
    return tuple(
        name if len(values) == 1 else f"{name} {i}" for name, values in _parts(task, "task") for i in range(len(values))
    )


def _like(template: Any, numbers: Iterator[float]) -> Any:
    if isinstance(template, dict):
        return {key: _like(value, numbers) for key, value in template.items()}
    array = np.asarray(template)
    values = np.array([next(numbers) for _ in range(array.size)], dtype=array.dtype).reshape(array.shape)
    return values if isinstance(template, np.ndarray) else values.tolist()


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """numpy's global generator from a seed, as it was before afterwards: older environments sample tasks from it."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
