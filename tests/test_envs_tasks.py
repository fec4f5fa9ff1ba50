"""Task distributions: splits, coverage, what users type, error messages."""

from __future__ import annotations

import numpy as np
import pytest

from metarl.envs import (
    ChoiceTasks,
    ContinuousTasks,
    TaskDistribution,
    Tasks,
    family_names,
    forward_backward,
    make_family,
    uniform_arc,
    uniform_box,
    uniform_disc,
)

VELOCITY = uniform_box([("velocity (m/s)", 0.0, 2.0)])
PLACE = uniform_box([("goal x (m)", -0.5, 0.5), ("goal y (m)", -0.5, 0.5)])
DISC = uniform_disc(("goal x (m)", "goal y (m)"), 3.0)
HALF_CIRCLE = uniform_arc(("goal x (m)", "goal y (m)"), 1.0, np.pi)
HEADING = uniform_arc(("heading x", "heading y"), 1.0, 2 * np.pi)
DIRECTION = forward_backward("direction")
CONTINUOUS = {"box 1": VELOCITY, "box 2": PLACE, "disc": DISC, "half circle": HALF_CIRCLE, "circle": HEADING}
UNIT_CUBE = {"box 1": 1, "box 2": 2, "disc": 2, "half circle": 1, "circle": 1}


def unit_of(name: str, goal: np.ndarray) -> np.ndarray:
    """Inverse of a distribution's map from the unit cube, (n, k)."""
    angle = np.arctan2(goal[:, -1], goal[:, 0]) % (2 * np.pi)
    return {
        "box 1": lambda: goal / 2.0,
        "box 2": lambda: goal + 0.5,
        "disc": lambda: np.stack([(np.hypot(*goal.T) / 3.0) ** 2, angle / (2 * np.pi)], axis=1),
        "half circle": lambda: (angle / np.pi)[:, None],
        "circle": lambda: (angle / (2 * np.pi))[:, None],
    }[name]()


@pytest.mark.parametrize("name", CONTINUOUS)
def test_train_and_test_tasks_share_no_cell_and_both_cover_the_range(name: str) -> None:
    distribution = CONTINUOUS[name]
    cells: dict[str, set[tuple[int, ...]]] = {}
    for split in ("train", "test"):
        u = unit_of(name, distribution.sample(4000, np.random.default_rng(0), split).goal)
        cells[split] = {tuple(row) for row in np.floor(u * distribution.cells - 1e-9).astype(int).clip(0).tolist()}
        for axis in range(UNIT_CUBE[name]):
            counts, _ = np.histogram(u[:, axis], bins=10, range=(0, 1))
            # Every tenth of the range gets its share; a held-out pattern that left a gap would show as a zero.
            assert counts.min() > 0.8 * 400
            assert counts.max() < 1.2 * 400
    assert not cells["train"] & cells["test"]
    n_cells = distribution.cells ** UNIT_CUBE[name]
    assert len(cells["test"]) == pytest.approx(n_cells / 5, rel=0.05)
    assert len(cells["train"]) == pytest.approx(n_cells * 4 / 5, rel=0.05)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_all_is_the_uniform_distribution(name: str) -> None:
    u = unit_of(name, CONTINUOUS[name].sample(20000, np.random.default_rng(1)).goal)
    for axis in range(UNIT_CUBE[name]):
        counts, _ = np.histogram(u[:, axis], bins=20, range=(0, 1))
        np.testing.assert_allclose(counts, 1000, atol=5 * np.sqrt(1000))


def test_disc_is_uniform_by_area() -> None:
    radius = np.hypot(*DISC.sample(20000, np.random.default_rng(0)).goal.T)
    assert np.mean(radius < 1.5) == pytest.approx(0.25, abs=0.015)
    assert radius.max() <= 3.0


@pytest.mark.parametrize("name", family_names())
def test_same_generator_same_tasks(name: str) -> None:
    tasks = make_family(name).tasks
    for split in ("train", "test", "all"):
        one, other = (tasks.sample(30, np.random.default_rng(5), split).goal for _ in range(2))
        np.testing.assert_array_equal(one, other)
        if len(np.unique(one, axis=0)) > 1:  # one leg is held out
            assert not np.array_equal(one, tasks.sample(30, np.random.default_rng(6), split).goal)


def test_directions_are_balanced_and_not_held_out() -> None:
    for split in ("train", "test", "all"):
        counts = [(DIRECTION.sample(7, np.random.default_rng(seed), split).goal > 0).sum() for seed in range(50)]
        assert set(counts) == {3, 4}
        singles = [DIRECTION.sample(1, np.random.default_rng(seed), split).goal[0, 0] for seed in range(200)]
        assert np.mean(singles) == pytest.approx(0, abs=0.3)
    goals = np.stack([DIRECTION.sample(4, np.random.default_rng(seed)).goal[:, 0] for seed in range(400)])
    np.testing.assert_allclose(goals.mean(axis=0), 0, atol=0.2)  # the order says nothing


def test_published_ranges() -> None:
    ranges = {
        ("half-cheetah-vel", "modern"): (0.0, 2.0),
        ("half-cheetah-vel", "finn2017"): (0.0, 2.0),
        ("ant-vel", "modern"): (0.0, 3.0),
        ("ant-goal", "finn2017"): (-3.0, 3.0),
        ("point-nav", "modern"): (-0.5, 0.5),
    }
    for (name, protocol), (low, high) in ranges.items():
        goal = make_family(name, protocol).tasks.sample(5000, np.random.default_rng(0)).goal
        assert low <= goal.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < goal.max() <= high
    headings = make_family("ant-dir-2d").tasks.sample(100, np.random.default_rng(0)).goal
    np.testing.assert_allclose(np.hypot(*headings.T), 1.0)
    on_half_circle = make_family("point-nav-sparse").tasks.sample(100, np.random.default_rng(0)).goal
    np.testing.assert_allclose(np.hypot(*on_half_circle.T), 1.0)
    assert (on_half_circle[:, 1] >= 0).all()


@pytest.mark.parametrize(
    ("distribution", "text", "goal"),
    [
        (VELOCITY, "1.5", [1.5]),
        (VELOCITY, " 0 ", [0.0]),
        (PLACE, "0.1,-0.2", [0.1, -0.2]),
        (PLACE, "0.1, -0.2", [0.1, -0.2]),
        (PLACE, "0.1 -0.2", [0.1, -0.2]),
        (HEADING, "0,-1", [0.0, -1.0]),
        (HEADING, "0.7071,0.7071", [0.7071, 0.7071]),
        (DIRECTION, "forward", [1.0]),
        (DIRECTION, "Backward ", [-1.0]),
        (DIRECTION, "-1", [-1.0]),
    ],
)
def test_parse_reads_what_a_user_types(distribution: TaskDistribution, text: str, goal: list[float]) -> None:
    np.testing.assert_array_equal(distribution.parse(text).goal, [goal])


@pytest.mark.parametrize(
    ("distribution", "text", "message"),
    [
        (VELOCITY, "fast", r"task 'fast' is not a list of numbers; give 1 separated by commas: velocity \(m/s\)"),
        (VELOCITY, "", r"task has shape \(0,\), expected \(1,\): velocity"),
        (VELOCITY, "1,2", r"task has shape \(2,\), expected \(1,\): velocity"),
        (VELOCITY, "2.1", r"task \(2.1\) is outside the distribution; velocity \(m/s\): 0 to 2"),
        (VELOCITY, "nan", r"task \(nan\) is not finite; give 1 finite numbers"),
        (PLACE, "0.1", r"task has shape \(1,\), expected \(2,\): goal x \(m\), goal y \(m\)"),
        (PLACE, "0,0.6", r"outside the distribution; goal x \(m\), goal y \(m\): -0.5 to 0.5, -0.5 to 0.5"),
        (DISC, "3,0.1", "within 3 of the origin"),
        (HEADING, "1,1", "at distance 1 from the origin, at an angle of 0 to 360 degrees"),
        (HALF_CIRCLE, "0,-1", "at an angle of 0 to 180 degrees"),
        (DIRECTION, "left", r"unknown task 'left'; allowed: forward \(\(1\)\), backward \(\(-1\)\)|allowed: forward"),
        (DIRECTION, "0.5", "unknown task '0.5'; allowed: forward"),
    ],
)
def test_parse_says_what_is_allowed(distribution: TaskDistribution, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distribution.parse(text)


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("task", "message"),
    [
        (None, "is not finite|is not numeric"),
        ({"velocity": 1}, r"task \{'velocity': 1\} is not numeric; give 1 numbers: velocity"),
        ([[1.0]], r"task has shape \(1, 1\), expected \(1,\)"),
        (np.inf, "is not finite"),
    ],
)
def test_validate_says_what_is_allowed(task: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VELOCITY.validate(task)


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("distribution", [VELOCITY, DIRECTION])
def test_wrong_samples_are_refused(distribution: TaskDistribution) -> None:
    with pytest.raises(ValueError, match="cannot sample 0 tasks: n must be at least 1"):
        distribution.sample(0, np.random.default_rng(0))
    with pytest.raises(ValueError, match="unknown split 'tset'; allowed: train, test, all"):
        distribution.sample(1, np.random.default_rng(0), "tset")


def test_tasks_keep_their_axis() -> None:
    tasks = Tasks(np.arange(8.0).reshape(4, 2))
    assert len(tasks) == 4
    for index in (1, np.int64(1), [1], slice(1, 2), np.array([1]), np.array([False, True, False, False])):
        np.testing.assert_array_equal(tasks[index].goal, [[2.0, 3.0]])
    np.testing.assert_array_equal(tasks[-1].goal, [[6.0, 7.0]])


def test_distributions_satisfy_the_protocol() -> None:
    for distribution in (*CONTINUOUS.values(), DIRECTION):
        assert isinstance(distribution, TaskDistribution)
        assert isinstance(distribution, ContinuousTasks | ChoiceTasks)
