"""How soon a run had learned most of what it learned."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .run_record import RANDOM, RunRecord

WINDOW = 5
SHARE = 0.9


@dataclass(frozen=True)
class Milestone:
    """Where a learning curve reached SHARE of its final score."""

    iteration: int
    """Counted from 1."""
    env_steps: float
    wall_s: float
    """Wall time of training (s)."""


def milestone(record: RunRecord) -> Milestone | None:
    """The first iteration with SHARE of the final adaptation score, on training tasks.

        score ~ r - r_0,   r = return after adaptation, averaged over the last WINDOW iterations

    r_0 is the return of a random initialisation before adaptation: the evaluation's, or else what the first iteration
    began with. The oracle's return, which scales the score, cancels. None where nothing was learned: fewer than
    2 WINDOW iterations, or a final score of zero or less.
    """
    returns = np.array(record.column("return_after"))
    returns_before = record.column("return_before")
    if len(returns) < 2 * WINDOW or not np.isfinite(returns).all():
        return None
    evaluation = record.evaluation
    measured = evaluation is not None and RANDOM in evaluation.curves
    start = evaluation.curves[RANDOM].mean[0] if evaluation is not None and measured else returns_before[0]
    averaged = np.convolve(returns, np.full(WINDOW, 1 / WINDOW), mode="valid")  # of WINDOW iterations up to each
    gain = averaged[-1] - start
    if not (math.isfinite(gain) and gain > 0):
        return None
    index = int(np.argmax(averaged - start >= SHARE * gain)) + WINDOW - 1
    return Milestone(index + 1, record.column("env_steps")[index], record.column("wall_s")[index])
