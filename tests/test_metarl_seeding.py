"""Every random number is a function of (seed, purpose, index)."""

import numpy as np

from metarl.seeding import Purpose, children, generator_for, seed_for


def draws(seed: np.random.SeedSequence) -> tuple[int, ...]:
    return tuple(int(x) for x in np.random.default_rng(seed).integers(0, 2**62, 4))


def test_same_arguments_give_the_same_numbers():
    assert draws(seed_for(3, Purpose.SUPPORT, 7, 1)) == draws(seed_for(3, Purpose.SUPPORT, 7, 1))
    assert generator_for(3, Purpose.TASKS, 7).random() == generator_for(3, Purpose.TASKS, 7).random()


def test_seeds_purposes_and_indices_give_different_numbers():
    seeds = [
        seed_for(seed, purpose, *index)
        for seed in (0, 1)
        for purpose in Purpose
        for index in [(), (0,), (1,), (0, 0), (0, 1), (1, 0)]
    ]
    assert len({draws(seed) for seed in seeds}) == len(seeds)


def test_purposes_keep_their_numbers():
    """They are part of a run's identity: a renumbered one changes what a seed means."""
    assert [(p.name, p.value) for p in Purpose][:10] == [
        ("INIT", 0),
        ("TASKS", 1),
        ("SUPPORT", 2),
        ("QUERY", 3),
        ("CURVATURE", 4),
        ("EVAL_TASKS", 5),
        ("EVAL", 6),
        ("RECORD", 7),
        ("ADAPT", 8),
        ("RANDOM_INIT", 9),
    ]


def test_children_are_those_of_a_fresh_spawn_at_every_call():
    seed = seed_for(3, Purpose.SUPPORT, 7)
    expected = [draws(child) for child in seed_for(3, Purpose.SUPPORT, 7).spawn(4)]
    assert [draws(child) for child in children(seed, 4)] == expected
    assert [draws(child) for child in children(seed, 2)] == expected[:2]
