"""Stable-Baselines3's actors as ours: the same actions, whatever the network and the scaling of observations."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from metarl.policies.sb3 import gaussian_mlp_from_sb3


class Nothing(gymnasium.Env[np.ndarray, np.ndarray]):
    """Observations and actions without a world."""

    observation_space = spaces.Box(-np.inf, np.inf, (5,), np.float64)
    action_space = spaces.Box(-1.0, 1.0, (3,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(5), {}


def ppo(net_arch: Any, activation: type[nn.Module] = nn.Tanh, clip: float = 10.0, **options: Any) -> PPO:
    """PPO with weights and scaling that are not the initial ones."""
    env = VecNormalize(DummyVecEnv([Nothing]), clip_obs=clip)
    kwargs = {"net_arch": net_arch, "activation_fn": activation, **options.pop("policy_kwargs", {})}
    model = PPO("MlpPolicy", env, device="cpu", seed=0, policy_kwargs=kwargs, **options)
    rng = np.random.default_rng(0)
    env.obs_rms.update(rng.normal([0.0, 1.0, -2.0, 0.1, 0.5], [1.0, 0.5, 3.0, 0.3, 2.0], (100, 5)))
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    return model


def observations(scaling: VecNormalize) -> np.ndarray:
    """Some within the clip and many far outside."""
    rng = np.random.default_rng(1)
    std = np.sqrt(scaling.obs_rms.var)
    return scaling.obs_rms.mean + std * rng.normal(0.0, rng.choice([0.5, 5.0, 50.0], (300, 1)), (300, 5))


def ours(model: PPO, scaling: VecNormalize | None, obs: np.ndarray) -> np.ndarray:
    network, theta = gaussian_mlp_from_sb3(model.policy, scaling)
    flat = torch.from_numpy(obs.astype(np.float32))[None]
    mean = network.distribution(theta[None], flat)[0]
    torch.testing.assert_close(network.actor(theta[None])(flat), mean, rtol=1e-6, atol=1e-6)
    return mean[0].clamp(-1, 1).numpy()


@pytest.mark.parametrize("clip", [1.0, 5.0, 10.0])
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
@pytest.mark.parametrize("net_arch", [[7], {"pi": [16, 9], "vf": [4]}, {"pi": [6, 5, 4], "vf": [3, 3]}])
def test_actions_are_the_same(net_arch: Any, activation: type[nn.Module], clip: float) -> None:
    model = ppo(net_arch, activation, clip)
    scaling = model.get_vec_normalize_env()
    obs = observations(scaling)
    scaled = scaling.normalize_obs(obs)
    assert (np.abs(scaled) == clip).any(), "no observation was clipped"
    expected, _ = model.predict(scaled, deterministic=True)
    assert len(np.unique(expected)) > 100
    np.testing.assert_allclose(ours(model, scaling, obs), expected, rtol=0, atol=1e-6)


def test_actions_are_the_same_without_scaling() -> None:
    model = ppo({"pi": [100, 100], "vf": [100]})
    obs = np.random.default_rng(2).normal(size=(50, 5))
    expected, _ = model.predict(obs, deterministic=True)
    np.testing.assert_allclose(ours(model, None, obs), expected, rtol=0, atol=1e-6)
    off = VecNormalize(DummyVecEnv([Nothing]), norm_obs=False)
    np.testing.assert_array_equal(ours(model, off, obs), ours(model, None, obs))


def test_the_noise_is_the_same() -> None:
    model = ppo([8], policy_kwargs={"log_std_init": -1.0})
    network, theta = gaussian_mlp_from_sb3(model.policy, model.get_vec_normalize_env())
    obs = torch.zeros(1, 5)
    expected = model.policy.get_distribution(obs).distribution
    log_std = network.distribution(theta[None], obs[None])[1]
    torch.testing.assert_close(log_std.exp(), expected.scale)
    assert network.hidden_sizes == (8,)
    assert network.activation == "tanh"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ppo([8], use_sde=True), "without use_sde"),
        (lambda: ppo([]), "no hidden layer"),
        (lambda: ppo([8], nn.ELU), "ELU"),
    ],
)
def test_other_policies_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gaussian_mlp_from_sb3(make().policy)
