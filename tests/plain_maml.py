"""MAML written plainly: policies, batches of a few tasks, and derivatives to compare with, in float64."""

import itertools
from dataclasses import replace

import torch
from synthetic_batches import random_batch, random_params
from torch import Tensor
from torch.distributions import Independent, Normal

from metarl.algorithms.maml import InnerLoop, MetaParams, ThroughInnerLoop, adapt_tasks, init_meta_params
from metarl.losses import TaskBatch
from metarl.policies import GaussianMLP, GaussianPolicy, ParamLayout, actor_from_distribution
from metarl.workers import Workers

N_TASKS, N_STEPS, FLOOR = 3, 14, -0.5


class LayerNormPolicy:
    """mean = LayerNorm(obs W + b) V, with a log-std per action: a policy that has no closed form here."""

    def __init__(self, obs_dim: int = 3, act_dim: int = 2, hidden: int = 6) -> None:
        self.layout = ParamLayout(
            (("w", (obs_dim, hidden)), ("b", (hidden,)), ("v", (hidden, act_dim)), ("log_std", (act_dim,)))
        )

    def init(self, generator: torch.Generator) -> Tensor:
        return 0.5 * torch.randn(self.layout.size, generator=generator)

    def distribution(self, params: Tensor, obs: Tensor) -> tuple[Tensor, Tensor]:
        named = self.layout.unflatten(params)
        h = obs @ named["w"] + named["b"][:, None]
        h = torch.nn.functional.layer_norm(h, h.shape[-1:])
        return h @ named["v"], named["log_std"]

    def actor(self, params: Tensor):
        return actor_from_distribution(self, params)


def make_policy(activation: str = "tanh") -> GaussianMLP:
    return GaussianMLP(3, 2, (5, 4), activation, min_log_std=FLOOR)


def make_meta(algo: InnerLoop, policy: GaussianPolicy) -> MetaParams:
    """float64; one log-std component below its floor; learned step sizes differ between parameters."""
    theta = random_params(policy, 0)
    theta[policy.layout.slices["log_std"]] = torch.tensor([0.1, -0.9], dtype=torch.float64)
    meta = init_meta_params(algo, theta)
    if meta.step_size.ndim:
        wiggle = torch.rand(len(theta), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        return replace(meta, step_size=meta.step_size * (0.5 + wiggle))
    return meta


def make_batches(
    algo: InnerLoop, policy: GaussianMLP, meta: MetaParams, on_policy: bool = False
) -> tuple[list[list[TaskBatch]], list[TaskBatch]]:
    """Support batches per inner step and task, and query batches; on-policy ones were acted by the very policies."""
    workers, drift = Workers(1), 0.0 if on_policy else 0.1
    params = meta.theta.expand(N_TASKS, -1)
    support = []
    for j in range(algo.inner_steps):
        batches = [random_batch(policy, params[i], N_STEPS, 10 * j + i, drift) for i in range(N_TASKS)]
        support.append(batches)
        params = adapt_tasks(algo, policy, params, batches, meta.step_size, workers)
    return support, [random_batch(policy, params[i], N_STEPS, 100 + i, drift) for i in range(N_TASKS)]


def packed(meta: MetaParams, algo: ThroughInnerLoop) -> Tensor:
    return torch.cat([meta.theta, meta.step_size.reshape(-1)]) if algo.learn_inner_lr != "no" else meta.theta


def unpacked(x: Tensor, meta: MetaParams, algo: ThroughInnerLoop) -> MetaParams:
    n = len(meta.theta)
    return MetaParams(x[:n], meta.step_size if algo.learn_inner_lr == "no" else x[n:].reshape(meta.step_size.shape))


def plain_distribution(policy: GaussianMLP, params: Tensor, obs: Tensor) -> Independent:
    """The policy written with nothing of ours but the order of the parameters."""
    h, start = obs, 0
    for i, (n_in, n_out) in enumerate(itertools.pairwise(policy.sizes)):
        weight = params[start : start + n_in * n_out].reshape(n_in, n_out)
        bias = params[start + n_in * n_out : start + n_in * n_out + n_out]
        start += n_in * n_out + n_out
        h = h @ weight + bias
        if i < len(policy.sizes) - 2:
            h = torch.tanh(h) if policy.activation == "tanh" else torch.relu(h)
    return Independent(Normal(h, torch.clamp(params[start:], min=FLOOR).exp().expand_as(h)), 1)


def directional_difference(function, x: Tensor, direction: Tensor, eps: float = 1e-5) -> float:
    return (function(x + eps * direction) - function(x - eps * direction)) / (2 * eps)
