"""Physics against independent references: Gymnasium's own environments, mj_subtreeVel, and model facts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import pytest

import metarl  # noqa: F401  (registers the ids)
from metarl.envs import Simulator, make_family


@contextmanager
def gymnasium_env(env_id: str, folder: Path, **kwargs: object) -> Iterator[gymnasium.Env]:
    """Gymnasium's environment; MuJoCo warns of its model's settotalmass and logs that in the working folder."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.chdir(folder)
        warnings.simplefilter("ignore", DeprecationWarning)
        env = gymnasium.make(env_id, **kwargs).unwrapped
        yield env
        env.close()


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        ("metarl/HalfCheetahVel-v0", "HalfCheetah-v5", {}),
        ("metarl/AntDir-v0", "Ant-v5", {"include_cfrc_ext_in_observation": False}),
    ],
)
def test_modern_physics_is_gymnasiums(ours: str, theirs: str, options: dict, tmp_path: Path) -> None:
    """Bit for bit over hundreds of steps and several seeded and unseeded resets."""
    rng = np.random.default_rng(0)
    env = gymnasium.make(ours, horizon=1000).unwrapped
    with gymnasium_env(theirs, tmp_path, **options) as reference:
        for seed, n_steps in [(0, 300), (None, 40), (1, 40), (2, 150), (None, 20)]:
            obs, info = env.reset(seed=seed)
            expected_obs, expected_info = reference.reset(seed=seed)
            np.testing.assert_array_equal(obs, expected_obs)
            for _ in range(n_steps):
                assert info["x_position"] == expected_info["x_position"]
                action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
                obs, _, _, _, info = env.step(action)
                expected_obs, _, _, _, expected_info = reference.step(action)
                np.testing.assert_array_equal(obs, expected_obs)
                if theirs == "HalfCheetah-v5":
                    assert info["x_velocity"] == expected_info["x_velocity"]


def test_modern_ant_terminates_where_gymnasiums_does(tmp_path: Path) -> None:
    env = gymnasium.make("metarl/AntDir-v0").unwrapped
    with gymnasium_env("Ant-v5", tmp_path) as reference:
        for z, healthy in [(0.19, False), (0.21, True), (0.99, True), (1.01, False)]:
            qpos, qvel = reference.init_qpos.copy(), reference.init_qvel.copy()
            qpos[2] = z
            reference.set_state(qpos, qvel)
            assert reference.is_healthy == healthy
            state = Simulator(env.family, 1, 1)
            state.set_state(qpos[None], qvel[None])
            assert env.family.done(state.state, np.ones((1, 1)))[0] != healthy


def test_half_cheetah_model_has_gymnasiums_mass_without_its_warning(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    model = make_family("half-cheetah-vel").model
    assert capfd.readouterr() == ("", "")
    with gymnasium_env("HalfCheetah-v5", tmp_path) as reference:
        for field in ("body_mass", "body_inertia", "body_ipos", "dof_invweight0", "geom_size", "actuator_gear"):
            np.testing.assert_array_equal(getattr(model, field), getattr(reference.model, field), err_msg=field)
    assert model.body_mass.sum() == pytest.approx(14.0)


@pytest.mark.parametrize("name", ["half-cheetah-dir", "half-cheetah-vel", "ant-dir", "ant-vel"])
def test_finn2017_velocity_is_that_of_the_torso_subtree_after_the_step(name: str) -> None:
    """Against mj_subtreeVel on a fresh MjData in the new state, and against the motion of the centre of mass."""
    family = make_family(name, "finn2017")
    simulator = Simulator(family, 1, 3)
    tasks = family.tasks.sample(1, np.random.default_rng(0))
    simulator.reset(tasks, [np.random.default_rng(1)])
    rng = np.random.default_rng(2)
    torso = mujoco.mj_name2id(family.model, mujoco.mjtObj.mjOBJ_BODY, "torso")
    for _ in range(20):
        simulator.step(rng.uniform(-1, 1, (1, 3, family.spec.act_dim)))
        info = family.info(simulator.qpos_before, simulator.state)
        for row in range(3):
            data = mujoco.MjData(family.model)
            data.qpos[:], data.qvel[:] = simulator.state.qpos[row], simulator.state.qvel[row]
            mujoco.mj_forward(family.model, data)
            mujoco.mj_subtreeVel(family.model, data)
            assert info["x_velocity"][row] == pytest.approx(data.subtree_linvel[torso, 0], abs=1e-12)
            com = data.subtree_com[torso].copy()
            dt = 1e-6
            mujoco.mj_integratePos(family.model, data.qpos, data.qvel, dt)
            mujoco.mj_kinematics(family.model, data)
            mujoco.mj_comPos(family.model, data)
            moved = (data.subtree_com[torso] - com) / dt
            assert info["x_velocity"][row] == pytest.approx(moved[0], abs=1e-4)


@pytest.mark.parametrize(
    ("name", "protocol", "control_dt_s", "obs_dim"),
    [
        ("half-cheetah-dir", "modern", 0.05, 17),
        ("half-cheetah-vel", "finn2017", 0.01, 20),
        ("ant-dir", "modern", 0.05, 27),
        ("ant-vel", "finn2017", 0.02, 125),
        ("ant-goal", "modern", 0.05, 29),
        ("point-nav", "modern", 0.05, 2),
    ],
)
def test_time_step_and_observation_size(name: str, protocol: str, control_dt_s: float, obs_dim: int) -> None:
    spec = make_family(name, protocol).spec
    assert spec.control_dt_s == pytest.approx(control_dt_s)
    assert spec.obs_dim == obs_dim
    assert spec.horizon == (100 if name == "point-nav" else 200)


def test_finn2017_ant_is_the_papers_model() -> None:
    family = make_family("ant-vel", "finn2017")
    assert family.model.opt.timestep == 0.02
    assert family.model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4
    np.testing.assert_array_equal(family.model.geom_solimp[:, :3], np.tile([0.8, 0.8, 0.01], (family.model.ngeom, 1)))
    # Gear 150 times controls in [-1, 1]: the torques of the paper's gear 1 and +-150.
    np.testing.assert_array_equal(family.model.actuator_gear[:, 0], 150)
    np.testing.assert_array_equal(family.model.actuator_ctrlrange, np.tile([-1, 1], (8, 1)))


@pytest.mark.parametrize("name", ["half-cheetah-dir", "ant-dir"])
def test_finn2017_reset_noise(name: str) -> None:
    """N(0, 0.01) around the initial position and N(0, 0.1) on velocity: 4-sigma bounds on mean and deviation."""
    family = make_family(name, "finn2017")
    start = [0, 0, 0.55, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1] if name == "ant-dir" else [0] * 9
    rng = np.random.default_rng(0)
    n = 2000
    draws = [family.reset(rng) for _ in range(n)]
    for values, mean, deviation in (
        (np.stack([qpos for qpos, _ in draws]), np.array(start), 0.01),
        (np.stack([qvel for _, qvel in draws]), 0.0, 0.1),
    ):
        np.testing.assert_allclose(values.mean(axis=0) - mean, 0, atol=4.5 * deviation / np.sqrt(n))
        np.testing.assert_allclose(values.std(axis=0), deviation, rtol=4.5 / np.sqrt(2 * n))


@pytest.mark.parametrize("protocol", ["modern", "finn2017"])
def test_ant_contact_forces_are_those_at_the_start_of_the_last_mujoco_step(protocol: str) -> None:
    family = make_family("ant-dir", protocol)
    simulator = Simulator(family, 1, 1)
    simulator.reset(family.tasks.sample(1, np.random.default_rng(0)), [np.random.default_rng(1)])
    data = mujoco.MjData(family.model)
    data.qpos[:], data.qvel[:] = simulator.state.qpos[0], simulator.state.qvel[0]
    mujoco.mj_forward(family.model, data)
    rng = np.random.default_rng(2)
    seen = 0.0
    for _ in range(40):
        action = rng.uniform(-1, 1, 8)
        simulator.step(action[None, None])
        data.ctrl[:] = action
        for _ in range(family.frame_skip):
            last = mujoco.MjData(family.model)
            mujoco.mj_copyData(last, family.model, data)
            mujoco.mj_step(family.model, data)
        mujoco.mj_forward(family.model, last)
        mujoco.mj_rnePostConstraint(family.model, last)
        np.testing.assert_allclose(simulator.state.derived["cfrc_ext"][0], last.cfrc_ext, rtol=1e-9, atol=1e-9)
        seen = max(seen, np.abs(last.cfrc_ext).max())
    assert seen > 1.0  # the feet touched the ground, so the comparison was of something


def test_a_state_that_mujoco_would_replace_is_refused() -> None:
    simulator = Simulator(make_family("half-cheetah-vel"), 1, 2)
    good = np.zeros((2, 9))
    for bad in (np.nan, np.inf, 2e10):
        broken = good.copy()
        broken[1, 3] = bad
        with pytest.raises(ValueError, match="qpos that is not finite"):
            simulator.set_state(broken, good)
        with pytest.raises(ValueError, match="qvel that is not finite"):
            simulator.set_state(good, broken)


def test_simulator_refuses_wrong_sizes() -> None:
    family = make_family("ant-goal")
    with pytest.raises(ValueError, match="must be at least"):
        Simulator(family, 0, 1)
    simulator = Simulator(family, 2, 1)
    tasks = family.tasks.sample(2, np.random.default_rng(0))
    with pytest.raises(ValueError, match="got 2 tasks and 1 generators for a simulator of 2 tasks"):
        simulator.reset(tasks, [np.random.default_rng(0)])
    directions = make_family("ant-dir").tasks.sample(2, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"tasks have 1 goal components, ant-goal has 2: goal x \(m\), goal y \(m\)"):
        simulator.reset(directions, [np.random.default_rng(0)] * 2)
