"""One seed, children by purpose: every random number of a run is a function of (seed, purpose, iteration).

No generator lives from one iteration to the next, so a resumed run continues bit for bit with nothing to restore.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What random numbers are for. The numbers are part of a run's identity: append, never renumber."""

    INIT = 0
    TASKS = 1
    SUPPORT = 2
    QUERY = 3
    CURVATURE = 4
    EVAL_TASKS = 5
    EVAL = 6
    RECORD = 7
    ADAPT = 8
    RANDOM_INIT = 9
    NORMALISER = 10
    VALIDATION = 11


def seed_for(seed: int, purpose: Purpose, *index: int) -> np.random.SeedSequence:
    """The child of a run's seed for one purpose and, say, one iteration and inner step."""
    return np.random.SeedSequence(seed, spawn_key=(int(purpose), *index))


def generator_for(seed: int, purpose: Purpose, *index: int) -> np.random.Generator:
    """A numpy generator on `seed_for`."""
    return np.random.default_rng(seed_for(seed, purpose, *index))


def torch_generator_for(seed: int, purpose: Purpose, *index: int) -> torch.Generator:
    """A torch generator, on the CPU, seeded by `seed_for`."""
    return torch.Generator().manual_seed(int(seed_for(seed, purpose, *index).generate_state(1, np.uint64)[0] >> 1))


def children(seed: np.random.SeedSequence, n: int, first: int = 0) -> list[np.random.SeedSequence]:
    """n children of a seed from the first on; the same ones each time, where `spawn` goes on counting in the seed."""
    return [
        np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, i), pool_size=seed.pool_size)
        for i in range(first, first + n)
    ]
