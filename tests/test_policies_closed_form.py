"""Closed-form derivatives of the Gaussian MLP against float64 finite differences and against autograd."""

import itertools
from dataclasses import fields, replace

import pytest
import torch
from synthetic_batches import random_batch, random_params
from torch import Tensor

from metarl.losses import AutogradSurrogate, LinearisedPolicy, TaskBatch, linearise_with, mean_kl
from metarl.policies import ClosedFormMLP, GaussianMLP, ObsNormaliser, Surrogate

CASES = list(itertools.product(["tanh", "relu"], [(6,), (5, 4, 3)], ["log_prob", "ratio"]))
NETWORKS = list(itertools.product(["tanh", "relu"], [(6,), (5, 4, 3)]))
FLOOR = -0.5


def make(activation: str, hidden: tuple[int, ...]) -> tuple[GaussianMLP, Tensor, TaskBatch]:
    """A policy with one of three log-std components below its floor, its parameters and a batch.

    The deeper networks have a context, and with tanh they make guesses.
    """
    context_dim = 2 if len(hidden) > 1 else 0
    guess_std = 0.8 if context_dim and activation == "tanh" else 0.0
    policy = GaussianMLP(
        3, 3, hidden, activation, min_log_std=FLOOR, context_dim=context_dim, context_scale=1.7, guess_std=guess_std
    )
    params = random_params(policy, 3)
    params[log_std_slice(policy)] = torch.tensor([0.2, -1.5, -0.3], dtype=torch.float64)
    return policy, params, random_batch(policy, params, 15, 4)


def log_std_slice(policy: GaussianMLP) -> slice:
    """Of the parameters that the batch's standard deviation comes from."""
    return policy.layout.slices[policy.log_std_name(policy.guess_std > 0)]


def closed_form(policy: GaussianMLP, params: Tensor, batch: TaskBatch, kind: Surrogate) -> LinearisedPolicy:
    return linearise_with(policy)(params, batch, kind)


def dense(product, size: int) -> Tensor:
    """The matrix of a linear map, column by column."""
    return torch.stack([product(row) for row in torch.eye(size, dtype=torch.float64)], dim=1)


def central_difference(function, params: Tensor, eps: float = 1e-5) -> Tensor:
    """d function / d params, (..., P)."""
    columns = []
    for i in range(len(params)):
        step = torch.zeros_like(params)
        step[i] = eps
        columns.append((function(params + step) - function(params - step)) / (2 * eps))
    return torch.stack(columns, dim=-1)


@pytest.mark.parametrize(("activation", "hidden", "kind"), CASES)
def test_loss_and_gradient(activation, hidden, kind):
    policy, params, batch = make(activation, hidden)
    surrogate, reference = closed_form(policy, params, batch, kind), AutogradSurrogate(policy, params, batch, kind)
    gradient = surrogate.gradient()
    torch.testing.assert_close(surrogate.loss, reference.loss, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(gradient, reference.gradient(), rtol=1e-10, atol=1e-12)
    numeric = central_difference(lambda p: closed_form(policy, p, batch, kind).loss, params)
    torch.testing.assert_close(gradient, numeric, rtol=1e-6, atol=1e-8)
    assert gradient[log_std_slice(policy)][1] == 0.0, "gradient below the floor"


@pytest.mark.parametrize(("activation", "hidden", "kind"), CASES)
def test_keeping_what_hvp_needs_does_not_change_the_gradient(activation, hidden, kind):
    policy, params, batch = make(activation, hidden)
    surrogate = closed_form(policy, params, batch, kind)
    assert torch.equal(surrogate.gradient(keep=True), closed_form(policy, params, batch, kind).gradient())


@pytest.mark.parametrize(("activation", "hidden", "kind"), CASES)
def test_hessian_vector_product(activation, hidden, kind):
    policy, params, batch = make(activation, hidden)
    surrogate, reference = closed_form(policy, params, batch, kind), AutogradSurrogate(policy, params, batch, kind)
    surrogate.gradient(keep=True)
    reference.gradient(keep=True)
    hessian = dense(surrogate.hvp, policy.layout.size)
    torch.testing.assert_close(hessian, hessian.t(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(hessian, dense(reference.hvp, policy.layout.size), rtol=1e-9, atol=1e-11)
    numeric = central_difference(lambda p: closed_form(policy, p, batch, kind).gradient(), params)
    torch.testing.assert_close(hessian, numeric, rtol=1e-6, atol=1e-8)
    frozen = log_std_slice(policy).start + 1
    assert not hessian[frozen].any()
    assert not hessian[:, frozen].any()


@pytest.mark.parametrize("surrogate", ["closed form", "autograd"])
def test_hvp_asks_for_the_gradient_first(surrogate):
    policy, params, batch = make("tanh", (6,))
    make_surrogate = closed_form if surrogate == "closed form" else AutogradSurrogate
    loss = make_surrogate(policy, params, batch, "log_prob")
    with pytest.raises(RuntimeError, match=r"gradient\(keep=True\)"):
        loss.hvp(params)
    loss.gradient()
    with pytest.raises(RuntimeError, match=r"gradient\(keep=True\)"):
        loss.hvp(params)


@pytest.mark.parametrize("kind", ["log_prob", "ratio"])
def test_log_std_on_its_floor_is_free_as_in_autograd(kind):
    policy, params, batch = make("tanh", (6,))
    log_std = policy.layout.slices["log_std"]
    params[log_std] = FLOOR
    surrogate, reference = closed_form(policy, params, batch, kind), AutogradSurrogate(policy, params, batch, kind)
    gradient = surrogate.gradient()
    torch.testing.assert_close(gradient, reference.gradient())
    assert gradient[log_std].all()


@pytest.mark.parametrize(("activation", "hidden"), NETWORKS)
def test_fisher_vector_product(activation, hidden):
    """F against its definition sum_t w_t J_t^T diag J_t, against autograd, and against the Hessian of the mean KL."""
    policy, params, batch = make(activation, hidden)
    size, log_std = policy.layout.size, log_std_slice(policy)
    row_weight = torch.rand(15, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    network = ClosedFormMLP(policy, params, batch.obs)
    fisher = dense(lambda v: network.fisher_vector_product(v, row_weight), size)

    jacobian = torch.func.jacrev(lambda p: policy.distribution(p[None], batch.obs[None])[0][0])(params)
    inverse_variance = (-2 * params[log_std].clamp(min=FLOOR)).exp()
    explicit = torch.einsum("nap,n,a,naq->pq", jacobian, row_weight, inverse_variance, jacobian)
    free = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    explicit[log_std, log_std] += torch.diag(2 * row_weight.sum() * free)
    torch.testing.assert_close(fisher, explicit, rtol=1e-10, atol=1e-12)
    assert torch.linalg.eigvalsh((fisher + fisher.t()) / 2).min() > -1e-12

    reference = AutogradSurrogate(policy, params, batch, "ratio")
    by_autograd = dense(lambda v: reference.fisher_vector_product(v, row_weight), size)
    torch.testing.assert_close(fisher, by_autograd, rtol=1e-10, atol=1e-12)


def test_fisher_is_the_curvature_of_the_mean_kl_at_the_policy_that_acted():
    policy, params, _ = make("tanh", (5, 4, 3))
    batch = random_batch(policy, params, 15, 4, drift=0.0)
    network = ClosedFormMLP(policy, params, batch.obs)
    fisher = dense(lambda v: network.fisher_vector_product(v, batch.row_weight), policy.layout.size)
    hessian = torch.autograd.functional.hessian(lambda p: mean_kl(policy, p, batch), params)
    torch.testing.assert_close(fisher, hessian, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_mean_is_that_of_the_policy(activation):
    policy, params, batch = make(activation, (5, 4, 3))
    network = ClosedFormMLP(policy, params, batch.obs)
    mean, log_std = policy.distribution(params[None], batch.obs[None])
    torch.testing.assert_close(network.mean, mean[0], rtol=1e-12, atol=1e-13)
    assert torch.equal(network.log_std, log_std[0])


def test_a_normaliser_scales_what_the_first_layer_sees():
    normaliser = ObsNormaliser((0.5, -1.0, 0.0), (2.0, 0.5, 1.5))
    plain, params, batch = make("tanh", (5, 4, 3))
    policy = replace(plain, normaliser=normaliser)
    obs = batch.obs.clone()  # whose guesses are not scaled
    obs[:, :3] = (obs[:, :3] - torch.tensor(normaliser.mean)) / torch.tensor(normaliser.std)
    scaled = replace(batch, obs=obs)
    assert (scaled.obs.abs() < 5).all()
    surrogate, reference = closed_form(policy, params, batch, "ratio"), closed_form(plain, params, scaled, "ratio")
    torch.testing.assert_close(surrogate.gradient(keep=True), reference.gradient(keep=True), rtol=1e-6, atol=1e-8)
    by_autograd = AutogradSurrogate(policy, params, batch, "ratio")
    torch.testing.assert_close(surrogate.gradient(keep=True), by_autograd.gradient(keep=True), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(surrogate.hvp(params), by_autograd.hvp(params), rtol=1e-9, atol=1e-11)


def in_single_precision(batch: TaskBatch) -> TaskBatch:
    values = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return TaskBatch(**{name: None if value is None else value.float() for name, value in values.items()})


def test_float32_is_close_to_float64():
    policy, params, batch = make("tanh", (64, 64))
    surrogate = closed_form(policy, params, batch, "log_prob")
    single = linearise_with(policy)(params.float(), in_single_precision(batch), "log_prob")
    gradient = surrogate.gradient(keep=True)
    torch.testing.assert_close(single.gradient(keep=True).double(), gradient, rtol=1e-3, atol=1e-4)
    v = random_params(policy, 9)
    torch.testing.assert_close(single.hvp(v.float()).double(), surrogate.hvp(v), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("activation", "hidden"), NETWORKS)
def test_derivatives_with_a_clip(activation, hidden):
    """Those of autograd and of finite differences, rows beyond the clip having none."""
    policy, params, batch = make(activation, hidden)
    ratio = (policy_log_prob(policy, params, batch) - batch.log_prob_old).exp()
    clip = 1.01 * float((ratio - 1).abs().median())  # not at a row's own ratio, where the slope jumps
    cut = torch.where(batch.weight > 0, ratio > 1 + clip, ratio < 1 - clip)
    assert 0 < cut.sum() < len(cut)

    def surrogate(p: Tensor) -> LinearisedPolicy:
        return linearise_with(policy)(p, batch, "ratio", clip)

    closed, reference = surrogate(params), AutogradSurrogate(policy, params, batch, "ratio", clip)
    gradient = closed.gradient(keep=True)
    torch.testing.assert_close(closed.loss, reference.loss, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(gradient, reference.gradient(keep=True), rtol=1e-10, atol=1e-12)
    numeric = central_difference(lambda p: surrogate(p).loss, params)
    torch.testing.assert_close(gradient, numeric, rtol=1e-6, atol=1e-8)
    v = random_params(policy, 9)
    torch.testing.assert_close(closed.hvp(v), reference.hvp(v), rtol=1e-9, atol=1e-11)


def policy_log_prob(policy: GaussianMLP, params: Tensor, batch: TaskBatch) -> Tensor:
    mean, log_std = policy.distribution(params[None], batch.obs[None])
    return torch.distributions.Normal(mean[0], log_std[0].exp()).log_prob(batch.action).sum(-1)


@pytest.mark.parametrize(("activation", "hidden"), NETWORKS)
def test_the_gradient_of_the_divergence(activation, hidden):
    policy, params, batch = make(activation, hidden)
    closed = ClosedFormMLP(policy, params, batch.obs)
    gradient = closed.divergence_gradient(batch.mean_old, batch.log_std_old, batch.row_weight)
    x = params.clone().requires_grad_()
    (expected,) = torch.autograd.grad(mean_kl(policy, x, batch), x)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)
    numeric = central_difference(lambda p: mean_kl(policy, p, batch), params)
    torch.testing.assert_close(gradient, numeric, rtol=1e-6, atol=1e-8)
    assert gradient.abs().max() > 1e-3
    still = closed.divergence_gradient(closed.mean, closed.log_std, batch.row_weight)
    assert still.abs().max() < 1e-14, "a policy does not diverge from itself"
