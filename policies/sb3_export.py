"""Our policies as Stable-Baselines3's PPO, to predict with and to train further.

In a module of its own because importing Stable-Baselines3 takes seconds.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from gymnasium import Env, spaces
from jaxtyping import Float
from stable_baselines3 import PPO
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import Tensor

from .actor_module import ACTIVATIONS, Scaling, linear_layers
from .gaussian_mlp import GaussianMLP
from .normaliser import CLIP, ObsNormaliser

ScalingPlace = Literal["inside", "beside"]


class ScaledObservations(BaseFeaturesExtractor):
    """clip((obs - mean) / std, -5, 5) before actor and critic; constants, part of the model's state."""

    def __init__(self, observation_space: spaces.Box, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__(observation_space, len(mean))
        self.scaling = Scaling(ObsNormaliser(mean, std))

    def forward(self, observations: Tensor) -> Tensor:
        """Scaled observations (batch, obs)."""
        return self.scaling(observations)


def ppo_from_gaussian_mlp(
    network: GaussianMLP,
    theta: Float[Tensor, " P"],
    observation_space: spaces.Box,
    action_space: spaces.Box,
    *,
    horizon: int,
    scaling: ScalingPlace = "inside",
    seed: int = 0,
) -> tuple[PPO, VecNormalize | None]:
    """SB3's PPO with this policy's actor, noise and observation scaling. Its critic is new, as ours has none.

    `predict(obs, deterministic=True)` is the clipped mean, up to float32 rounding.

    action_space: [-1, 1]. horizon: control steps an episode, PPO's n_steps. scaling: "inside" puts the normaliser into
    the model as a features extractor, so that it takes raw observations, and loads where metarl is installed; "beside"
    returns it as a VecNormalize that no longer learns, around an environment that cannot be stepped, and the model has
    classes of SB3 alone. seed: of the critic's weights. SB3 seeds the global generators.
    """
    sizes = list(network.hidden_sizes)
    kwargs: dict[str, object] = {
        "net_arch": {"pi": sizes, "vf": sizes},
        "activation_fn": ACTIVATIONS[network.activation],
        "ortho_init": False,  # weights come from ours
    }
    normaliser = network.normaliser
    if normaliser is not None and scaling == "inside":
        kwargs["features_extractor_class"] = ScaledObservations
        kwargs["features_extractor_kwargs"] = {"mean": normaliser.mean, "std": normaliser.std}
    model = PPO(
        "MlpPolicy",
        env=None,  # type: ignore[arg-type]  # as PPO.load itself does
        n_steps=horizon,
        device="cpu",
        seed=seed,
        policy_kwargs=kwargs,
        _init_setup_model=False,
    )
    model.observation_space, model.action_space, model.n_envs = observation_space, action_space, 1
    model._setup_model()
    _copy_actor(model, network, theta)
    if normaliser is None or scaling == "inside":
        return model, None
    return model, _vec_normalize(normaliser, observation_space, action_space)


def _copy_actor(model: PPO, network: GaussianMLP, theta: Float[Tensor, " P"]) -> None:
    policy = model.policy
    theirs = [m for m in policy.mlp_extractor.policy_net if isinstance(m, torch.nn.Linear)] + [policy.action_net]
    with torch.no_grad():
        for mine, layer in zip(linear_layers(network, theta), theirs, strict=True):
            layer.load_state_dict(mine.state_dict())
        log_std = policy.log_std
        assert isinstance(log_std, torch.nn.Parameter)
        log_std.copy_(network.effective_log_std(network.layout.unflatten(theta)["log_std"]))


def _vec_normalize(normaliser: ObsNormaliser, observation_space: spaces.Box, action_space: spaces.Box) -> VecNormalize:
    """Fixed scaling with our constants. SB3 divides by sqrt(var + epsilon)."""
    env = DummyVecEnv([lambda: _Spaces(observation_space, action_space)])
    scaled = VecNormalize(env, training=False, norm_reward=False, clip_obs=CLIP, epsilon=0.0)
    statistics = RunningMeanStd(shape=observation_space.shape)
    statistics.mean = np.array(normaliser.mean)
    statistics.var = np.array(normaliser.std) ** 2
    scaled.obs_rms = statistics  # type: ignore[assignment]  # a dictionary for Dict spaces only
    return scaled


class _Spaces(Env[np.ndarray, np.ndarray]):
    """What VecNormalize asks of an environment when it is made and saved."""

    def __init__(self, observation_space: spaces.Box, action_space: spaces.Box) -> None:
        self.observation_space, self.action_space = observation_space, action_space
