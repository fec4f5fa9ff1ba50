"""Tasks and the distributions they are drawn from, with disjoint train and test tasks."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, SupportsIndex, get_args, runtime_checkable

import numpy as np
from jaxtyping import Float

Split = Literal["train", "test", "all"]
TaskLike = str | int | float | np.number | np.ndarray | Sequence[float] | Sequence[Sequence[float]]
"""A task as a user gives it: text as on the command line, a number, or numbers (rows of them for several tasks)."""

# One cell in FOLD of the goal space is held out for testing. 5 leaves 80 % for training, and is coprime to the steps
# (1, 2) of the pattern below, so that in two dimensions every row and column of cells has held-out ones.
FOLD = 5


@dataclass(frozen=True)
class Tasks:
    """A batch of tasks, one row each.

    goal: (task, goal) float64, in the units that the family's `TaskDistribution.names` state.
    """

    goal: Float[np.ndarray, "task goal"]

    def __len__(self) -> int:
        return len(self.goal)

    def __getitem__(self, index: SupportsIndex | slice | Sequence[int] | np.ndarray) -> Tasks:
        """The selected tasks; a single index (a numpy integer too) keeps the task axis."""
        if isinstance(index, slice | Sequence) or (isinstance(index, np.ndarray) and index.ndim > 0):
            return Tasks(self.goal[index])
        return Tasks(self.goal[[operator.index(index)]])


@runtime_checkable
class TaskDistribution(Protocol):
    """Where tasks come from. `sample` takes the generator as an argument, so that a seed decides everything."""

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each goal component, with its unit, for captions and error messages."""
        ...

    def sample(self, n: int, rng: np.random.Generator, split: Split = "all") -> Tasks:
        """Draw n tasks from the training part, the held-out part or the whole distribution.

        ValueError if n is below 1 or the split does not exist.
        """
        ...

    def parse(self, text: str) -> Tasks:
        """One task from what a user typed; ValueError says what is allowed."""
        ...

    def validate(self, task: TaskLike) -> Tasks:
        """One task from an array-like; ValueError says what is allowed."""
        ...


@dataclass(frozen=True)
class ContinuousTasks:
    """Goals that are a smooth image of the unit cube, split into cells of which one in five is held out.

    u ~ U[0, 1]^k is cut into `cells` equal cells per axis. A cell with (i_1 + 2 i_2 + ...) mod 5 == 2 belongs to the
    test tasks, every other one to the training tasks: the two never share a goal, both cover the whole range, and
    `split="all"` is the published distribution.
    """

    names: tuple[str, ...]
    unit_dim: int
    """k, the number of uniform variables behind a goal."""
    to_goal: Callable[[np.ndarray], np.ndarray]
    """Maps u (n, k) in [0, 1] to goals (n, goal)."""
    contains: Callable[[np.ndarray], bool]
    """Whether a goal (goal,) lies in the distribution's support."""
    support: str
    """The support in words, for error messages: "0 to 2 m/s"."""
    cells: int = 50
    named: tuple[tuple[str, tuple[float, ...]], ...] = ()
    """(label, goal) pairs that `parse` knows, such as ("nominal", (0, 0))."""

    def sample(self, n: int, rng: np.random.Generator, split: Split = "all") -> Tasks:
        split_checked(n, split)
        u = rng.random((n, self.unit_dim))
        if split != "all":
            # Resampling only the rejected rows keeps the draw exact; one in five is kept at worst.
            while not (keep := self.in_split(u, split)).all():
                u[~keep] = rng.random((int((~keep).sum()), self.unit_dim))
        return Tasks(self.to_goal(u))

    def in_split(self, u: Float[np.ndarray, "n unit"], split: Split) -> np.ndarray:
        """Boolean (n,): whether each u (n, k) lies in a cell of the split."""
        if split == "all":
            return np.ones(len(u), dtype=bool)
        cell = np.minimum((u * self.cells).astype(np.int64), self.cells - 1)
        held_out = (cell @ np.arange(1, self.unit_dim + 1)) % FOLD == 2
        return held_out if split == "test" else ~held_out

    def parse(self, text: str) -> Tasks:
        for label, goal in self.named:
            if text.strip().lower() == label:
                return Tasks(np.array([goal]))
        return self.validate(floats_of(text, self.names))

    def validate(self, task: TaskLike) -> Tasks:
        goal = goal_vector(task, self.names)
        if not self.contains(goal):
            raise ValueError(f"task {shown(goal)} is outside the distribution; {', '.join(self.names)}: {self.support}")
        return Tasks(goal[None])


@dataclass(frozen=True)
class ChoiceTasks:
    """Finitely many named goals, drawn with equal probability.

    A sample of n holds each goal floor(n / c) or ceil(n / c) times in random order: the probabilities are those of
    independent draws, without their fluctuation in how many tasks of each kind a meta-batch gets. Unless some are
    named in `held_out`, there is nothing to hold out when the family is these few tasks (Finn et al. 2017 test on the
    training directions too): every split returns all of them, and what is held out is the episodes.
    """

    names: tuple[str, ...]
    choices: tuple[tuple[str, tuple[float, ...]], ...]
    """(label, goal) pairs."""
    held_out: tuple[str, ...] = ()
    """Labels that only the test tasks have."""

    def sample(self, n: int, rng: np.random.Generator, split: Split = "all") -> Tasks:
        split_checked(n, split)
        either = split == "all" or not self.held_out
        goals = np.array([g for label, g in self.choices if either or (label in self.held_out) == (split == "test")])
        order = rng.permutation(len(goals))  # which goals get the remainder is random too
        return Tasks(goals[order[rng.permutation(n) % len(goals)]])

    def parse(self, text: str) -> Tasks:
        for label, goal in self.choices:
            if text.strip().lower() == label:
                return Tasks(np.array([goal]))
        try:
            return self.validate(floats_of(text, self.names))
        except ValueError as error:
            labels = ", ".join(f"{label} {shown(np.array(goal))}" for label, goal in self.choices)
            raise ValueError(f"unknown task {text!r}; allowed: {labels}") from error

    def validate(self, task: TaskLike) -> Tasks:
        goal = goal_vector(task, self.names)
        if not any(np.array_equal(goal, np.array(choice)) for _, choice in self.choices):
            allowed = ", ".join(shown(np.array(choice)) for _, choice in self.choices)
            raise ValueError(f"task {shown(goal)} does not exist; {', '.join(self.names)} must be one of {allowed}")
        return Tasks(goal[None])


def uniform_box(name_low_high: Sequence[tuple[str, float, float]]) -> ContinuousTasks:
    """Goals uniform in a box: (name with unit, low, high) per component."""
    names = tuple(name for name, _, _ in name_low_high)
    low = np.array([low for _, low, _ in name_low_high])
    high = np.array([high for _, _, high in name_low_high])
    return ContinuousTasks(
        names=names,
        unit_dim=len(names),
        to_goal=lambda u: low + (high - low) * u,
        contains=lambda goal: bool(np.all((goal >= low) & (goal <= high))),
        support=", ".join(f"{a:g} to {b:g}" for a, b in zip(low, high, strict=True)),
        cells=50 if len(names) == 1 else 10,
    )


def uniform_disc(names: tuple[str, str], radius: float) -> ContinuousTasks:
    """Positions uniform in a disc around the origin."""

    def to_goal(u: np.ndarray) -> np.ndarray:
        r, angle = radius * np.sqrt(u[:, 0]), 2 * np.pi * u[:, 1]
        return np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1)

    return ContinuousTasks(
        names=names,
        unit_dim=2,
        to_goal=to_goal,
        contains=lambda goal: bool(np.hypot(*goal) <= radius + 1e-9),
        support=f"within {radius:g} of the origin",
        cells=10,
    )


def uniform_arc(names: tuple[str, str], radius: float, arc_rad: float) -> ContinuousTasks:
    """Points on the arc of the given radius from angle 0 to arc_rad (2 pi for the circle of headings)."""

    def to_goal(u: np.ndarray) -> np.ndarray:
        angle = arc_rad * u[:, 0]
        return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def contains(goal: np.ndarray) -> bool:
        angle = np.arctan2(goal[1], goal[0]) % (2 * np.pi)
        on_arc = angle <= arc_rad + 1e-6 or angle >= 2 * np.pi - 1e-6
        return bool(abs(np.hypot(*goal) - radius) < 1e-3 * radius and on_arc)

    return ContinuousTasks(
        names=names,
        unit_dim=1,
        to_goal=to_goal,
        contains=contains,
        support=f"at distance {radius:g} from the origin, at an angle of 0 to {np.degrees(arc_rad):g} degrees",
    )


def forward_backward(name: str) -> ChoiceTasks:
    """The two directions +1 (forward) and -1 (backward)."""
    return ChoiceTasks(names=(name,), choices=(("forward", (1.0,)), ("backward", (-1.0,))))


def read_task(distribution: TaskDistribution, task: TaskLike) -> Tasks:
    """One task from what a user passed: text as on the command line ("forward", "1.5") or numbers."""
    return distribution.parse(task) if isinstance(task, str) else distribution.validate(task)


def read_tasks(distribution: TaskDistribution, task: TaskLike, n: int) -> Tasks:
    """n tasks from what a user passed: one task for all of them, or one each as rows (n, goal)."""
    if isinstance(task, str) or np.ndim(task) < 2:
        return Tasks(np.repeat(read_task(distribution, task).goal, n, axis=0))
    rows = np.asarray(task)
    if len(rows) != n:
        raise ValueError(f"got {len(rows)} tasks for {n} environments; give one for all or one each")
    return Tasks(np.concatenate([distribution.validate(row).goal for row in rows]))


def split_checked(n: int, split: str) -> None:
    """ValueError for fewer than one task, or a split that does not exist."""
    if n < 1:
        raise ValueError(f"cannot sample {n} tasks: n must be at least 1")
    if split not in get_args(Split):
        raise ValueError(f"unknown split {split!r}; allowed: {', '.join(get_args(Split))}")


def floats_of(text: str, names: tuple[str, ...]) -> list[float]:
    """The numbers in a text. ValueError if there is something else in it."""
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise ValueError(
            f"task {text!r} is not a list of numbers; give {len(names)} separated by commas: {', '.join(names)}"
        ) from None


def goal_vector(task: TaskLike, names: tuple[str, ...]) -> np.ndarray:
    """A goal (goal,) from numbers. ValueError unless they are finite and one for each name."""
    try:
        goal = np.asarray(task, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"task {task!r} is not numeric; give {len(names)} numbers: {', '.join(names)}") from None
    if goal.ndim == 0:
        goal = goal[None]
    if goal.shape != (len(names),):
        raise ValueError(f"task has shape {goal.shape}, expected ({len(names)},): {', '.join(names)}")
    if not np.isfinite(goal).all():
        raise ValueError(f"task {shown(goal)} is not finite; give {len(names)} finite numbers: {', '.join(names)}")
    return goal


def shown(goal: np.ndarray) -> str:
    """A goal for error messages: "(0.5, 1)"."""
    return "(" + ", ".join(f"{g:g}" for g in goal) + ")"
