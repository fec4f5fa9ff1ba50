"""What training and evaluation draw episodes from."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch

from .episodes import Episodes, Problem


@runtime_checkable
class Sampler(Protocol):
    """Batches of tasks, such as `SinusoidSampler` and `ImageSampler`."""

    @property
    def problem(self) -> Problem:
        """What a learner has to know about the tasks."""

    def __call__(self, n_tasks: int, generator: torch.Generator) -> Episodes:
        """A batch of tasks; the same generator state gives the same bits."""
