"""The written-out gradient of an MLP's loss: against autograd and finite differences in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from metarl.supervised.closed_form import has_closed_form, loss_gradient, mean_loss
from metarl.supervised.networks import MLP


@pytest.fixture(params=["regression", "two outputs", "classes", "one layer"])
def case(request: pytest.FixtureRequest) -> tuple[MLP, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    outputs = {"regression": 1, "two outputs": 2}.get(request.param, 3)
    network = MLP(2, outputs, (6,) if request.param == "one layer" else (6, 5), init_std=0.8)
    params = torch.stack([network.init(generator) for _ in range(3)]).double()
    x = torch.randn(3, 7, 2, generator=generator, dtype=torch.float64)
    if outputs == 3:
        return network, params, x, torch.randint(3, (3, 7), generator=generator)
    return network, params, x, torch.randn(3, 7, outputs, generator=generator, dtype=torch.float64)


def plain_losses(network: MLP, params: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Each task's mean loss, one task after the other."""
    outputs = network(params, x)
    pairs = zip(outputs, y, strict=True)
    return torch.stack([(o - t).square().mean() if t.is_floating_point() else cross_entropy(o, t) for o, t in pairs])


def test_gradient_and_hessian_product_are_autograds(case) -> None:
    network, params, x, y = case
    v = torch.randn(params.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours, theirs = params.clone().requires_grad_(), params.clone().requires_grad_()
    gradient = loss_gradient(network, ours, x, y)
    (expected,) = torch.autograd.grad(plain_losses(network, theirs, x, y).sum(), theirs, create_graph=True)
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(
        torch.autograd.grad((gradient * v).sum(), ours), torch.autograd.grad((expected * v).sum(), theirs)
    )


def test_hessian_product_agrees_with_finite_differences(case) -> None:
    network, params, x, y = case
    assert torch.autograd.gradcheck(lambda p: loss_gradient(network, p, x, y), params.clone().requires_grad_())


def test_the_mean_loss_has_the_gradient_that_was_computed_with_it(case) -> None:
    network, params, x, y = case
    leaf = params.clone().requires_grad_()
    loss = mean_loss(network, leaf, x, y)
    torch.testing.assert_close(loss, plain_losses(network, params, x, y).mean())
    expected = loss_gradient(network, params, x, y) / 3
    torch.testing.assert_close(torch.autograd.grad(2 * loss, leaf)[0], 2 * expected)


def test_a_second_derivative_of_the_written_out_one_is_refused(case) -> None:
    """It would be silently wrong."""
    network, params, x, y = case
    leaf = params.clone().requires_grad_()
    (first,) = torch.autograd.grad(loss_gradient(network, leaf, x, y).square().sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(first.sum(), leaf)


def test_networks_with_batch_norm_or_without_a_head_have_none() -> None:
    assert has_closed_form(MLP(1, 1))
    assert not has_closed_form(MLP(1, None))
    assert not has_closed_form(MLP(1, 1, norm=True))
