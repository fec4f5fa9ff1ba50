"""Adaptation on quadratics, whose k-step result has a closed form."""

import pytest
import torch

from metarl.inner import adapt, adapt_with, sgd_step


def quadratic(seed: int, n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(n, n, generator=generator, dtype=torch.float64)
    return a @ a.t() / n, torch.randn(n, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_k_steps_on_a_quadratic(k):
    """L = (p - c)^T H (p - c) / 2:  theta_k - c = (I - alpha H)^k (theta - c)."""
    hessian, centre = quadratic(0)
    theta, alpha = torch.ones(4, dtype=torch.float64), 0.3
    path = adapt(lambda p, batch: hessian @ (p - centre), theta, [None] * k, [alpha] * k)
    contraction = torch.eye(4, dtype=torch.float64) - alpha * hessian
    assert len(path) == k + 1
    assert path[0] is theta
    for j, point in enumerate(path):
        expected = centre + torch.linalg.matrix_power(contraction, j) @ (theta - centre)
        torch.testing.assert_close(point, expected)


def test_each_step_has_its_batch_and_its_step_size():
    path = adapt(lambda p, batch: batch * torch.ones(2), torch.zeros(2), [1.0, 10.0], [0.5, torch.tensor([0.1, 0.2])])
    torch.testing.assert_close(path[1], torch.tensor([-0.5, -0.5]))
    torch.testing.assert_close(path[2], torch.tensor([-1.5, -2.5]))


def test_no_batches_leave_the_parameters():
    theta = torch.ones(2)
    assert adapt(lambda p, batch: p, theta, [], []) == [theta]


def test_batches_and_step_sizes_must_match():
    with pytest.raises(ValueError, match="zip"):
        adapt(lambda p, batch: p, torch.ones(2), [None, None], [0.1])


def test_a_step_is_differentiable_in_parameters_gradient_and_step_size():
    args = [torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(sgd_step, args)


def test_autograd_through_adaptation_gives_the_meta_gradient():
    """L_query = |theta_k|^2 / 2 has the meta-gradient (I - alpha H)^k theta_k."""
    hessian, centre = quadratic(0)
    theta, alpha, k = torch.ones(4, dtype=torch.float64, requires_grad=True), 0.3, 3
    adapted = adapt(lambda p, batch: hessian @ (p - centre), theta, [None] * k, [alpha] * k)[-1]
    (gradient,) = torch.autograd.grad((adapted**2).sum() / 2, theta)
    contraction = torch.eye(4, dtype=torch.float64) - alpha * hessian
    torch.testing.assert_close(gradient, torch.linalg.matrix_power(contraction, k) @ adapted.detach())


class Momentum:
    """velocity_j = 0.5 velocity_{j-1} + gradient;  theta_j = theta_{j-1} - 0.1 velocity_j."""

    def init(self, params):
        return torch.zeros_like(params)

    def step(self, params, signal, state):
        velocity = 0.5 * state + signal
        return params - 0.1 * velocity, velocity


def test_an_update_with_state_equals_torchs_optimiser():
    hessian, centre = quadratic(0)
    path = adapt_with(
        Momentum(), lambda p, batch: hessian @ (p - centre), torch.ones(4, dtype=torch.float64), [None] * 4
    )
    theirs = torch.ones(4, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([theirs], lr=0.1, momentum=0.5)
    for point in path[1:]:
        theirs.grad = hessian @ (theirs.detach() - centre)
        optimiser.step()
        torch.testing.assert_close(point, theirs.detach())
