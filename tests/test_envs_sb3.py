"""The Stable-Baselines3 adapter against SB3's own DummyVecEnv of single environments."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from metarl.envs import MetaEnv, MetaSB3VecEnv

N, HORIZON = 3, 6


@pytest.mark.parametrize(("name", "protocol"), [("half-cheetah-vel", "modern"), ("ant-dir", "finn2017")])
def test_it_is_dummy_vec_env_bit_for_bit(name: str, protocol: Any) -> None:
    ours = MetaSB3VecEnv(name, N, protocol=protocol, horizon=HORIZON, n_threads=2)
    envs = [MetaEnv(name, protocol, horizon=HORIZON) for _ in range(N)]
    theirs = DummyVecEnv([lambda env=env: env for env in envs])
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.seed(3) == theirs.seed(3)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    assert_same_infos(ours.reset_infos, theirs.reset_infos)
    rng = np.random.default_rng(0)
    for t in range(2 * HORIZON + 2):
        if t == 2:
            ours.vector_env._elapsed[1] = envs[1]._elapsed = HORIZON - 1
        if t == 3:  # a fallen or broken robot ends its episode without truncation
            ours.vector_env._simulator.state.qvel[0] = envs[0]._simulator.state.qvel[:] = np.nan
        if t == 4:  # both at once, which is no truncation either
            ours.vector_env._simulator.state.qvel[2] = envs[2]._simulator.state.qvel[:] = np.nan
            ours.vector_env._elapsed[2] = envs[2]._elapsed = HORIZON - 1
        action = rng.uniform(-1, 1, (N, *ours.action_space.shape)).astype(np.float32)
        obs, reward, done, infos = ours.step(action)
        expected = theirs.step(action)
        np.testing.assert_array_equal(obs, expected[0])
        np.testing.assert_array_equal(reward, expected[1])
        np.testing.assert_array_equal(done, expected[2])
        assert reward.dtype == expected[1].dtype
        assert_same_infos(infos, expected[3])
        assert_same_infos(ours.reset_infos, theirs.reset_infos)
    ours.close()


def assert_same_infos(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.keys() == other.keys()
        for key, value in mine.items():
            np.testing.assert_array_equal(value, other[key], err_msg=key)


def test_tasks_come_from_the_constructor_or_the_options() -> None:
    fixed = MetaSB3VecEnv("half-cheetah-vel", 2, task=[[0.5], [1.5]], horizon=1)
    fixed.reset()
    for _ in range(2):
        infos = fixed.step(np.zeros((2, 6)))[3]
        assert [info["task"].tolist() for info in infos] == [[0.5], [1.5]]
    assert [task.tolist() for task in fixed.get_attr("task")] == [[0.5], [1.5]]
    vec = MetaSB3VecEnv("half-cheetah-vel", 2)
    for options, expected in (
        ({"task": 1.0}, [[1.0], [1.0]]),
        ([{"task": 1.0}, {"task": [0.25]}], [[1.0], [0.25]]),
    ):
        vec.set_options(copy.deepcopy(options))
        vec.reset()
        assert [info["task"].tolist() for info in vec.reset_infos] == expected
    vec.set_options([{"task": 1.0}, {}])
    with pytest.raises(ValueError, match="environment 1 has no task in its options"):
        vec.reset()


def test_what_cannot_be_done_says_what_can() -> None:
    vec = MetaSB3VecEnv("point-nav", 2)
    with pytest.raises(NotImplementedError, match="cannot set 'task' in single environments"):
        vec.set_attr("task", 1.0)
    with pytest.raises(NotImplementedError, match=r"cannot call 'foo' on single environments.*DummyVecEnv"):
        vec.env_method("foo")
    assert vec.get_attr("render_mode", [0]) == [None]
    assert not vec.has_attr("nonsense")
    assert vec.env_is_wrapped(VecMonitor) == [False, False]


def test_frames() -> None:
    vec = MetaSB3VecEnv("point-nav", 2, render_mode="rgb_array", width=64, height=48)
    vec.reset()
    image = vec.render()
    assert image is not None
    assert image.ndim == 3
    assert image.std() > 1
    vec.close()


@pytest.fixture
def one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_torch_thread", "no_type_checks")
def test_ppo_learns_to_reach_a_fixed_point() -> None:
    """Point navigation with a single task: 20 short updates must lower the distance travelled by a third."""
    vec = VecMonitor(MetaSB3VecEnv("point-nav", 16, task=(0.4, 0.4), horizon=20))
    model = PPO("MlpPolicy", vec, n_steps=20, batch_size=160, n_epochs=5, learning_rate=3e-3, gamma=0.9, seed=0)
    before = mean_return(model, vec)
    model.learn(20 * 16 * 20)
    assert before < -8
    assert mean_return(model, vec) > 0.67 * before


def mean_return(model: PPO, vec: VecMonitor) -> float:
    obs, episodes = vec.reset(), []
    while len(episodes) < 16:
        obs, _, _, infos = vec.step(model.predict(obs, deterministic=True)[0])
        episodes += [info["episode"]["r"] for info in infos if "episode" in info]
    return float(np.mean(episodes))
