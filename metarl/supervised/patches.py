"""Convolution as one matrix product per task: patches of images, and their transpose.

A per-task convolution is then patches @ weights with torch's batched matrix product, whose derivatives of every order
are batched matrix products again. `extract` and `accumulate` are each other's transposes (linear maps), so each is the
other's derivative.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

KERNEL = 3
"""Height and width of a patch; images are padded by one zero on every side."""


def out_size(size: int, stride: int) -> int:
    """Positions of a 3 x 3 patch along an axis of this length, padded by one on both sides."""
    return (size - 1) // stride + 1


def _extract(x: Tensor, stride: int) -> Tensor:
    padded = pad(x, (0, 0, 1, 1, 1, 1))
    windows = padded.unfold(1, KERNEL, stride).unfold(2, KERNEL, stride)
    return windows.permute(0, 1, 2, 4, 5, 3).reshape(*windows.shape[:3], -1)


def _accumulate(patches: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    n, rows, columns, length = patches.shape
    out = patches.new_zeros(n, size[0] + 2, size[1] + 2, length // KERNEL**2)
    parts = patches.view(n, rows, columns, KERNEL, KERNEL, -1)
    for i in range(KERNEL):
        for j in range(KERNEL):
            out[:, i : i + stride * rows : stride, j : j + stride * columns : stride].add_(parts[:, :, :, i, j])
    return out[:, 1:-1, 1:-1]


class _Extract(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int) -> Tensor:
        ctx.size, ctx.stride = tuple(x.shape[1:3]), stride
        return _extract(x, stride)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Accumulate.apply(grads[0], ctx.size, ctx.stride), None


class _Accumulate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, patches: Tensor, size: tuple[int, int], stride: int) -> Tensor:
        ctx.stride = stride
        return _accumulate(patches.contiguous(), size, stride)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _Extract.apply(grads[0], ctx.stride), None, None


def extract(x: Float[Tensor, "image height width channel"], stride: int) -> Float[Tensor, "image row column patch"]:
    """The 3 x 3 x channel patch around every stride-th pixel, zeros outside; patch axes in that order."""
    return _Extract.apply(x, stride)


def accumulate(
    patches: Float[Tensor, "image row column patch"], size: tuple[int, int], stride: int
) -> Float[Tensor, "image height width channel"]:
    """The transpose of `extract`: every pixel is the sum of the patch entries that hold it."""
    return _Accumulate.apply(patches, size, stride)
