"""Stable-Baselines3's algorithms, wrappers and callbacks on our tasks: short trainings that really run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor, VecNormalize

import metarl  # noqa: F401  # registers the environments
from metarl.envs import MetaSB3VecEnv

GOAL = (0.4, 0.4)


@pytest.fixture(autouse=True)
def _one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def point(n: int = 4, horizon: int = 20, **options: Any) -> MetaSB3VecEnv:
    return MetaSB3VecEnv("point-nav", n, task=GOAL, horizon=horizon, **options)


def make_agent(name: str, env: Any) -> BaseAlgorithm:
    """Settings with which each learns to reach a point within some thousand steps."""
    if name == "PPO":
        return PPO(
            "MlpPolicy", env, n_steps=20, batch_size=20, n_epochs=4, learning_rate=1e-3, gamma=0.9, seed=0, device="cpu"
        )
    if name == "SAC":
        kwargs = {"net_arch": [32, 32]}
        return SAC(
            "MlpPolicy",
            env,
            learning_rate=3e-3,
            learning_starts=160,
            batch_size=64,
            gradient_steps=2,
            gamma=0.9,
            tau=0.05,
            ent_coef=0.01,
            policy_kwargs=kwargs,
            seed=0,
            device="cpu",
        )
    contrib = pytest.importorskip("sb3_contrib", reason="TRPO needs the extra 'baselines'")
    return contrib.TRPO("MlpPolicy", env, n_steps=40, batch_size=160, target_kl=0.05, gamma=0.9, seed=0, device="cpu")


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(("name", "steps"), [("PPO", 4000), ("SAC", 1200), ("TRPO", 6400)])
def test_each_algorithm_learns_to_reach_a_point(name: str, steps: int) -> None:
    """The only task is one point, 0.57 away: standing still for 20 steps returns about -11."""
    env = VecMonitor(point())
    model = make_agent(name, env)
    before = evaluate_policy(model, env, n_eval_episodes=4)[0]
    model.learn(steps)
    after = evaluate_policy(model, env, n_eval_episodes=4)[0]
    assert after > 0.67 * before
    obs = point(2).reset()
    assert np.isfinite(model.predict(obs, deterministic=True)[0]).all()


@pytest.mark.usefixtures("no_type_checks")
def test_wrappers_and_the_evaluation_callback(tmp_path: Path) -> None:
    """VecNormalize over VecMonitor; EvalCallback copies the scaling over and keeps the best model and its scores."""
    train_env = VecNormalize(VecMonitor(point(), str(tmp_path / "train")), gamma=0.9)
    eval_env = VecNormalize(VecMonitor(point(2)), training=False, norm_reward=False)
    callback = EvalCallback(
        eval_env,
        n_eval_episodes=4,
        eval_freq=200,
        log_path=str(tmp_path),
        best_model_save_path=str(tmp_path),
        verbose=0,
    )
    model = make_agent("PPO", train_env)
    model.learn(4000, callback=callback)
    train_env.save(str(tmp_path / "scaling.pkl"))
    train_env.close()

    scores = np.load(tmp_path / "evaluations.npz")
    assert scores["timesteps"].tolist() == [800, 1600, 2400, 3200, 4000]
    assert scores["ep_lengths"][0].tolist() == [20] * 4, "an episode ends early only at the goal"
    np.testing.assert_allclose(callback.best_mean_reward, scores["results"].mean(1).max(), rtol=1e-6)
    np.testing.assert_array_equal(train_env.obs_rms.mean, eval_env.obs_rms.mean)
    rows = (tmp_path / "train.monitor.csv").read_text().splitlines()[2:]  # below a comment and the names of columns
    assert 4000 - 4 * 20 < sum(int(row.split(",")[1]) for row in rows) <= 4000

    restored = VecNormalize.load(str(tmp_path / "scaling.pkl"), VecMonitor(point(2)))
    restored.training = restored.norm_reward = False
    best = PPO.load(tmp_path / "best_model.zip", device="cpu")
    mean, _ = evaluate_policy(best, restored, n_eval_episodes=4)
    assert mean > -6, "standing still returns -11"


def test_an_episode_of_the_monitor_is_the_sum_of_its_rewards() -> None:
    env = VecMonitor(point(3, horizon=4))
    env.reset()
    total = np.zeros(3)
    for t in range(4):
        _, reward, done, infos = env.step(np.full((3, 2), 0.5, dtype=np.float32))
        total += reward
        assert done.all() == (t == 3)
    np.testing.assert_allclose([info["episode"]["r"] for info in infos], total, rtol=1e-5)
    assert all(info["TimeLimit.truncated"] and info["episode"]["l"] == 4 for info in infos)


def test_single_environments_go_through_make_vec_env() -> None:
    """SB3's own way: gymnasium.make by name, Monitor around each, options through env_kwargs."""
    kwargs = {"task": GOAL, "horizon": 20}
    env = make_vec_env("metarl/PointNav-v0", n_envs=2, seed=0, env_kwargs=kwargs)
    assert isinstance(env, DummyVecEnv)
    assert env.env_is_wrapped(Monitor) == [True, True]
    model = make_agent("PPO", VecFrameStack(env, 2))
    model.learn(80)
    assert model.get_env().observation_space.shape == (4,)
    gymnasium_env = Monitor(gymnasium.make("metarl/PointNav-v0", **kwargs))
    plain = make_agent("PPO", gymnasium_env)
    plain.learn(80)
    assert len(gymnasium_env.get_episode_rewards()) == 4


def test_training_is_a_function_of_the_seed() -> None:
    # One after the other: SB3 seeds the global generators when a model is made.
    first, second = (make_agent("PPO", VecMonitor(point(n_threads=n))).learn(240) for n in (1, 2))
    for a, b in zip(first.policy.parameters(), second.policy.parameters(), strict=True):
        assert torch.equal(a, b)
