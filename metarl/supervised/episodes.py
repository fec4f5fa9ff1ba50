"""A batch of few-shot tasks: what a sampler yields and every learner takes.

Axes: task; support and query, the examples of a task, class-major when they are images (example w * shot + s is the
s-th of the episode's class w); x, the axes of one input: (channel, height, width) or (x,).
Which class of the data set is class w of an episode is drawn anew for each episode, so labels carry no meaning across
episodes and the order of the support set tells nothing about the query set.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """What a learner has to know about the tasks before it sees one."""

    input_shape: tuple[int, ...]
    """Axes of one input: (channel, height, width) of an image, (1,) of a scalar."""
    outputs: int
    """Classes N of an episode, or the dimension of a regression target."""
    classification: bool
    """Targets are classes 0 ... N-1 (int64); else float vectors of `outputs` entries."""


@dataclass(frozen=True)
class Examples:
    """The support sets, or the query sets, of a batch of tasks."""

    x: Float[Tensor, "task example *input"]
    """Inputs. Images lie in [0, 1]."""
    y: Int[Tensor, "task example"] | Float[Tensor, "task example out"]
    """Classes 0 ... N-1, or regression targets."""


@dataclass(frozen=True)
class Episodes:
    """A batch of tasks, all with the same numbers of examples."""

    support: Examples
    """What a learner adapts on: N x K examples of an N-way K-shot task, K points of a function."""
    query: Examples
    """What the adapted learner is asked, and in meta-training told, about."""


def tasks(episodes: Episodes, at: slice) -> Episodes:
    """Some tasks of a batch."""
    support, query = episodes.support, episodes.query
    return Episodes(Examples(support.x[at], support.y[at]), Examples(query.x[at], query.y[at]))
