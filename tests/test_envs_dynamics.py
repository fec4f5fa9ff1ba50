"""Randomised dynamics: model fields from the task, the constants derived from them, and Gymnasium's physics without."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import mujoco
import numpy as np
import pytest

from metarl.envs import Family, MetaEnv, Simulator, State, TaskDistribution, Tasks, make_family, task_model, uniform_box
from metarl.envs.ant_crippled import DISABLED_RGB
from metarl.videos.scene import build_scene

PARAMS = ["walker-params", "hopper-params", "half-cheetah-params"]

ARM = """
<mujoco>
  <option timestep="0.01" viscosity="0.1"/>
  <worldbody>
    <body name="arm">
      <joint name="hinge" type="hinge" axis="0 1 0" damping="0.2"/>
      <geom name="rod" type="capsule" fromto="0 0 0 0 0 -1" size="0.05" mass="1"/>
      <body name="hand" pos="0 0 -1">
        <joint name="wrist" type="hinge" axis="0 1 0" damping="0.1"/>
        <geom name="palm" type="sphere" size="0.1" mass="0.5"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="hinge" gear="2"/><motor joint="wrist" gear="1"/></actuator>
</mujoco>
"""


class Arm(Family):
    """A two-link arm whose task is one model field; `goal` is what `changed` makes of it."""

    name: ClassVar[str] = "test-arm"
    title: ClassVar[str] = "an arm in other physics"
    tasks: TaskDistribution = uniform_box([("scale", 0.5, 2.0)])
    frame_skip = 2
    horizon = 20
    field: str = "body_mass"

    def model_spec(self) -> mujoco.MjSpec:
        return mujoco.MjSpec.from_string(ARM)

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return rng.uniform(-0.5, 0.5, 2), np.zeros(2)

    def observe(self, state: State) -> np.ndarray:
        return np.concatenate([state.qpos, state.qvel], axis=1)

    def reward(self, qpos_before: np.ndarray, state: State, action: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return -np.abs(state.qpos[:, 0])

    def dynamics(self, goal: np.ndarray) -> Mapping[str, np.ndarray]:
        return {self.field: self.changed(goal)}

    def changed(self, goal: np.ndarray) -> np.ndarray:
        owner: Any = self.model.opt if self.field.startswith("opt.") else self.model
        value = np.asarray(getattr(owner, self.field.removeprefix("opt.")))
        return value[None] * goal.reshape(-1, *[1] * value.ndim)


def arm(field: str) -> Arm:
    family = Arm()
    family.field = field
    return family


@contextmanager
def reference_env(env_id: str, folder: Path, **options: object) -> Iterator[gymnasium.Env]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        env = gymnasium.make(env_id, **options).unwrapped
        yield env
        env.close()


@pytest.mark.parametrize(
    "field",
    ["body_mass", "body_inertia", "dof_damping", "geom_friction", "actuator_gainprm", "actuator_gear", "opt.gravity",
     "dof_armature", "geom_size", "body_pos", "opt.viscosity"],
)  # fmt: skip
def test_a_row_is_bit_for_bit_a_model_changed_by_hand(field: str) -> None:
    """The field written into a copy of the MjModel and mj_setConst called: what a MuJoCo user would do."""
    family = arm(field)
    goals = np.array([[0.5], [1.0], [1.7]])
    simulator = Simulator(family, 3, 1, n_threads=2)
    simulator.reset(Tasks(goals), [np.random.default_rng(i) for i in range(3)])
    start = simulator.state.qpos.copy()
    actions = np.random.default_rng(0).uniform(-1, 1, (40, 3, 1, 2))
    for action in actions:
        simulator.step(action)
    for row, goal in enumerate(goals):
        model = copy.copy(family.model)
        owner: Any = model.opt if field.startswith("opt.") else model
        setattr(owner, field.removeprefix("opt."), goal[0] * getattr(owner, field.removeprefix("opt.")))
        mujoco.mj_setConst(model, mujoco.MjData(model))
        data = mujoco.MjData(model)
        data.qpos[:] = start[row]
        mujoco.mj_forward(model, data)
        for action in actions[:, row, 0]:
            data.ctrl[:] = action
            mujoco.mj_step(model, data, nstep=2)
        np.testing.assert_array_equal(simulator.state.qpos[row], data.qpos)
        np.testing.assert_array_equal(simulator.state.qvel[row], data.qvel)


@pytest.mark.parametrize("name", [*PARAMS, "ant-crippled"])
def test_every_constant_of_a_row_follows_its_task(name: str) -> None:
    """All arrays of the batch's model for a row equal those of `task_model`; the shared model is untouched."""
    family = make_family(name)
    before = copy.copy(family.model)
    tasks = family.tasks.sample(3, np.random.default_rng(0))
    simulator = Simulator(family, 3, 2)
    simulator.reset(tasks, [np.random.default_rng(i) for i in range(3)])
    for task in range(3):
        expected, row = task_model(family, tasks.goal[task]), simulator._batch.get_model(2 * task + 1)
        for field in dir(expected):
            values = getattr(expected, field, None)
            if isinstance(values, np.ndarray) and field != "geom_rgba":
                np.testing.assert_array_equal(getattr(row, field), values, err_msg=field)
    for field in ("body_mass", "body_subtreemass", "dof_damping", "dof_invweight0", "actuator_gainprm", "geom_rgba"):
        np.testing.assert_array_equal(getattr(family.model, field), getattr(before, field))


@pytest.mark.parametrize("name", PARAMS)
def test_masses_change_what_is_derived_from_them(name: str) -> None:
    family = make_family(name)
    goal = np.zeros(len(family.tasks.names))
    n_bodies = family.model.nbody - 1
    goal[:n_bodies] = 1.0
    heavy = task_model(family, goal)
    np.testing.assert_allclose(heavy.body_mass, 1.5 * family.model.body_mass, rtol=1e-15)
    np.testing.assert_allclose(heavy.body_subtreemass, 1.5 * family.model.body_subtreemass, rtol=1e-12)
    # A translation of the whole robot has the inverse weight 1 / mass, but for the inertias that did not grow.
    assert (heavy.dof_invweight0[:2] < 0.75 * family.model.dof_invweight0[:2]).all()


def test_a_task_can_be_changed_and_changed_back() -> None:
    """Rows that get another task run as if they had always had it, and again with the first."""
    family = make_family("walker-params")
    one, two = (family.tasks.sample(2, np.random.default_rng(seed)) for seed in (0, 1))
    action = np.random.default_rng(2).uniform(-1, 1, (2, 2, 6))

    def run(simulator: Simulator, tasks: Tasks) -> np.ndarray:
        simulator.reset(tasks, [np.random.default_rng(i) for i in range(2)])
        return np.stack([simulator.step(action).obs for _ in range(8)])

    reused = Simulator(family, 2, 2)
    first, second, again = run(reused, one), run(reused, two), run(reused, one)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(second, run(Simulator(family, 2, 2), two))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("name", "theirs", "options", "scale"),
    [
        ("walker-params", "Walker2d-v5", {}, 1.0),
        ("hopper-params", "Hopper-v5", {}, 1.0),
        ("half-cheetah-params", "HalfCheetah-v5", {}, 1.0),
        ("humanoid-dir", "Humanoid-v5", {f"include_{part}_in_observation": False for part in
                                         ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")}, 0.4),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_unchanged_model_is_gymnasiums_bit_for_bit(
    name: str, theirs: str, options: dict, scale: float, tmp_path: Path
) -> None:
    task = [1.0, 0.0] if name == "humanoid-dir" else "nominal"
    env = MetaEnv(name, task=task, horizon=1000)
    rng = np.random.default_rng(0)
    with reference_env(theirs, tmp_path, **options) as reference:
        for seed, n_steps in [(0, 150), (None, 30), (1, 30)]:
            obs, _ = env.reset(seed=seed)
            np.testing.assert_array_equal(obs, reference.reset(seed=seed)[0])
            for _ in range(n_steps):
                action = rng.uniform(-1, 1, env.action_space.shape)
                obs, reward, terminated, _, info = env.step(action)
                expected, their_reward, their_end, _, their_info = reference.step(scale * action)
                np.testing.assert_array_equal(obs, expected)
                assert terminated == their_end
                assert info["x_position"] == their_info["x_position"]
                if name == "half-cheetah-params" or (name != "humanoid-dir" and not terminated):
                    assert reward == pytest.approx(their_reward, abs=1e-12)


def test_humanoid_reward_is_pearls_up_to_the_time_of_the_velocity(tmp_path: Path) -> None:
    """Gymnasium's reward along x with our velocity and contact forces in place of its own: the rest must agree.

    Its forces are those of the last Runge-Kutta stage, ours of the last step's start.
    """
    env = MetaEnv("humanoid-dir", task=[1.0, 0.0])
    rng = np.random.default_rng(1)
    with reference_env("Humanoid-v5", tmp_path) as reference:
        seen = 0.0
        env.reset(seed=3)
        reference.reset(seed=3)
        for _ in range(30):
            action = rng.uniform(-1, 1, 17)
            _, reward, terminated, _, info = env.step(action)
            _, their_reward, _, _, their_info = reference.step(0.4 * action)
            if not terminated:
                contact = min(5e-7 * float((env._simulator.state.derived["cfrc_ext"] ** 2).sum()), 10.0)
                theirs = their_reward + 1.25 * (info["x_velocity"] - their_info["x_velocity"])
                assert reward == pytest.approx(theirs - their_info["reward_contact"] - contact, abs=1e-9)
                seen = max(seen, contact)
    assert seen > 0.01  # there was contact to compare


def test_a_disabled_leg_has_no_motors_and_the_others_do() -> None:
    """From rest in the air, full action accelerates exactly the joints of the other legs."""
    family = make_family("ant-crippled")
    for leg in range(4):
        model = task_model(family, np.array([float(leg)]))
        data = mujoco.MjData(model)
        data.qpos[2] = 5.0
        data.ctrl[:] = 1.0
        mujoco.mj_forward(model, data)
        force = data.qfrc_actuator[6:].reshape(4, 2)  # joints in the order hip_1, ankle_1, hip_2, ...
        assert (force[leg] == 0).all()
        np.testing.assert_array_equal(np.delete(force, leg, axis=0), 150.0)


def test_the_fourth_leg_is_held_out() -> None:
    tasks = make_family("ant-crippled").tasks
    rng = np.random.default_rng(0)
    assert set(tasks.sample(30, rng, "train").goal[:, 0]) == {0.0, 1.0, 2.0}
    assert set(tasks.sample(30, rng, "test").goal[:, 0]) == {3.0}
    assert set(tasks.sample(30, rng).goal[:, 0]) == {0.0, 1.0, 2.0, 3.0}
    assert tasks.parse("back-right").goal.tolist() == [[3.0]]


def test_scales_are_log_uniform_within_the_published_bounds() -> None:
    family = make_family("walker-params")
    goal = family.tasks.sample(4000, np.random.default_rng(0)).goal
    scale = family.dynamics(goal)["body_mass"][:, 1:] / family.model.body_mass[1:]
    assert scale.min() >= 1.5**-3
    assert scale.max() <= 1.5**3
    log = np.log(scale) / np.log(1.5)
    np.testing.assert_allclose(log.mean(axis=0), 0.0, atol=4.5 * np.sqrt(3.0 / len(goal)))
    np.testing.assert_allclose(log.var(axis=0), 3.0, rtol=0.1)
    np.testing.assert_allclose(np.corrcoef(log.T), np.eye(7), atol=0.08)
    damping = family.dynamics(goal)["dof_damping"][:, 3:] / family.model.dof_damping[3:]
    assert 1.3**2.9 < damping.max() <= 1.3**3


def test_train_and_test_robots_differ() -> None:
    tasks = make_family("hopper-params").tasks
    train, test = (tasks.sample(200, np.random.default_rng(i), split).goal for i, split in enumerate(("train", "test")))
    unit = lambda goal: (goal + 3.0) / 6.0  # noqa: E731
    assert tasks.in_split(unit(train), "train").all()
    assert tasks.in_split(unit(test), "test").all()


def test_the_picture_shows_what_the_task_changes() -> None:
    family = make_family("ant-crippled")
    for leg in range(4):
        scene = build_scene(family, np.array([float(leg)]))
        red = np.isclose(scene.model.geom_rgba[:, :3], DISABLED_RGB).all(axis=1)
        assert np.flatnonzero(red).tolist() == family._geoms(leg).tolist()
    sized = arm("geom_size")
    np.testing.assert_allclose(
        build_scene(sized, np.array([1.5])).model.geom_size[:2], 1.5 * sized.model.geom_size, rtol=1e-12
    )


class Kinematic(Arm):
    kinematic = True


@pytest.mark.parametrize(
    ("field", "values", "message"),
    [
        ("body_masss", np.ones((2, 3)), r"Arm.dynamics: 'body_masss' is not a model field; did you mean body_mass"),
        ("body_mass", np.ones(3), r"'body_mass' has shape \(3,\), expected .* \(2, 3\)"),
        ("body_mass", np.full((2, 3), np.nan), r"'body_mass' is not finite for task \[1.0\]"),
        ("body_parentid", np.zeros((2, 3), int), "is part of the model's structure"),
        ("opt.timestep", np.ones(2), "'opt.timestep' cannot differ between tasks"),
        ("opt.gravty", np.ones((2, 3)), "did you mean opt.gravity"),
    ],
)
def test_wrong_fields_are_explained(
    field: str, values: np.ndarray, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = arm(field)
    monkeypatch.setattr(Arm, "changed", lambda self, goal: values)
    with pytest.raises(ValueError, match=message):
        Simulator(family, 2, 1).reset(Tasks(np.ones((2, 1))), [np.random.default_rng(i) for i in range(2)])


def test_kinematic_families_have_no_model_dynamics() -> None:
    with pytest.raises(ValueError, match="moves without MuJoCo"):
        Simulator(Kinematic(), 1, 1).reset(Tasks(np.ones((1, 1))), [np.random.default_rng(0)])


@pytest.mark.parametrize("name", [*PARAMS, "ant-crippled", "humanoid-dir"])
def test_the_papers_protocol_is_refused_in_words(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} has no protocol 'finn2017' .*; use modern"):
        make_family(name, "finn2017")
