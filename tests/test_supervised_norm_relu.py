"""Patches of images, and batch norm with ReLU with its derivatives written out: in float64 against autograd."""

from __future__ import annotations

import pytest
import torch

from metarl.supervised.batch_norm import batch_norm
from metarl.supervised.norm_relu import norm_relu
from metarl.supervised.patches import accumulate, extract


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    shift, scale = torch.randn(2, 2, 3, generator=generator, dtype=torch.float64)
    return x, shift.requires_grad_(), scale.requires_grad_()


@pytest.mark.parametrize("scaled", [False, True])
def test_norm_relu_is_batch_norm_and_relu_in_value_and_two_derivatives(scaled: bool) -> None:
    x, shift, scale = inputs()
    given = scale if scaled else None
    of = (x, shift, scale) if scaled else (x, shift)
    found, mean, variance = norm_relu(x, shift, 1e-3, given)
    expected, moments = batch_norm(x, shift, given)
    torch.testing.assert_close(found, expected.relu())
    torch.testing.assert_close((mean, variance), (moments.mean, moments.variance))
    w = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def derivatives(y: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> tuple[torch.Tensor, ...]:
        total = (y.sin() * w).sum() + (mean.sin() * variance).sum()
        first = torch.autograd.grad(total, of, create_graph=True)
        return *first, *torch.autograd.grad(sum((d * d.detach().cos()).sum() for d in first), of)

    torch.testing.assert_close(
        derivatives(found, mean, variance), derivatives(expected.relu(), moments.mean, moments.variance)
    )


@pytest.mark.parametrize("output", [0, 1, 2], ids=["y", "mean", "variance"])
def test_norm_relu_by_finite_differences(output: int) -> None:
    def function(x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return norm_relu(x, shift, 1e-3, scale)[output]

    assert torch.autograd.gradcheck(function, inputs())
    assert torch.autograd.gradgradcheck(function, inputs())


@pytest.mark.parametrize("stride", [1, 2])
def test_patches_and_their_sums_are_transposes(stride: int) -> None:
    x = torch.randn(2, 7, 6, 3, dtype=torch.float64, requires_grad=True)
    patches = extract(x, stride)
    v = torch.randn_like(patches, requires_grad=True)
    torch.testing.assert_close((patches * v).sum(), (x * accumulate(v, (7, 6), stride)).sum())
    assert torch.autograd.gradcheck(lambda x: extract(x, stride), x)
    assert torch.autograd.gradgradcheck(lambda x: extract(x, stride).sin(), x)
    assert torch.autograd.gradgradcheck(lambda v: accumulate(v, (7, 6), stride).sin(), v)
