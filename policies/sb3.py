"""Policies trained by Stable-Baselines3 as ours.

In a module of its own because importing Stable-Baselines3 takes seconds.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn

from .gaussian_mlp import Activation, GaussianMLP
from .normaliser import CLIP, ObsNormaliser, normaliser_from_tensors
from .sb3_export import ScaledObservations

_ACTIVATIONS: dict[type[nn.Module], Activation] = {nn.Tanh: "tanh", nn.ReLU: "relu"}


def gaussian_mlp_from_sb3(
    policy: ActorCriticPolicy, scaling: VecNormalize | None = None
) -> tuple[GaussianMLP, Float[Tensor, " P"]]:
    """The actor of an SB3 actor-critic policy (PPO, A2C, TRPO), and its parameters; the critic is left behind.

    Actions are the same, up to float32 rounding: SB3 too samples an unbounded Gaussian and clips. SB3 scales by
    clip((obs - mean) / std, -c, c), ours clips at 5: with k = c / 5 the standard deviation is multiplied by k, and so
    are the first layer's weights.

    scaling: what the policy was trained under. ValueError for a policy of another kind (squashed or state-dependent
    noise, other activations, an extractor of its own; the scaling inside a model that `sb3_export` made is taken over).
    """
    layers, activation = _layers(policy)
    normaliser, factor = _normaliser(scaling)
    extractor = policy.pi_features_extractor
    if isinstance(extractor, ScaledObservations):
        if normaliser is not None:
            raise ValueError("the SB3 policy scales its observations itself; leave out the VecNormalize")
        normaliser = normaliser_from_tensors(extractor.scaling.mean, extractor.scaling.std)
    named: dict[str, Tensor] = {"log_std": policy.log_std.detach().clone()}
    for i, layer in enumerate(layers):
        weight = layer.weight.detach().T
        named[f"weight_{i}"] = weight * factor if i == 0 else weight
        named[f"bias_{i}"] = layer.bias.detach()
    network = GaussianMLP(
        obs_dim=layers[0].in_features,
        act_dim=layers[-1].out_features,
        hidden_sizes=tuple(layer.out_features for layer in layers[:-1]),
        activation=activation,
        normaliser=normaliser,
    )
    return network, network.layout.flatten(named)


def _layers(policy: ActorCriticPolicy) -> tuple[list[nn.Linear], Activation]:
    """Linear layers of the actor from observation to mean, and what stands between them."""
    if not isinstance(policy.action_dist, DiagGaussianDistribution) or policy.use_sde or policy.squash_output:
        raise ValueError("the SB3 policy is no plain diagonal Gaussian; train it without use_sde, on a Box of actions")
    if not isinstance(policy.pi_features_extractor, FlattenExtractor | ScaledObservations):
        kind = type(policy.pi_features_extractor).__name__
        raise ValueError(f"the SB3 policy has a {kind} before its network; train it with 'MlpPolicy'")
    hidden = list(policy.mlp_extractor.policy_net)
    linear = [module for module in hidden if isinstance(module, nn.Linear)]
    between = {type(module) for module in hidden if not isinstance(module, nn.Linear)}
    if len(between) != 1 or not between <= set(_ACTIVATIONS):
        found = ", ".join(sorted(kind.__name__ for kind in between)) or "no hidden layer"
        raise ValueError(f"the SB3 actor has {found}; needed is one hidden layer or more with nn.Tanh or nn.ReLU")
    assert isinstance(policy.action_net, nn.Linear)
    return [*linear, policy.action_net], _ACTIVATIONS[between.pop()]


def _normaliser(scaling: VecNormalize | None) -> tuple[ObsNormaliser | None, float]:
    """Our scaling of observations, and the factor on the first layer's weights that makes up for another clip."""
    if scaling is None or not scaling.norm_obs:
        return None, 1.0
    factor = float(scaling.clip_obs) / CLIP
    statistics = scaling.obs_rms
    if isinstance(statistics, dict):
        raise ValueError("the SB3 policy takes a dictionary of observations; train it on a Box")
    mean = torch.from_numpy(statistics.mean)
    std = factor * torch.from_numpy(statistics.var + scaling.epsilon).sqrt()
    return normaliser_from_tensors(mean.float(), std.float()), factor
