"""`metarl check`: every family of ours passes, and each deliberately broken one is told what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import mujoco
import numpy as np
import pytest
from gymnasium_families import LineFamily, Raises, ShowsGoal
from small_runs import call

from metarl.envs import ChoiceTasks, Family, State, Tasks, family_class, family_names, uniform_box
from metarl.envs.contract import Broken, check_family, goal_is_hidden

XML = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <body>
      <joint name="hinge" type="hinge" axis="0 1 0" damping="0.1"/>
      <geom type="capsule" fromto="0 0 0 0 0 -1" size="0.05" mass="1"/>
    </body>
  </worldbody>
  <actuator><motor joint="hinge" gear="3"/></actuator>
</mujoco>
"""


class Good(Family):
    name, title = "test-good", "a pendulum holds an angle"
    tasks = uniform_box([("angle (rad)", -1.0, 1.0)])
    frame_skip = 2
    horizon = 20

    def model_spec(self) -> mujoco.MjSpec:
        return mujoco.MjSpec.from_string(XML)

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return rng.uniform(-0.1, 0.1, 1), np.zeros(1)

    def observe(self, state: State) -> np.ndarray:
        return np.concatenate([state.qpos, state.qvel], axis=1)

    def reward(self, qpos_before: np.ndarray, state: State, action: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return -np.abs(state.qpos[:, 0] - goal[:, 0])


class Leaky(list):
    """Tasks whose training and test parts overlap."""

    names = ("goal",)

    def sample(self, n: int, rng: np.random.Generator, split: str = "all") -> Tasks:
        return Tasks(rng.integers(0, 50 if split == "test" else 100, (n, 1)).astype(float))

    def validate(self, goal: object) -> Tasks:
        return Tasks(np.array([goal]))


def raises(self: Family, *_: object) -> np.ndarray:
    raise ZeroDivisionError("no torque")


calls = iter(range(10**9))
BROKEN = {
    "no name": ({"name": None}, "class", "name is missing"),
    "no tasks": ({"tasks": property(lambda self: self.nothing)}, "class", "tasks is missing"),
    "no horizon": ({"horizon": 0}, "class", "horizon is missing or not a positive"),
    "no frame skip": ({"frame_skip": 2.5}, "class", "frame_skip is missing"),
    "no reward": ({"reward": Family.reward}, "class", "the method reward is missing"),
    "goal shape": (
        {"tasks": ChoiceTasks(("x", "y"), (("a", (1.0,)), ("b", (2.0,))))}, "sampled tasks", "names has 2 entries"),
    "leaky tasks": ({"tasks": Leaky()}, "train and test tasks", "sampled training tasks are test tasks too"),
    "qpos size": ({"reset": lambda self, rng: (np.zeros(2), np.zeros(1))}, "reset", "qpos of shape (2,); the model"),
    "own random": (
        {"reset": lambda self, rng: (np.array([float(next(calls))]), np.zeros(1))}, "reset", "another initial state"),
    "reward shape": ({"reward": lambda self, q, s, a, g: -np.abs(s.qpos - g)}, "observe reward done", "shape (6, 1)"),
    "reward scalar": ({"reward": lambda self, q, s, a, g: 1.0}, "observe reward done", "shape () for 6 rows"),
    "reward nan": (
        {"reward": lambda self, q, s, a, g: s.qpos[:, 0] * np.nan}, "observe reward done", "reward returned a number"),
    "done floats": ({"done": lambda self, s, g: np.zeros(len(g))}, "observe reward done", "done returned float64"),
    "a view": ({"observe": lambda self, s: s.qpos}, "observe reward done", "a view of the state"),
    "obs axes": (
        {"observe": lambda self, s: s.qpos[:, 0]}, "observe reward done", "observe returned shape (1,) for one row"),
    "writes": (
        {"reward": lambda self, q, s, a, g: np.negative(g, out=g)[:, 0]}, "observe reward done", "wrote to goal"),
    "raises": ({"reward": raises}, "observe reward done", "test_envs_check.py, line"),
    "dynamics": ({"dynamics": lambda self, g: {"body_mas": g}}, "observe reward done", "did you mean body_mass"),
    "explodes": (
        {"model_spec": lambda self: mujoco.MjSpec.from_string(XML.replace('gear="3"', 'gear="1e14"'))},
        "finite rollout", "simulations diverged"),
    "remembers": (
        {"reward": lambda self, q, s, a, g: s.qpos[:, 0] - g[:, 0] + next(calls)},
        "same seed same rollout", "the same seeds and actions differ"),
    "over rows": (
        {"reward": lambda self, q, s, a, g: s.qpos[:, 0] - g[:, 0] - s.qpos.mean()},
        "rows are independent", "changed when other tasks"),
    "batch size": (
        {"reward": lambda self, q, s, a, g: (s.qpos[:, 0] - g[:, 0]) * len(g)},
        "single equals batch", "the reward of a task alone differs"),
    "same for all": ({"reward": lambda self, q, s, a, g: -s.qpos[:, 0]}, "task matters", "nothing to adapt to"),
}  # fmt: skip


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_family_is_told_what_is_wrong(what: str) -> None:
    changes, check, said = BROKEN[what]
    findings = check_family(type("Bad", (Good,), changes))
    wrong = {finding.check: finding for finding in findings if finding.problem}
    assert check in wrong, findings
    assert said in wrong[check].problem
    assert wrong[check].hint


def test_a_good_family_passes() -> None:
    assert [finding for finding in check_family(Good) if finding.problem] == []


@pytest.mark.parametrize("name", family_names())
def test_every_family_of_ours_passes(name: str) -> None:
    assert [finding for finding in check_family(family_class(name)) if finding.problem] == []


def test_a_family_of_gymnasium_environments_passes() -> None:
    assert [finding for finding in check_family(LineFamily) if finding.problem] == []


def test_an_observed_goal_and_a_failing_environment_are_found() -> None:
    """In goal-conditioned environments the goal stands in the observation; nothing would be left to adapt to."""
    with pytest.raises(Broken, match="depends on the task"):
        goal_is_hidden(ShowsGoal())
    wrong = {finding.check: finding.problem for finding in check_family(Raises) if finding.problem}
    assert any("RuntimeError: no such robot" in problem for problem in wrong.values())


BAD_FILE = """
import numpy as np
from test_envs_check import Good

class Bad(Good):
    name = "test-bad"

    def reward(self, qpos_before, state, action, goal):
        return -np.abs(state.qpos - goal)
"""


@pytest.mark.usefixtures("no_type_checks", "nothing_stays")
def test_the_command_says_it_and_exits_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "check", "point-nav")
    assert (code, err) == (0, "")
    assert "point-nav: all 11 checks passed\nnext: metarl train point-nav\n" in out
    (tmp_path / "bad_family.py").write_text(BAD_FILE)
    code, out, err = call(capsys, "check", f"{tmp_path}/bad_family.py:Bad")
    assert (code, err) == (1, "")
    assert "  WRONG  observe reward done: reward returned shape (6, 1) for 6 rows; expected (6,)\n" in out
    assert "hint: sum over axis=1, and take goal[:, 0] rather than goal[:, :1]" in out
    code, out, err = call(capsys, "check", "test-bad", "--json")
    assert (code, err) == (1, "")
    assert [entry["check"] for entry in json.loads(out) if entry["problem"]] == ["observe reward done"]
