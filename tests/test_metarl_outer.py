"""Derivatives through adaptation: closed form on quadratics, finite differences, and the transpose."""

import itertools

import pytest
import torch
from synthetic_batches import random_batch, random_params

from metarl.inner import adapt
from metarl.losses import linearise_with
from metarl.outer import InnerStep, pull_back, push_forward
from metarl.policies import GaussianMLP

POLICY = GaussianMLP(3, 2, (4, 3))
STEP_SIZES = ["scalar", "per-parameter"]


class Quadratic:
    """L = (p - centre)^T H (p - centre) / 2, linearised."""

    def __init__(self, hessian: torch.Tensor, centre: torch.Tensor, params: torch.Tensor) -> None:
        self.hessian = hessian
        self.difference = params - centre
        self.loss = self.difference @ hessian @ self.difference / 2

    def gradient(self, keep: bool = False) -> torch.Tensor:
        return self.hessian @ self.difference

    def hvp(self, v: torch.Tensor) -> torch.Tensor:
        return self.hessian @ v

    def fisher_vector_product(self, v: torch.Tensor, row_weight: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


def normal(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_step_size(kind: str, n: int) -> torch.Tensor:
    scalar = torch.tensor(0.3, dtype=torch.float64)
    return scalar if kind == "scalar" else scalar * (0.5 + torch.rand(n, generator=torch.Generator().manual_seed(5)))


def walk(theta: torch.Tensor, step_size: torch.Tensor, batches: list) -> tuple[list[InnerStep], torch.Tensor]:
    """The inner steps of the policy-gradient loss and the adapted parameters."""
    linearise, steps = linearise_with(POLICY), []

    def gradient(params: torch.Tensor, batch) -> torch.Tensor:
        loss = linearise(params, batch, "log_prob")
        steps.append(InnerStep(loss, loss.gradient(keep=True)))
        return steps[-1].gradient

    return steps, adapt(gradient, theta, batches, [step_size] * len(batches))[-1]


@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_meta_gradient_of_a_quadratic(k):
    """(I - alpha H)^k v, and for alpha: -sum_j g_j . (I - alpha H)^(k-j) v."""
    a = normal(16, 0).reshape(4, 4)
    hessian, centre, theta, v, alpha = a @ a.t() / 4, normal(4, 1), normal(4, 2), normal(4, 3), 0.3
    steps, params = [], theta
    for _ in range(k):
        loss = Quadratic(hessian, centre, params)
        steps.append(InnerStep(loss, loss.gradient()))
        params = params - alpha * loss.gradient()
    contraction = torch.eye(4, dtype=torch.float64) - alpha * hessian
    v_theta, v_alpha = pull_back(steps, torch.tensor(alpha, dtype=torch.float64), v)
    torch.testing.assert_close(v_theta, torch.linalg.matrix_power(contraction, k) @ v)
    expected = -sum(
        step.gradient * (torch.linalg.matrix_power(contraction, k - 1 - j) @ v) for j, step in enumerate(steps)
    )
    torch.testing.assert_close(v_alpha, expected)
    pushed = push_forward(steps, torch.tensor(alpha, dtype=torch.float64), v)
    torch.testing.assert_close(pushed, torch.linalg.matrix_power(contraction, k) @ v)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_loss_of_the_whole_path_on_a_quadratic(k):
    """sum_j v_j . theta_j has the gradient sum_j (I - alpha H)^j v_j."""
    a = normal(16, 0).reshape(4, 4)
    hessian, centre, params, alpha = a @ a.t() / 4, normal(4, 1), normal(4, 2), 0.3
    v, steps = [normal(4, 10 + j) for j in range(k + 1)], []
    for _ in range(k):
        loss = Quadratic(hessian, centre, params)
        steps.append(InnerStep(loss, loss.gradient()))
        params = params - alpha * loss.gradient()
    contraction = torch.eye(4, dtype=torch.float64) - alpha * hessian
    step_size = torch.tensor(alpha, dtype=torch.float64)
    pulled, v_alpha = pull_back(steps, step_size, v[-1], v_before=v[:-1])
    torch.testing.assert_close(pulled, sum(torch.linalg.matrix_power(contraction, j) @ v[j] for j in range(k + 1)))
    alone = [pull_back(steps[:j], step_size, v[j])[1] for j in range(k + 1)]
    torch.testing.assert_close(v_alpha, sum(alone))


@pytest.mark.parametrize(("kind", "k"), list(itertools.product(STEP_SIZES, [1, 2, 3])))
def test_push_forward_is_the_derivative_of_adaptation(kind, k):
    theta, n = random_params(POLICY, 0), POLICY.layout.size
    step_size, v = make_step_size(kind, n), normal(n, 1)
    v_alpha = normal(1, 2)[0] if kind == "scalar" else normal(n, 2)
    batches = [random_batch(POLICY, theta, 10, seed) for seed in range(k)]
    steps, _ = walk(theta, step_size, batches)
    for along_alpha in (None, v_alpha):
        moved_alpha = torch.zeros_like(step_size) if along_alpha is None else along_alpha
        eps = 1e-5
        plus = walk(theta + eps * v, step_size + eps * moved_alpha, batches)[1]
        minus = walk(theta - eps * v, step_size - eps * moved_alpha, batches)[1]
        pushed = push_forward(steps, step_size, v, along_alpha)
        torch.testing.assert_close(pushed, (plus - minus) / (2 * eps), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "learned", "k", "first_order"),
    list(itertools.product(STEP_SIZES, [False, True], [1, 2, 3], [False, True])),
)
def test_pull_back_is_the_transpose_of_push_forward(kind, learned, k, first_order):
    """<J (v, a), u> = <(v, a), J^T u>."""
    theta, n = random_params(POLICY, 0), POLICY.layout.size
    step_size, v, u = make_step_size(kind, n), normal(n, 1), normal(n, 2)
    steps, _ = walk(theta, step_size, [random_batch(POLICY, theta, 10, seed) for seed in range(k)])
    v_alpha = None
    if learned:
        v_alpha = normal(1, 3)[0] if kind == "scalar" else normal(n, 3)
    left = push_forward(steps, step_size, v, v_alpha, first_order) @ u
    u_theta, u_alpha = pull_back(steps, step_size, u, first_order)
    right = v @ u_theta + (0.0 if v_alpha is None else (v_alpha * u_alpha).sum())
    torch.testing.assert_close(left, right, rtol=1e-11, atol=1e-12)


def test_first_order_is_the_identity_in_theta():
    theta = random_params(POLICY, 0)
    step_size, v = make_step_size("scalar", 1), normal(len(theta), 1)
    steps, _ = walk(theta, step_size, [random_batch(POLICY, theta, 10, seed) for seed in range(2)])
    assert torch.equal(push_forward(steps, step_size, v, first_order=True), v)
    v_theta, v_alpha = pull_back(steps, step_size, v, first_order=True)
    assert torch.equal(v_theta, v)
    torch.testing.assert_close(v_alpha, -(steps[0].gradient + steps[1].gradient) * v)
