"""From trajectories to the policy-gradient loss of each task, and the derivatives of it that adaptation needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from metarl.policies import (
    ClosedFormSurrogate,
    GaussianMLP,
    GaussianPolicy,
    Surrogate,
    baseline_by_episode,
    cross_fitted_baseline,
    gaussian_kl,
    gaussian_log_prob,
    ridge_baseline,
)

from .returns import centred, discounted_returns, generalised_advantages, standardised
from .rollout import Rollout
from .workers import Workers

AdvantageScale = Literal["standardised", "centred"]
ValueBaseline = Literal["ridge", "cross-fitted", "by-episode"]
BASELINES: dict[ValueBaseline, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "ridge": ridge_baseline,
    "cross-fitted": cross_fitted_baseline,
    "by-episode": baseline_by_episode,
}


@dataclass(frozen=True)
class TaskBatch:
    """The valid steps of one task's trajectories, flattened."""

    obs: Float[Tensor, "n obs"]
    action: Float[Tensor, "n act"]
    weight: Float[Tensor, " n"]
    """Advantage times the step's share of the mean."""
    log_prob_old: Float[Tensor, " n"]
    """log pi(a | s) of the policy that acted."""
    mean_old: Float[Tensor, "n act"]
    log_std_old: Float[Tensor, " act"]
    row_weight: Float[Tensor, " n"]
    """The step's share of the mean; sums to 1."""
    mean_return: Float[Tensor, ""]
    """Undiscounted return, averaged over the trajectories."""
    guess_slope: Float[Tensor, " context"] | None = None
    """Mean over episodes of an episode's advantage times its guess, weighted: see `GaussianMLP.guess_likelihood`."""

    def subset(self, rows: Tensor) -> TaskBatch:
        """Some rows (integer ids), with the shares scaled so that they sum to 1 again."""
        scale = len(self.row_weight) / len(rows)
        return TaskBatch(
            self.obs[rows],
            self.action[rows],
            self.weight[rows] * scale,
            self.log_prob_old[rows],
            self.mean_old[rows],
            self.log_std_old,
            self.row_weight[rows] * scale,
            self.mean_return,
            self.guess_slope,
        )


def task_batches(
    rollout: Rollout,
    discount: float,
    gae_lambda: float,
    workers: Workers,
    dtype: torch.dtype = torch.float32,
    advantages: AdvantageScale = "standardised",
    baseline: ValueBaseline = "ridge",
    guess_weight: float = 0.0,
) -> list[TaskBatch]:
    """Per task: value baseline, generalised advantages, standardised or centred; the valid steps as a flat batch.

    guess_weight: of the guesses' own likelihood, where episodes have guesses. An episode's advantage for it is its
    undiscounted return among those of the task, scaled as the others are.
    """
    scale = standardised if advantages == "standardised" else centred
    values = BASELINES[baseline]
    reward = rollout.reward.to(dtype)
    obs = rollout.obs[..., : rollout.obs.shape[-1] - rollout.n_guess]
    # The recursions over time run for all tasks at once: they are many small steps.
    returns = discounted_returns(reward, discount)

    def fit(i: int) -> Tensor:
        return values(obs[i], returns[i], rollout.valid[i])

    value = torch.stack(workers.map(fit, range(len(reward))))
    advantage = generalised_advantages(reward, value, rollout.valid, discount, gae_lambda)

    def guess_slope(i: int) -> Tensor:
        episode = rollout.episode_return[i].to(dtype)[:, None]
        better = scale(episode, torch.ones_like(episode, dtype=torch.bool))
        return guess_weight * (better * rollout.obs[i, :, 0, -rollout.n_guess :].to(dtype)).mean(0)

    def batch(i: int) -> TaskBatch:
        valid = rollout.valid[i]
        all_valid = bool(valid.all())

        def flat(x: Tensor) -> Tensor:
            return aligned((x.flatten(0, 1) if all_valid else x[valid]).to(dtype))

        mean, action, log_std = flat(rollout.mean[i]), flat(rollout.action[i]), rollout.log_std[i].to(dtype)
        n = len(action)
        return TaskBatch(
            obs=flat(rollout.obs[i]),
            action=action,
            weight=flat(scale(advantage[i], valid)) / n,
            log_prob_old=gaussian_log_prob(action, mean, log_std),
            mean_old=mean,
            log_std_old=log_std,
            row_weight=torch.full((n,), 1.0 / n, dtype=dtype, device=action.device),
            mean_return=rollout.episode_return[i].mean().to(dtype),
            guess_slope=guess_slope(i) if guess_weight and rollout.n_guess else None,
        )

    return workers.map(batch, range(len(reward)))


def aligned(x: Tensor) -> Tensor:
    """x, copied if it does not start at a multiple of 64 bytes, as a row of a larger tensor may not.

    The last bit of a matrix product depends on it: without, that of a task would on the tasks before it, and with them
    on how many processes there are.
    """
    return x.clone() if x.data_ptr() % 64 else x


@runtime_checkable
class Linearised(Protocol):
    """One task's loss at fixed parameters."""

    loss: Tensor

    def gradient(self, keep: bool = False) -> Float[Tensor, " P"]:
        """dL/dparams; keep prepares for `hvp`."""
        ...

    def hvp(self, v: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """(d^2 L / dparams^2) v."""
        ...

    def fisher_vector_product(self, v: Float[Tensor, " P"], row_weight: Float[Tensor, " n"]) -> Float[Tensor, " P"]:
        """F v of the policy's mean KL at these parameters."""
        ...


@runtime_checkable
class LinearisedPolicy(Linearised, Protocol):
    """The same with the divergence that the trust region bounds."""

    def kl(self, batch: TaskBatch) -> Float[Tensor, ""]:
        """KL(policy that acted || policy at these parameters), averaged over the batch of the loss."""
        ...

    def kl_gradient(self, batch: TaskBatch) -> Float[Tensor, " P"]:
        """d kl / dparams."""
        ...


@runtime_checkable
class Linearise(Protocol):
    """A policy's loss on a batch at some parameters; clip bounds the change of the likelihood ratio (PPO)."""

    def __call__(
        self, params: Float[Tensor, " P"], batch: TaskBatch, kind: Surrogate, clip: float = math.inf
    ) -> LinearisedPolicy: ...


def linearise_with(policy: GaussianPolicy) -> Linearise:
    """How to differentiate a policy's loss: in closed form for the Gaussian MLP, by autograd for any other."""
    if isinstance(policy, GaussianMLP):
        return lambda params, batch, kind, clip=math.inf: ClosedForm(
            policy,
            params,
            batch.obs,
            batch.action,
            batch.weight,
            batch.log_prob_old,
            kind,
            clip,
            batch.guess_slope,
        )
    return lambda params, batch, kind, clip=math.inf: AutogradSurrogate(policy, params, batch, kind, clip)


def surrogate_loss(
    policy: GaussianPolicy, params: Float[Tensor, " P"], batch: TaskBatch, kind: Surrogate, clip: float = math.inf
) -> Float[Tensor, ""]:
    """The loss of `ClosedFormSurrogate` as a differentiable function of the parameters."""
    mean, log_std = policy.distribution(params[None], batch.obs[None])
    log_prob = gaussian_log_prob(batch.action, mean[0], log_std[0])
    if kind == "ratio":
        ratio = (log_prob - batch.log_prob_old).exp()
        loss = -torch.minimum(batch.weight * ratio, batch.weight * ratio.clamp(1 - clip, 1 + clip)).sum()
    else:
        loss = -(batch.weight * log_prob).sum()
    if batch.guess_slope is not None and isinstance(policy, GaussianMLP):
        loss = loss - policy.guess_likelihood(params, batch.guess_slope)
    return loss


class AutogradSurrogate:
    """`ClosedFormSurrogate` for any policy, by differentiating its graph."""

    def __init__(
        self,
        policy: GaussianPolicy,
        params: Float[Tensor, " P"],
        batch: TaskBatch,
        kind: Surrogate,
        clip: float = math.inf,
    ) -> None:
        self.policy = policy
        self.batch = batch
        self.params = params.detach().requires_grad_()
        with torch.enable_grad():
            self._loss = surrogate_loss(policy, self.params, batch, kind, clip)
        self.loss = self._loss.detach()
        self._gradient: Tensor | None = None

    def gradient(self, keep: bool = False) -> Float[Tensor, " P"]:
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self._loss, self.params, create_graph=keep)
        if keep:
            self._gradient = gradient
        return gradient.detach()

    def hvp(self, v: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        if self._gradient is None:
            raise RuntimeError("call gradient(keep=True) before hvp")
        (product,) = torch.autograd.grad(self._gradient, self.params, v, retain_graph=True)
        return product

    def fisher_vector_product(self, v: Float[Tensor, " P"], row_weight: Float[Tensor, " n"]) -> Float[Tensor, " P"]:
        """The Hessian of KL(pi || pi_params) at pi = pi_params, times v."""
        with torch.enable_grad():
            mean, log_std = self.policy.distribution(self.params[None], self.batch.obs[None])
            kl = gaussian_kl(mean[0].detach(), log_std[0].detach(), mean[0], log_std[0])
            (gradient,) = torch.autograd.grad((kl * row_weight).sum(), self.params, create_graph=True)
            (product,) = torch.autograd.grad(gradient, self.params, v)
        return product

    def kl(self, batch: TaskBatch) -> Float[Tensor, ""]:
        with torch.no_grad():
            return mean_kl(self.policy, self.params, batch)

    def kl_gradient(self, batch: TaskBatch) -> Float[Tensor, " P"]:
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(mean_kl(self.policy, self.params, batch), self.params)
        return gradient


class ClosedForm(ClosedFormSurrogate):
    """The closed form, with the divergence from the policy that acted."""

    def kl(self, batch: TaskBatch) -> Float[Tensor, ""]:
        return _kl_to(batch, self.mean, self.log_std)

    def kl_gradient(self, batch: TaskBatch) -> Float[Tensor, " P"]:
        return self.divergence_gradient(batch.mean_old, batch.log_std_old, batch.row_weight)


def mean_kl(policy: GaussianPolicy, params: Float[Tensor, " P"], batch: TaskBatch) -> Float[Tensor, ""]:
    """KL(policy that acted || policy under params), averaged over the batch; differentiable."""
    mean, log_std = policy.distribution(params[None], batch.obs[None])
    return _kl_to(batch, mean[0], log_std[0])


def _kl_to(batch: TaskBatch, mean: Float[Tensor, "n act"], log_std: Float[Tensor, " act"]) -> Float[Tensor, ""]:
    return (gaussian_kl(batch.mean_old, batch.log_std_old, mean, log_std) * batch.row_weight).sum()
