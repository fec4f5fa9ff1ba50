"""Random trajectories for numerics tests, in float64 and without a simulator."""

import torch
from torch import Tensor

from metarl.losses import TaskBatch
from metarl.policies import GaussianMLP, GaussianPolicy, gaussian_log_prob


def random_params(policy: GaussianPolicy, seed: int, scale: float = 0.5) -> Tensor:
    """Parameters (P,) float64 ~ N(0, scale^2), biases and log-std included."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(policy.layout.size, generator=generator, dtype=torch.float64)


def random_batch(policy: GaussianMLP, params: Tensor, n: int, seed: int, drift: float = 0.1) -> TaskBatch:
    """n steps acted by a policy that lies `drift` away from params, so that likelihood ratios differ from 1.

    Of a policy that makes guesses, the steps of episodes with guesses.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    obs = normal(n, policy.obs_dim + policy.guess_dim)
    acted = params + drift * normal(len(params))
    mean, log_std = policy.distribution(acted[None], obs[None])
    action = mean[0] + log_std[0].exp() * normal(n, policy.act_dim)
    return TaskBatch(
        obs=obs,
        action=action,
        weight=normal(n) / n,
        log_prob_old=gaussian_log_prob(action, mean[0], log_std[0]),
        mean_old=mean[0],
        log_std_old=log_std[0],
        row_weight=torch.full((n,), 1.0 / n, dtype=torch.float64),
        mean_return=torch.zeros((), dtype=torch.float64),
        guess_slope=normal(policy.guess_dim) if policy.guess_dim else None,
    )


class Wrapped:
    """A Gaussian MLP that `isinstance` does not recognise, so that it takes the autograd path."""

    def __init__(self, policy: GaussianMLP) -> None:
        self.policy = policy
        self.layout = policy.layout
        self.init = policy.init
        self.distribution = policy.distribution
        self.actor = policy.actor
