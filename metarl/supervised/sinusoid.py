"""Regression of sinusoids from a few points: the tasks of Finn et al. 2017, section 5.1.

    y = amplitude sin(x - phase),  amplitude ~ U[0.1, 5],  phase ~ U[0, pi],  x ~ U[-5, 5], without noise

Source: Finn, Abbeel, Levine 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", section 5.1.
The paper leaves the sign of the phase open; minus is what its code does (cbfinn/maml, data_generator.py).
Differs: that code evaluates on amplitudes U[5, 10] unless told otherwise; here all tasks are from the paper's ranges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .episodes import Episodes, Examples, Problem

AMPLITUDE = (0.1, 5.0)
PHASE = (0.0, math.pi)
X = (-5.0, 5.0)


@dataclass(frozen=True, eq=False)
class Sinusoids:
    """The true functions of a batch of tasks: what an oracle knows."""

    amplitude: Float[Tensor, " task"]
    """Within AMPLITUDE."""
    phase: Float[Tensor, " task"]
    """Within PHASE (rad)."""

    def __call__(self, x: Float[Tensor, "#task example 1"]) -> Float[Tensor, "task example 1"]:
        """y = amplitude sin(x - phase), each task at its own points, or all tasks at the same ones."""
        return self.amplitude[:, None, None] * torch.sin(x - self.phase[:, None, None])


def sample_sinusoids(n_tasks: int, generator: torch.Generator) -> Sinusoids:
    """Draw the functions of n_tasks tasks, in float32."""
    return Sinusoids(_uniform(AMPLITUDE, (n_tasks,), generator), _uniform(PHASE, (n_tasks,), generator))


def sinusoid_episodes(sinusoids: Sinusoids, shot: int, query: int, generator: torch.Generator) -> Episodes:
    """Draw shot support points and query query points of given functions; x and y are [task, example, 1].

    Called with the functions and the generator state of a fixed evaluation set, it yields the same set each time.
    """
    n_tasks = len(sinusoids.amplitude)
    support_x = _uniform(X, (n_tasks, shot, 1), generator)
    query_x = _uniform(X, (n_tasks, query, 1), generator)
    return Episodes(Examples(support_x, sinusoids(support_x)), Examples(query_x, sinusoids(query_x)))


def sinusoid_grid(n_points: int = 100) -> Float[Tensor, "1 {n_points} 1"]:
    """Evenly spaced x over the whole range, ends included, for plots and for the error over the whole function."""
    return torch.linspace(*X, n_points)[None, :, None]


@dataclass(frozen=True)
class SinusoidSampler:
    """Batches of new tasks: `sampler(25, generator)`."""

    shot: int
    """K, support points of a task."""
    query: int
    """Query points of a task."""

    def __post_init__(self) -> None:
        for name in ("shot", "query"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; a task needs at least 1 point of each kind")

    @property
    def problem(self) -> Problem:
        """One scalar in, one out."""
        return Problem(input_shape=(1,), outputs=1, classification=False)

    def __call__(self, n_tasks: int, generator: torch.Generator) -> Episodes:
        """A batch of episodes; the same generator state gives the same bits."""
        return self.with_truth(n_tasks, generator)[0]

    def with_truth(self, n_tasks: int, generator: torch.Generator) -> tuple[Episodes, Sinusoids]:
        """The batch that `__call__` gives, and its true functions."""
        sinusoids = sample_sinusoids(n_tasks, generator)
        return sinusoid_episodes(sinusoids, self.shot, self.query, generator), sinusoids


def _uniform(bounds: tuple[float, float], shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    low, high = bounds
    return low + (high - low) * torch.rand(shape, generator=generator)
