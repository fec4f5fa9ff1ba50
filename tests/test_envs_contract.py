"""What every registered family must satisfy, in each protocol; a new family gets these tests for nothing."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from metarl.envs import Family, MetaEnv, Simulator, State, Tasks, family_class, family_names, make_family, task_model
from metarl.envs.dynamics import has_dynamics

N_TASKS, N_ENVS, N_STEPS = 3, 2, 12


BUILDS = [(name, protocol) for name in family_names() for protocol in family_class(name).protocols]


@pytest.fixture(scope="module", params=BUILDS, ids=str)
def family(request: pytest.FixtureRequest) -> Family:
    return make_family(*request.param)


def sampled_tasks(family: Family) -> Tasks:
    return family.tasks.sample(N_TASKS, np.random.default_rng(7))


def generators(seeds: tuple[int, ...] = (0, 1, 2)) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in seeds]


def random_actions(family: Family, n_steps: int = N_STEPS) -> np.ndarray:
    return np.random.default_rng(11).uniform(-1.3, 1.3, (n_steps, N_TASKS, N_ENVS, family.spec.act_dim))


def rollout(simulator: Simulator, actions: np.ndarray, seeds: tuple[int, ...] = (0, 1, 2)) -> dict[str, np.ndarray]:
    """A trajectory (time, task, env, ...) of the sampled tasks; termination is recorded, not acted on."""
    obs = [simulator.reset(sampled_tasks(simulator.family), generators(seeds))]
    steps = [simulator.step(action) for action in actions]
    return {
        "obs": np.stack(obs + [step.obs for step in steps]),
        "reward": np.stack([step.reward for step in steps]),
        "terminated": np.stack([step.terminated for step in steps]),
    }


def assert_same_bits(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    for key in one:
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def test_spec_matches_what_the_simulator_returns(family: Family) -> None:
    simulator = Simulator(family, N_TASKS, N_ENVS)
    spec = family.spec
    assert simulator.reset(sampled_tasks(family), generators()).shape == (N_TASKS, N_ENVS, spec.obs_dim)
    step = simulator.step(random_actions(family)[0])
    assert step.obs.shape == (N_TASKS, N_ENVS, spec.obs_dim)
    assert step.obs.dtype == step.reward.dtype == np.float64
    assert step.reward.shape == step.terminated.shape == step.diverged.shape == (N_TASKS, N_ENVS)
    assert np.isfinite(step.obs).all()
    assert np.isfinite(step.reward).all()
    assert spec.act_dim == family.model.nu
    assert spec.goal_dim == len(family.tasks.names) == sampled_tasks(family).goal.shape[1]
    assert spec.horizon == family.horizon > 0
    assert spec.control_dt_s == pytest.approx(family.model.opt.timestep * family.frame_skip)


def test_policy_sees_the_goal_only_as_an_oracle(family: Family) -> None:
    """Other tasks, same generators and actions: physics and observation must not notice.

    Where the dynamics are the task, the first observation must not.
    """
    tasks = sampled_tasks(family)
    other = family.tasks.sample(N_TASKS, np.random.default_rng(8))
    assert not np.array_equal(tasks.goal, other.goal)
    oracle = make_family(family.name, family.protocol, oracle=True)
    assert oracle.spec.obs_dim == family.spec.obs_dim + family.spec.goal_dim
    simulators = [Simulator(family, N_TASKS, N_ENVS) for _ in range(2)] + [Simulator(oracle, N_TASKS, N_ENVS)]
    goals = np.repeat(tasks.goal[:, None], N_ENVS, axis=1)
    obs = [s.reset(t, generators()) for s, t in zip(simulators, (tasks, other, tasks), strict=True)]
    for t, action in enumerate(random_actions(family, 5)):
        if has_dynamics(family) and t > 0:
            assert (obs[0] != obs[1]).any(axis=(1, 2))[(tasks.goal != other.goal).any(axis=1)].all()
        else:
            np.testing.assert_array_equal(obs[0], obs[1])
        np.testing.assert_array_equal(np.concatenate([obs[0], goals], axis=2), obs[2])
        obs = [s.step(action).obs for s in simulators]


def test_same_seed_gives_the_same_bits(family: Family) -> None:
    actions = random_actions(family)
    simulator = Simulator(family, N_TASKS, N_ENVS)
    first = rollout(simulator, actions)
    assert_same_bits(first, rollout(simulator, actions))
    assert_same_bits(first, rollout(Simulator(family, N_TASKS, N_ENVS), actions))


def test_reset_noise_depends_on_the_seed(family: Family) -> None:
    simulator = Simulator(family, N_TASKS, N_ENVS)
    first = simulator.reset(sampled_tasks(family), generators())
    second = simulator.reset(sampled_tasks(family), generators((3, 4, 5)))
    assert family.kinematic or (first != second).any(axis=2).all()


def test_row_does_not_depend_on_its_neighbours(family: Family) -> None:
    actions = random_actions(family)
    others = actions.copy()
    others[:, 1:] = -actions[:, 1:]
    others[:, 0, 1] *= 0.5
    one = rollout(Simulator(family, N_TASKS, N_ENVS), actions)
    two = rollout(Simulator(family, N_TASKS, N_ENVS), others)
    for key in one:
        np.testing.assert_array_equal(one[key][:, 0, 0], two[key][:, 0, 0])
    assert not np.array_equal(one["obs"][:, 1:], two["obs"][:, 1:])


def test_permuting_tasks_permutes_results(family: Family) -> None:
    actions, order = random_actions(family), [2, 0, 1]
    tasks = sampled_tasks(family)
    simulator = Simulator(family, N_TASKS, N_ENVS)
    straight = [simulator.reset(tasks, generators())] + [simulator.step(a).obs for a in actions]
    rewards = simulator.step(actions[0]).reward
    permuted = [simulator.reset(tasks[order], generators((2, 0, 1)))] + [simulator.step(a[order]).obs for a in actions]
    np.testing.assert_array_equal(np.stack(straight)[:, order], np.stack(permuted))
    np.testing.assert_array_equal(rewards[order], simulator.step(actions[0][order]).reward)


def test_thread_count_changes_nothing(family: Family) -> None:
    actions = random_actions(family)
    one = rollout(Simulator(family, N_TASKS, N_ENVS, n_threads=1), actions)
    for n_threads in (2, 3):
        assert_same_bits(one, rollout(Simulator(family, N_TASKS, N_ENVS, n_threads=n_threads), actions))


def test_single_environment_is_a_batched_row(family: Family) -> None:
    seeds = (0, 1, 2)
    tasks = sampled_tasks(family)
    simulator = Simulator(family, N_TASKS, 1)
    batched_obs = simulator.reset(tasks, generators(seeds))
    envs = [MetaEnv(family.name, family.protocol, task=tasks.goal[i]) for i in range(N_TASKS)]
    for i, env in enumerate(envs):
        np.testing.assert_array_equal(env.reset(seed=seeds[i])[0], batched_obs[i, 0])
    for action in random_actions(family)[:, :, :1]:
        step = simulator.step(action)
        info = family.info(simulator.qpos_before, simulator.state)
        for i, env in enumerate(envs):
            obs, reward, terminated, _, env_info = env.step(action[i, 0])
            np.testing.assert_array_equal(obs, step.obs[i, 0])
            assert (reward, terminated) == (step.reward[i, 0], step.terminated[i, 0])
            assert {key: env_info[key] for key in info} == {key: value[i] for key, value in info.items()}


def test_rows_of_a_task_draw_from_its_generator_in_order(family: Family) -> None:
    simulator = Simulator(family, 1, N_ENVS)
    obs = simulator.reset(sampled_tasks(family)[0], generators((5,)))
    rng = np.random.default_rng(5)
    for env in range(N_ENVS):
        single = Simulator(family, 1, 1).reset(sampled_tasks(family)[0], [rng])
        np.testing.assert_array_equal(single[0, 0], obs[0, env])


def test_inactive_rows_stand_still(family: Family) -> None:
    """Masked steps leave a row's state alone, and it then goes on as if they had not happened."""
    actions = random_actions(family)
    straight = rollout(Simulator(family, N_TASKS, N_ENVS), actions[:6])
    simulator = Simulator(family, N_TASKS, N_ENVS)
    simulator.reset(sampled_tasks(family), generators())
    active = np.array([[True, False], [False, True], [True, True]])
    for action in actions[:3]:
        simulator.step(action)
    for action in actions[6:9]:
        before = simulator.obs
        invalid = np.where(active[..., None], action, np.nan)  # nobody reads an inactive row's action
        step = simulator.step(invalid, active)
        np.testing.assert_array_equal(step.obs[~active], before[~active])
        assert (step.reward[~active] == 0).all()
        assert not step.terminated[~active].any()
    for t in range(3, 6):
        step = simulator.step(actions[t])
        np.testing.assert_array_equal(step.obs[~active], straight["obs"][t + 1][~active])
        np.testing.assert_array_equal(step.reward[~active], straight["reward"][t][~active])
    nobody = simulator.step(actions[0], np.zeros((N_TASKS, N_ENVS), dtype=bool))
    np.testing.assert_array_equal(nobody.obs, simulator.obs)


def test_episode_is_truncated_at_the_horizon(family: Family) -> None:
    env = MetaEnv(family.name, family.protocol, horizon=4)
    assert MetaEnv(family.name, family.protocol).horizon == family.horizon
    for _ in range(2):
        env.reset(seed=0)
        ends = [env.step(np.zeros(family.spec.act_dim))[3] for _ in range(5)]
        assert ends == [False, False, False, True, True]


def test_trajectory_is_that_of_a_plain_mujoco_loop(family: Family) -> None:
    """Bit for bit: state, observation and reward of a loop over MjData with mj_step, in the task's own model."""
    if family.kinematic:
        pytest.skip("moves without MuJoCo")
    actions = random_actions(family)
    tasks = sampled_tasks(family)
    batched = rollout(Simulator(family, N_TASKS, N_ENVS, n_threads=2), actions)
    for task in range(N_TASKS):
        rng = generators()[task]
        model = task_model(family, tasks.goal[task])
        for env in range(N_ENVS):
            data = mujoco.MjData(model)
            data.qpos[:], data.qvel[:] = family.reset(rng)
            mujoco.mj_forward(model, data)
            np.testing.assert_array_equal(observed(family, model, data), batched["obs"][0, task, env])
            for t, action in enumerate(np.clip(actions[:, task, env], -1.0, 1.0)):
                qpos_before = data.qpos.copy()
                data.ctrl[:] = family.controls(action[None])[0]
                mujoco.mj_step(model, data, nstep=family.frame_skip)
                np.testing.assert_array_equal(observed(family, model, data), batched["obs"][t + 1, task, env])
                reward = family.reward(qpos_before[None], state_of(family, model, data), action[None], tasks[task].goal)
                assert reward[0] == batched["reward"][t, task, env]


def state_of(family: Family, model: mujoco.MjModel, data: mujoco.MjData) -> State:
    """A family's State from an MjData after a step, with the stages that the family asks for on a copy of it."""
    current = mujoco.MjData(model)
    mujoco.mj_copyData(current, model, data)
    if family.stage == mujoco.mjtStage.mjSTAGE_VEL:
        mujoco.mj_fwdPosition(model, current)
        mujoco.mj_sensorPos(model, current)
        mujoco.mj_fwdVelocity(model, current)
        mujoco.mj_sensorVel(model, current)
    derived = {name: np.array(getattr(current, name))[None] for name in family.derived}
    return State(current.qpos[None], current.qvel[None], derived)


def observed(family: Family, model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    return family.observe(state_of(family, model, data))[0]


def test_diverged_row_is_contained(family: Family, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken row ends with reward 0 and is counted; the others do not notice, and the next reset works."""
    monkeypatch.chdir(tmp_path)
    actions = random_actions(family)
    straight = rollout(Simulator(family, N_TASKS, N_ENVS), actions)
    for bad in (np.nan, 1e6, 1e12):
        simulator = Simulator(family, N_TASKS, N_ENVS, n_threads=2)
        simulator.reset(sampled_tasks(family), generators())
        for t, action in enumerate(actions):
            if t == 3:
                last_obs = simulator.obs[1, 0]
                simulator.state.qpos[2, 0] = np.nan if family.kinematic else 0.0
                simulator.state.qvel[2] = bad
            step = simulator.step(action)
            others = [row for row in range(N_TASKS * N_ENVS) if row != 2]
            np.testing.assert_array_equal(
                step.obs.reshape(-1, family.spec.obs_dim)[others],
                straight["obs"][t + 1].reshape(-1, family.spec.obs_dim)[others],
            )
            np.testing.assert_array_equal(step.reward.ravel()[others], straight["reward"][t].ravel()[others])
            if t == 3:
                assert np.flatnonzero(step.diverged).tolist() == [2]
                assert step.terminated[1, 0]
                assert step.reward[1, 0] == 0
                np.testing.assert_array_equal(step.obs[1, 0], last_obs)
            assert np.isfinite(step.obs).all()
        assert simulator.n_diverged == 1
        assert_same_bits(straight, rollout(simulator, actions))
    assert not list(tmp_path.iterdir())  # MuJoCo's own handler writes MUJOCO_LOG.TXT


def test_actions_that_are_not_finite_are_refused(family: Family) -> None:
    simulator = Simulator(family, N_TASKS, N_ENVS)
    simulator.reset(sampled_tasks(family), generators())
    for bad in (np.nan, np.inf):
        action = random_actions(family)[0]
        action[2, 1, 0] = bad
        with pytest.raises(ValueError, match=r"1 of 6 actions are not finite; the first is task 2, environment 1"):
            simulator.step(action)
    with pytest.raises(ValueError, match=r"actions have shape \(3, 2, 1\), expected"):
        simulator.step(np.zeros((N_TASKS, N_ENVS, 1)))


def test_sampled_tasks_are_valid_and_described(family: Family) -> None:
    for split in ("train", "test", "all"):
        tasks = family.tasks.sample(100, np.random.default_rng(0), split)
        for i in range(0, len(tasks), 7):
            np.testing.assert_array_equal(family.tasks.validate(tasks.goal[i]).goal, tasks[i].goal)
            text = ",".join(repr(float(value)) for value in tasks.goal[i])
            np.testing.assert_array_equal(family.tasks.parse(text).goal, tasks[i].goal)
            assert family.describe(tasks.goal[i])
    marker = family.marker(tasks.goal[0])
    assert marker is None or np.isfinite(marker.xyz).all()
    assert family.title
