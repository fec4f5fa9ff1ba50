"""Patches of images, and batch norm with ReLU with its derivatives written out: in float64 against autograd."""

from __future__ import annotations

import pytest
import torch

from metarl.supervised.batch_norm import batch_norm
from metarl.supervised.norm_relu import norm_relu
from metarl.supervised.patches import accumulate, extract


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    return x, torch.randn(2, 3, generator=generator, dtype=torch.float64, requires_grad=True)


def test_norm_relu_is_batch_norm_and_relu_in_value_and_two_derivatives() -> None:
    x, shift = inputs()
    found, mean, variance = norm_relu(x, shift, 1e-3)
    expected, moments = batch_norm(x, shift)
    torch.testing.assert_close(found, expected.relu())
    torch.testing.assert_close((mean, variance), (moments.mean.detach(), moments.variance.detach()))
    w = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def derivatives(y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        first = torch.autograd.grad((y.sin() * w).sum(), (x, shift), create_graph=True)
        return *first, *torch.autograd.grad(sum((d * d.detach().cos()).sum() for d in first), (x, shift))

    torch.testing.assert_close(derivatives(found), derivatives(expected.relu()))


def test_norm_relu_by_finite_differences() -> None:
    assert torch.autograd.gradcheck(lambda x, shift: norm_relu(x, shift, 1e-3)[0], inputs())
    assert torch.autograd.gradgradcheck(lambda x, shift: norm_relu(x, shift, 1e-3)[0], inputs())


@pytest.mark.parametrize("stride", [1, 2])
def test_patches_and_their_sums_are_transposes(stride: int) -> None:
    x = torch.randn(2, 7, 6, 3, dtype=torch.float64, requires_grad=True)
    patches = extract(x, stride)
    v = torch.randn_like(patches, requires_grad=True)
    torch.testing.assert_close((patches * v).sum(), (x * accumulate(v, (7, 6), stride)).sum())
    assert torch.autograd.gradcheck(lambda x: extract(x, stride), x)
    assert torch.autograd.gradgradcheck(lambda x: extract(x, stride).sin(), x)
    assert torch.autograd.gradgradcheck(lambda v: accumulate(v, (7, 6), stride).sin(), v)
