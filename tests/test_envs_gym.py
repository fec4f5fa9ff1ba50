"""The families as Gymnasium environments: making, checking, tasks, vector environments, pictures."""

from __future__ import annotations

import copy
import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import metarl  # noqa: F401  (registers the ids)
from metarl.envs import MetaEnv, MetaVectorEnv, family_class, family_names
from metarl.envs.registration import gym_id

NAMES_AND_PROTOCOLS = [(name, protocol) for name in family_names() for protocol in family_class(name).protocols]


def run_python(code: str) -> str:
    """Output of a fresh interpreter that treats warnings as errors."""
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_ids_are_the_class_names() -> None:
    for name in family_names():
        if family_class(name).__module__.startswith("metarl."):
            assert gym_id(name) == f"metarl/{family_class(name).__name__}-v0"
            assert gym_id(name) in gymnasium.registry


def test_importing_metarl_registers_ids_and_loads_nothing_heavy() -> None:
    heavy = ("torch", "mujoco", "stable_baselines3", "matplotlib", "jaxtyping")
    output = run_python(
        "import sys, metarl, gymnasium; "
        f"print([m for m in {heavy} if m in sys.modules]); print('metarl/AntDir2D-v0' in gymnasium.registry)"
    )
    assert output.split() == ["[]", "True"]


def test_make_can_import_the_package_itself() -> None:
    code = "import sys, gymnasium; env = gymnasium.make('metarl:metarl/PointNav-v0'); env.reset(seed=0); "
    assert (
        run_python(code + "print('torch' in sys.modules, 'stable_baselines3' in sys.modules)").split() == ["False"] * 2
    )


@pytest.mark.parametrize(("name", "protocol"), NAMES_AND_PROTOCOLS)
def test_gymnasiums_checker_has_nothing_to_say(name: str, protocol: str) -> None:
    for oracle in (False, True):
        env = gymnasium.make(gym_id(name), protocol=protocol, oracle=oracle)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check_env(env.unwrapped, skip_render_check=True)
        # These two it says of HalfCheetah-v5 as well: observations have no bound.
        allowed = ("observation space minimum value is -infinity", "observation space maximum value is infinity")
        assert [str(w.message) for w in caught if not any(text in str(w.message) for text in allowed)] == []


@pytest.mark.filterwarnings("ignore:.*observation space m..imum value is.*infinity")
def test_gymnasiums_checker_has_nothing_to_say_of_rendering() -> None:
    check_env(gymnasium.make("metarl/PointNav-v0", render_mode="rgb_array", width=64, height=64).unwrapped)


@pytest.mark.parametrize(("name", "protocol"), NAMES_AND_PROTOCOLS)
def test_stable_baselines3_checker_has_nothing_to_say(name: str, protocol: str) -> None:
    from stable_baselines3.common.env_checker import check_env as sb3_check_env

    sb3_check_env(MetaEnv(name, protocol))  # warnings are errors


def test_spaces_and_metadata() -> None:
    env = MetaEnv("half-cheetah-vel", "finn2017")
    assert env.action_space == gymnasium.spaces.Box(-1, 1, (6,), np.float32)
    assert env.observation_space == gymnasium.spaces.Box(-np.inf, np.inf, (20,), np.float64)
    assert env.metadata["render_fps"] == 100
    assert MetaEnv("half-cheetah-vel").metadata["render_fps"] == 20
    assert MetaEnv("half-cheetah-vel", oracle=True).observation_space.shape == (18,)


def test_task_comes_from_the_reset_then_the_constructor_then_the_split() -> None:
    env = MetaEnv("half-cheetah-vel", task=1.25)
    assert env.reset(seed=0)[1]["task"] == [1.25]
    assert env.reset(options={"task": 0.5})[1]["task"] == [0.5]
    assert env.step(env.action_space.sample())[4]["task"] == [0.5]
    assert env.reset()[1]["task"] == [1.25]
    assert MetaEnv("ant-dir", task="backward").reset()[1]["task"] == [-1]
    sampling = MetaEnv("half-cheetah-vel")
    tasks = [float(sampling.reset(seed=seed)[1]["task"][0]) for seed in (3, 4, 3)]
    assert tasks[0] == tasks[2] != tasks[1]
    assert len({float(sampling.reset()[1]["task"][0]) for _ in range(5)}) == 5


@pytest.mark.parametrize("split", ["train", "test"])
def test_sampled_tasks_are_of_the_split(split: str) -> None:
    env = MetaEnv("half-cheetah-vel", split=split)
    held_out = [int(env.reset()[1]["task"][0] / 2.0 * 50) % 5 == 2 for _ in range(60)]
    assert all(held_out) if split == "test" else not any(held_out)


def test_drawing_a_task_leaves_the_reset_noise_alone() -> None:
    with_task, without = MetaEnv("half-cheetah-vel", task=1.0), MetaEnv("half-cheetah-vel")
    for seed in (0, None, None):
        np.testing.assert_array_equal(with_task.reset(seed=seed)[0], without.reset(seed=seed)[0])


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"name": "half-cheeta-vel"}, "did you mean half-cheetah-vel"),
        ({"protocol": "gym"}, "unknown protocol 'gym'; allowed: modern, finn2017"),
        ({"split": "valid"}, "unknown split 'valid'; allowed: train, test, all"),
        ({"task": 2.5}, r"task \(2.5\) is outside the distribution; velocity \(m/s\): 0 to 2"),
        ({"task": [1.0, 1.0]}, r"task has shape \(2,\), expected \(1,\): velocity \(m/s\)"),
        ({"task": "fast"}, "is not a list of numbers; give 1 separated by commas: velocity"),
        ({"horizon": 0}, "horizon=0: an episode has at least 1 control step"),
        ({"render_mode": "human"}, "unknown render_mode 'human'; allowed: rgb_array or None"),
    ],
)
def test_wrong_arguments_say_what_is_allowed(kwargs: dict[str, Any], message: str) -> None:
    for make in (MetaEnv, MetaVectorEnv):
        with pytest.raises(ValueError, match=message):
            make(**{"name": "half-cheetah-vel", **kwargs})


def test_wrong_tasks_and_actions_at_run_time() -> None:
    env = MetaEnv("ant-dir")
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        env.step(np.zeros(8))
    with pytest.raises(RuntimeError, match="call reset"):
        _ = env.task
    with pytest.raises(ValueError, match=r"task \(0.5\) does not exist; .* must be one of \(1\), \(-1\)"):
        env.reset(options={"task": 0.5})
    env.reset(seed=0)
    with pytest.raises(ValueError, match="not finite"):
        env.step(np.full(8, np.nan))
    with pytest.raises(ValueError, match=r"action has shape \(6,\), expected \(8,\)"):
        env.step(np.zeros(6))


def test_actions_outside_the_range_are_clipped() -> None:
    results = []
    for scale in (1.0, 50.0):
        env = MetaEnv("half-cheetah-dir", task="forward")
        env.reset(seed=0)
        results.append(env.step(scale * np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_divergence_ends_the_episode_and_the_next_one_is_clean() -> None:
    env = MetaEnv("ant-vel", task=1.0)
    env.reset(seed=0)
    env._simulator.state.qvel[:] = np.nan
    obs, reward, terminated, truncated, info = env.step(np.zeros(8))
    assert (reward, terminated, truncated, info["diverged"]) == (0.0, True, False, True)
    assert np.isfinite(obs).all()
    fresh = MetaEnv("ant-vel", task=1.0)
    np.testing.assert_array_equal(env.reset(seed=1)[0], fresh.reset(seed=1)[0])
    np.testing.assert_array_equal(env.step(np.ones(8))[0], fresh.step(np.ones(8))[0])


def assert_same_infos(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        if isinstance(value, dict):
            assert_same_infos(value, other[key])
        elif key == "final_obs":
            for mine, theirs in zip(value, other[key], strict=True):
                np.testing.assert_array_equal(mine, theirs)
        else:
            np.testing.assert_array_equal(value, other[key], err_msg=key)
            assert value.dtype == other[key].dtype, key


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize(("name", "protocol"), NAMES_AND_PROTOCOLS)
def test_vector_environment_is_gymnasiums_loop(name: str, protocol: str, mode: AutoresetMode) -> None:
    """Bit for bit over several episodes: observations, rewards, ends, infos, tasks and autoreset."""
    n, horizon = 3, 7
    ours = MetaVectorEnv(name, n, protocol, horizon=horizon, autoreset_mode=mode, n_threads=2)
    envs = [MetaEnv(name, protocol, horizon=horizon) for _ in range(n)]
    theirs = SyncVectorEnv([lambda env=env: env for env in envs], autoreset_mode=mode)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    rng = np.random.default_rng(0)
    for seed in (5, [1, None, 3]):
        obs, info = ours.reset(seed=seed)
        expected_obs, expected_info = theirs.reset(seed=copy.copy(seed))
        np.testing.assert_array_equal(obs, expected_obs)
        assert_same_infos(info, expected_info)
        for t in range(2 * horizon + 3):
            if t == 3:  # one environment ends early, so that the episodes are out of step
                ours._elapsed[1] = envs[1]._elapsed = horizon - 1
            actions = rng.uniform(-1, 1, ours.action_space.shape).astype(np.float32)
            result, expected = ours.step(actions), theirs.step(actions)
            for mine, other in zip(result[:4], expected[:4], strict=True):
                np.testing.assert_array_equal(mine, other)
            assert_same_infos(result[4], expected[4])


def test_make_vec_uses_the_batched_simulator() -> None:
    envs = gymnasium.make_vec("metarl/AntDir-v0", num_envs=4, protocol="finn2017", n_threads=2)
    assert isinstance(envs, MetaVectorEnv)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    obs, info = envs.reset(seed=0)
    assert obs.shape == (4, 125)
    assert info["task"].shape == (4, 1)
    assert envs.step(envs.action_space.sample())[0].dtype == np.float64
    short = gymnasium.make_vec("metarl/PointNav-v0", num_envs=2, max_episode_steps=3)
    short.reset(seed=0)
    assert [short.step(np.zeros((2, 2)))[3].all() for _ in range(3)] == [False, False, True]
    loop = gymnasium.make_vec("metarl/PointNav-v0", num_envs=2, vectorization_mode="sync", horizon=3)
    assert isinstance(loop, SyncVectorEnv)


def test_vector_environment_takes_one_task_or_one_each() -> None:
    envs = MetaVectorEnv("half-cheetah-vel", 3, horizon=2)
    assert envs.reset(seed=0, options={"task": 0.5})[1]["task"].tolist() == [[0.5]] * 3
    assert envs.reset(options={"task": [[0.1], [0.2], [0.3]]})[1]["task"].tolist() == [[0.1], [0.2], [0.3]]
    with pytest.raises(ValueError, match="got 2 tasks for 3 environments; give one for all or one each"):
        envs.reset(options={"task": [[0.1], [0.2]]})
    with pytest.raises(ValueError, match=r"task \(9\) is outside"):
        envs.reset(options={"task": [[0.1], [9.0], [0.3]]})
    with pytest.raises(ValueError, match="got 2 seeds for 3 environments"):
        envs.reset(seed=[0, 1])
    fixed = MetaVectorEnv("half-cheetah-vel", 2, task=[[0.1], [1.9]], horizon=2)
    fixed.reset(seed=0)
    for _ in range(4):
        info = fixed.step(np.zeros((2, 6)))[4]
    assert info["task"].tolist() == fixed.task.tolist() == [[0.1], [1.9]]


def test_vector_environment_with_autoreset_disabled() -> None:
    envs = MetaVectorEnv("point-nav", 3, task=(0.5, 0.5), horizon=2, autoreset_mode="Disabled")
    with pytest.raises(RuntimeError, match="call reset"):
        envs.step(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="first reset must reset every environment"):
        envs.reset(options={"reset_mask": np.array([True, False, False])})
    envs.reset(seed=0)
    envs.step(np.ones((3, 2)))
    obs, info = envs.reset(options={"reset_mask": np.array([False, True, False])})
    np.testing.assert_allclose(obs, [[0.1, 0.1], [0, 0], [0.1, 0.1]])
    assert info["_task"].tolist() == [False, True, False]
    assert envs.step(np.ones((3, 2)))[3].tolist() == [True, False, True]
    with pytest.raises(RuntimeError, match=r"the episodes of environments \[0, 2\] are over"):
        envs.step(np.ones((3, 2)))
    for mask in (np.zeros(3, dtype=bool), np.ones(2, dtype=bool), np.ones(3)):
        with pytest.raises(ValueError, match="reset_mask has shape"):
            envs.reset(options={"reset_mask": mask})


def test_vector_environment_names_the_broken_action() -> None:
    envs = MetaVectorEnv("half-cheetah-dir", 3)
    envs.reset(seed=0)
    actions = np.zeros((3, 6))
    actions[1, 2] = np.nan
    with pytest.raises(ValueError, match="1 of 3 actions are not finite; the first is task 1"):
        envs.step(actions)
    with pytest.raises(ValueError, match=r"action has shape \(6,\), expected \(3, 6\)"):
        envs.step(np.zeros(6))
    with pytest.raises(ValueError, match="num_envs=0"):
        MetaVectorEnv("half-cheetah-dir", 0)


@pytest.mark.parametrize("name", ["half-cheetah-vel", "ant-goal", "point-nav"])
def test_render_gives_frames_that_change_with_the_state(name: str) -> None:
    env = gymnasium.make(gym_id(name), render_mode="rgb_array", width=96, height=64)
    assert MetaEnv(name).render() is None
    env.reset(seed=0)
    first = env.render()
    for _ in range(10):
        env.step(np.ones(env.action_space.shape, np.float32))
    second = env.render()
    assert isinstance(first, np.ndarray)
    assert first.shape == second.shape == (64, 96, 3)
    assert first.dtype == np.uint8
    assert first.std() > 1
    assert (first != second).any()
    env.reset(seed=1)
    env.render()
    env.close()
    env.close()


def test_vector_environment_renders_each_environment() -> None:
    envs = MetaVectorEnv("point-nav", 2, render_mode="rgb_array", width=64, height=64)
    envs.reset(seed=0)
    frames = envs.render()
    assert frames is not None
    assert [frame.shape for frame in frames] == [(64, 64, 3)] * 2
    assert (frames[0] != frames[1]).any()  # their goals differ
    envs.close()
