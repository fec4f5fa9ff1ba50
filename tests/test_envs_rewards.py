"""Rewards and terminations against the formulas of the papers, worked out by hand for small numbers."""

from __future__ import annotations

import numpy as np
import pytest

from metarl.envs import Family, State, make_family

ACTION_6 = np.array([[0.5, -0.5, 1.0, 0.0, 0.0, 0.0]])  # |a|^2 = 1.5
ACTION_8 = np.array([[1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])  # |a|^2 = 2


def half_cheetah(protocol: str, x_before: float, x_after: float, com_velocity: float) -> tuple[np.ndarray, State]:
    qpos = np.zeros((1, 9))
    qpos[0, 0] = x_after
    derived = {}
    if protocol == "finn2017":
        derived = {"sensordata": np.array([[com_velocity, 7.0, 7.0]]), "subtree_com": np.zeros((1, 8, 3))}
    before = np.zeros((1, 9))
    before[0, 0] = x_before
    return before, State(qpos, np.full((1, 9), 7.0), derived)


def ant(xy_before: tuple[float, float], xy: tuple[float, float], z: float = 0.5, **derived: np.ndarray) -> tuple:
    """Contact forces: two components above the clip of 1, one of 0.5, so a clipped square sum of 2.25."""
    before, qpos = np.zeros((1, 15)), np.zeros((1, 15))
    before[0, :2], qpos[0, :2], qpos[0, 2] = xy_before, xy, z
    contact = np.zeros((1, 14, 6))
    contact[0, 4, 5], contact[0, 7, 3], contact[0, 13, 0] = 250.0, -3.0, 0.5
    return before, State(qpos, np.full((1, 14), 7.0), {"cfrc_ext": contact, **derived})


def reward(family: Family, before: np.ndarray, state: State, action: np.ndarray, goal: list[float]) -> float:
    return family.reward(before, state, action, np.array([goal]))[0]


ANT_COSTS = 0.005 * 2 + 0.0005 * 2.25 - 0.05


@pytest.mark.parametrize(("protocol", "velocity"), [("modern", 2.0), ("finn2017", 0.75)])
def test_half_cheetah(protocol: str, velocity: float) -> None:
    # modern: 0.1 m in a control step of 0.05 s; finn2017: the centre of mass's velocity whatever x did
    before, state = half_cheetah(protocol, 1.0, 1.1, com_velocity=0.75)
    vel, direction = make_family("half-cheetah-vel", protocol), make_family("half-cheetah-dir", protocol)
    assert reward(vel, before, state, ACTION_6, [1.5]) == pytest.approx(-abs(velocity - 1.5) - 0.075)
    assert reward(vel, before, state, ACTION_6, [0.0]) == pytest.approx(-velocity - 0.075)
    assert reward(direction, before, state, ACTION_6, [1.0]) == pytest.approx(velocity - 0.075)
    assert reward(direction, before, state, ACTION_6, [-1.0]) == pytest.approx(-velocity - 0.075)
    assert not vel.done(state, np.array([[1.0]])).any()


def test_ant_modern() -> None:
    before, state = ant((1.0, 2.0), (1.1, 1.85))  # 2 and -3 m/s
    assert reward(make_family("ant-dir"), before, state, ACTION_8, [1.0]) == pytest.approx(2 - ANT_COSTS)
    assert reward(make_family("ant-dir"), before, state, ACTION_8, [-1.0]) == pytest.approx(-2 - ANT_COSTS)
    assert reward(make_family("ant-vel"), before, state, ACTION_8, [2.5]) == pytest.approx(-0.5 + 1 - ANT_COSTS)
    heading = [0.6, 0.8]
    expected = 0.6 * 2 - 0.8 * 3 - ANT_COSTS
    assert reward(make_family("ant-dir-2d"), before, state, ACTION_8, heading) == pytest.approx(expected)
    assert reward(make_family("ant-goal"), before, state, ACTION_8, [0.1, 2.0]) == pytest.approx(-1.0 - 0.15 - 0.2)


def test_ant_finn2017() -> None:
    com = np.zeros((1, 14, 3))
    com[0, 1] = [1.0, -1.0, 0.4]
    derived = {"sensordata": np.array([[0.5, -0.25, 9.0, 9.0, 9.0, 9.0]]), "subtree_com": com}
    before, state = ant((0.0, 0.0), (5.0, 5.0), **derived)
    costs = ANT_COSTS
    assert reward(make_family("ant-dir", "finn2017"), before, state, ACTION_8, [-1.0]) == pytest.approx(-0.5 - costs)
    assert reward(make_family("ant-vel", "finn2017"), before, state, ACTION_8, [3.0]) == pytest.approx(-2.5 + 1 - costs)
    expected = 0.6 * 0.5 + 0.8 * 0.25 - costs
    assert reward(make_family("ant-dir-2d", "finn2017"), before, state, ACTION_8, [0.6, -0.8]) == pytest.approx(
        expected
    )
    goal = make_family("ant-goal", "finn2017")
    assert reward(goal, before, state, ACTION_8, [2.0, 0.0]) == pytest.approx(4 - 2 - costs)


@pytest.mark.parametrize(
    ("name", "protocol", "terminates"),
    [
        ("ant-dir", "modern", True),
        ("ant-vel", "finn2017", True),
        ("ant-dir-2d", "modern", True),
        ("ant-goal", "modern", False),
        ("ant-goal", "finn2017", True),
    ],
)
def test_ant_termination(name: str, protocol: str, terminates: bool) -> None:
    family = make_family(name, protocol)
    goal = np.zeros((1, family.spec.goal_dim))
    for z, outside in [(0.199, True), (0.2, False), (0.55, False), (1.0, False), (1.001, True)]:
        _, state = ant((0, 0), (0, 0), z=z)
        assert family.done(state, goal)[0] == (outside and terminates)


def point(x: float, y: float) -> State:
    return State(np.array([[x, y]]), np.zeros((1, 2)))


def test_point_nav() -> None:
    family = make_family("point-nav")
    action, before = np.zeros((1, 2)), np.zeros((1, 2))
    assert reward(family, before, point(0.3, 0.4), action, [0.0, 0.0]) == pytest.approx(-0.5)
    assert reward(family, before, point(0.1, 0.1), action, [0.1, 0.1]) == 0
    for x, y, arrived in [(0.209, 0.191, True), (0.211, 0.2, False), (0.2, 0.189, False)]:
        assert family.done(point(x, y), np.array([[0.2, 0.2]]))[0] == arrived


def test_point_nav_moves_by_a_tenth_of_the_clipped_action() -> None:
    qpos, qvel = np.array([[0.5, -0.5]]), np.zeros((1, 2))
    make_family("point-nav").advance(qpos, qvel, np.array([[1.0, -0.5]]))
    np.testing.assert_allclose(qpos, [[0.6, -0.55]])


def test_point_nav_sparse() -> None:
    family = make_family("point-nav-sparse")
    action, before = np.zeros((1, 2)), np.zeros((1, 2))
    for x, expected in [(1.0, 1.0), (0.9, 0.9), (0.81, 0.81), (0.79, 0.0), (0.0, 0.0)]:
        assert reward(family, before, point(x, 0.0), action, [1.0, 0.0]) == pytest.approx(expected)
        assert not family.done(point(x, 0.0), np.array([[1.0, 0.0]])).any()
