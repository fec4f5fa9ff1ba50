"""Convolution of each task's images with the task's own filters, as one grouped convolution.

Convolution is linear in images and in filters, so each of its derivatives is one of three forms: the convolution, the
pull-back of an output to images, and to filters. Written out as a closed set, every order of derivative is one grouped
call; torch's own second derivative of a grouped convolution loops over the groups.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d


def task_conv(
    x: Float[Tensor, "task example channel height width"],
    weight: Float[Tensor, "*per filter channel 3 3"],
    stride: int,
) -> Float[Tensor, "task example filter height_out width_out"]:
    """3 x 3 convolution with padding 1, filters shared by all tasks or one set for each.

    Differentiable any number of times. Memory of results is ordered example, task, as the grouped call wants it.
    """
    if weight.dim() == 4:
        out = conv2d(x.flatten(0, 1), weight, stride=stride, padding=1)
        return out.unflatten(0, x.shape[:2])
    n_tasks = len(x)
    out = _Conv.apply(x.transpose(0, 1).flatten(1, 2), weight.flatten(0, 1), stride, n_tasks)
    return out.unflatten(1, (n_tasks, -1)).transpose(0, 1)


def halve(x: Float[Tensor, "task example channel height width"]) -> Float[Tensor, "task example channel row column"]:
    """2 x 2 max-pooling; an odd last row or column is left out."""
    return max_pool2d(x.flatten(0, 1), 2).unflatten(0, x.shape[:2])


def conv_channels_last(
    x: Float[Tensor, "image height width channel"], weight: Float[Tensor, "filter channel 3 3"], stride: int = 1
) -> Float[Tensor, "image height_out width_out filter"]:
    """3 x 3 convolution with padding 1 of images whose channels come last, in memory too; one set of filters."""
    filters = weight.contiguous(memory_format=torch.channels_last)
    return conv2d(x.permute(0, 3, 1, 2), filters, stride=stride, padding=1).permute(0, 2, 3, 1).contiguous()


def halve_channels_last(x: Float[Tensor, "image height width channel"]) -> Float[Tensor, "image row column channel"]:
    """As `halve`."""
    return max_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1).contiguous()


class _Conv(torch.autograd.Function):
    """conv(images, filters)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, groups: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how = stride, groups
        return conv2d(x, weight, stride=stride, padding=1, groups=groups)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        to_x = _ToImages.apply(g, weight, x.shape, *ctx.how) if ctx.needs_input_grad[0] else None
        to_weight = _ToFilters.apply(g, x, weight.shape, *ctx.how) if ctx.needs_input_grad[1] else None
        return to_x, to_weight, None, None


class _ToImages(torch.autograd.Function):
    """The pull-back of an output g to images: sum(g * conv(images, filters)) = sum(images * to_images(g, filters))."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, weight: Tensor, shape: torch.Size, stride: int, groups: int) -> Tensor:
        ctx.save_for_backward(g, weight)
        ctx.how = stride, groups
        return _pull_back(g, g.new_empty(1).expand(shape), weight, stride, groups, to_images=True)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Any:
        g, weight = ctx.saved_tensors
        to_g = _Conv.apply(v, weight, *ctx.how) if ctx.needs_input_grad[0] else None
        to_weight = _ToFilters.apply(g, v, weight.shape, *ctx.how) if ctx.needs_input_grad[1] else None
        return to_g, to_weight, None, None, None


class _ToFilters(torch.autograd.Function):
    """The pull-back of g to filters: sum(g * conv(images, filters)) = sum(filters * to_filters(g, images))."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, shape: torch.Size, stride: int, groups: int) -> Tensor:
        ctx.save_for_backward(g, x)
        ctx.how = stride, groups
        return _pull_back(g, x, g.new_empty(1).expand(shape), stride, groups, to_images=False)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Any:
        g, x = ctx.saved_tensors
        to_g = _Conv.apply(x, v, *ctx.how) if ctx.needs_input_grad[0] else None
        to_x = _ToImages.apply(g, v, x.shape, *ctx.how) if ctx.needs_input_grad[1] else None
        return to_g, to_x, None, None, None


def _pull_back(g: Tensor, x: Tensor, weight: Tensor, stride: int, groups: int, to_images: bool) -> Tensor:
    result = torch.ops.aten.convolution_backward(
        g, x, weight, None, [stride] * 2, [1, 1], [1, 1], False, [0, 0], groups, [to_images, not to_images, False]
    )
    return result[0] if to_images else result[1]
