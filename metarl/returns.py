"""Returns and advantages over an episode's time axis."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def discounted_returns(reward: Float[Tensor, "*batch time"], discount: float) -> Float[Tensor, "*batch time"]:
    """G_t = r_t + discount G_{t+1}, with G = 0 after the last step.

    Rewards after an episode's end are zero, so that ended episodes need no mask here.
    """
    out = torch.empty_like(reward)
    following = torch.zeros_like(reward[..., 0])
    for t in reversed(range(reward.shape[-1])):
        following = reward[..., t] + discount * following
        out[..., t] = following
    return out


def generalised_advantages(
    reward: Float[Tensor, "*batch time"],
    value: Float[Tensor, "*batch time"],
    valid: Bool[Tensor, "*batch time"],
    discount: float,
    gae_lambda: float,
) -> Float[Tensor, "*batch time"]:
    """A_t = delta_t + discount lambda A_{t+1},  delta_t = r_t + discount V_{t+1} - V_t.

    V is 0 after an episode's last valid step, whether it terminated or reached the horizon: the return of the finite
    episode is what is maximised (the baseline knows the time). lambda 0 gives delta_t, lambda 1 gives G_t - V_t.
    Entries that are not valid are 0. Source: Schulman et al. 2016, equation 16.
    """
    masked = value * valid
    delta = (reward - masked) * valid
    delta[..., :-1] += discount * masked[..., 1:]
    return discounted_returns(delta, discount * gae_lambda)


def centred(advantage: Float[Tensor, "env time"], valid: Bool[Tensor, "env time"]) -> Float[Tensor, "env time"]:
    """Advantages of one task with mean 0 over its valid steps; 0 elsewhere."""
    mean = (advantage * valid).sum() / valid.sum().clamp(min=1)
    return (advantage - mean) * valid


def standardised(advantage: Float[Tensor, "env time"], valid: Bool[Tensor, "env time"]) -> Float[Tensor, "env time"]:
    """The same with standard deviation 1."""
    residual = centred(advantage, valid)
    return residual / ((residual**2).sum() / valid.sum().clamp(min=1)).sqrt().add(1e-8)
