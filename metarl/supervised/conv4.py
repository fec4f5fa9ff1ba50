"""Four 3 x 3 convolutions over a task axis, with batch norm and ReLU: the network of most few-shot papers.

  h_0 = x;   h_i = pool(relu(batch_norm(conv_i(h_{i-1}))));   features = mean over positions of h_4, or h_4 flattened

Finn et al. 2017 use stride 2, no pooling, 64 filters and the mean over positions for Omniglot; 2 x 2 max-pooling, 32
filters and no mean for mini-ImageNet. Prototypical and matching networks use pooling, 64 filters and no mean. Relation
networks halve the images in the first two layers only.
Differs: convolutions have no bias, since batch norm would take it away again. Weights of the head start Glorot uniform;
the paper's Omniglot code draws them with standard deviation 1. Padding is 1 on each side, where TensorFlow's "same"
pads stride 2 on one side only; the sizes of all layers are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from metarl.policies.params import ParamLayout

from .batch_norm import Moments, batch_norm
from .networks import Params, glorot_uniform, linear, named, norm_names, start
from .norm_relu import norm_relu_with
from .patches import extract
from .task_conv import conv_channels_last, halve, task_conv

LAYERS = 4


def filters_first(
    weight: Float[Tensor, "*per_task 3 3 channel filter"],
) -> Float[Tensor, "*per_task filter channel 3 3"]:
    """A layer's weights as torch's convolutions take them."""
    return weight.movedim((-1, -2), (-4, -3))


@dataclass(frozen=True)
class Conv4:
    """Images (channel, height, width) -> four convolutions -> linear head."""

    input_shape: tuple[int, ...]
    """Channels, height, width."""
    outputs: int | None
    """Classes; None for a backbone that returns its features."""
    filters: int = 64
    pool: bool = False
    """Halve images by 2 x 2 max-pooling; else by convolutions of stride 2."""
    halvings: int = LAYERS
    """Layers that halve the image, the first ones; later ones keep its size."""
    spatial_mean: bool = True
    """Features are means over positions; else every position is a feature."""
    scale: bool = False
    """Batch norm has a scale beside its shift."""

    def __post_init__(self) -> None:
        if len(self.input_shape) != 3:
            raise ValueError(f"input_shape is {self.input_shape}; a convolution needs (channel, height, width)")
        if not 0 <= self.halvings <= LAYERS:
            raise ValueError(f"halvings is {self.halvings}, but must be from 0 to {LAYERS}")
        if min(self.positions) < 1:
            least = 2**self.halvings
            raise ValueError(
                f"images of {self.input_shape[1:]} vanish in {self.halvings} poolings; take {least} x {least} or more"
            )

    @property
    def positions(self) -> tuple[int, int]:
        """Height and width of the last layer's maps."""
        height, width = self.input_shape[1:]
        for _ in range(self.halvings):
            height, width = (height // 2, width // 2) if self.pool else ((height + 1) // 2, (width + 1) // 2)
        return height, width

    @cached_property
    def feature_dim(self) -> int:
        height, width = self.positions
        return self.filters if self.spatial_mean else self.filters * height * width

    @cached_property
    def norm_names(self) -> tuple[str, ...]:
        return norm_names(LAYERS, self.scale)

    @property
    def head_names(self) -> tuple[str, ...]:
        return () if self.outputs is None else ("head.weight", "head.bias")

    @cached_property
    def layout(self) -> ParamLayout:
        entries: list[tuple[str, tuple[int, ...]]] = [(name, (self.filters,)) for name in self.norm_names]
        channels = (self.input_shape[0], *(self.filters,) * LAYERS)
        entries += [(f"conv{i}.weight", (3, 3, channels[i], channels[i + 1])) for i in range(LAYERS)]
        if self.outputs is not None:
            entries += [("head.weight", (self.feature_dim, self.outputs)), ("head.bias", (self.outputs,))]
        return ParamLayout(tuple(entries))

    def with_outputs(self, outputs: int) -> Conv4:
        return replace(self, outputs=outputs)

    def init(self, generator: torch.Generator) -> Float[Tensor, " P"]:
        """Glorot uniform weights, zero shifts and biases, unit scales."""
        values = {}
        for name, shape in self.layout.entries:
            if name == "head.weight":
                values[name] = glorot_uniform(shape, shape[0], shape[1], generator)
            elif name.endswith("weight"):
                values[name] = glorot_uniform(shape, 9 * shape[2], 9 * shape[3], generator)
            else:
                values[name] = start(name, shape)
        return self.layout.flatten(values)

    def features(
        self, params: Params, x: Float[Tensor, "task example *input"], moments: Sequence[Moments] | None = None
    ) -> tuple[Float[Tensor, "task example feature"], tuple[Moments, ...]]:
        at = named(self.layout, params)
        if self.pool:
            return self._pooled(at, x, moments)
        n_tasks, n_examples = x.shape[:2]
        # Channels last: a patch is made of three contiguous pieces, and rows of channels are what batch norm works on.
        image, used = x.flatten(0, 1).permute(0, 2, 3, 1), []
        for i in range(LAYERS):
            image = _convolved(image, at[f"conv{i}.weight"], n_tasks, 2 if i < self.halvings else 1)
            rows = image.view(n_tasks, -1, self.filters)
            given = None if moments is None else moments[i]
            rows, own = norm_relu_with(rows, at[f"norm{i}.shift"], at.get(f"norm{i}.scale"), given)
            used.append(own)
            image = rows.view(image.shape)
        features = image.mean((1, 2)) if self.spatial_mean else image.permute(0, 3, 1, 2).flatten(1)
        return features.view(n_tasks, n_examples, -1), tuple(used)

    def _pooled(
        self, at: Mapping[str, Tensor], x: Tensor, moments: Sequence[Moments] | None
    ) -> tuple[Tensor, tuple[Moments, ...]]:
        """With stride 1 patches would take nine times the memory of the images: grouped convolutions instead."""
        h, used = x, []
        for i in range(LAYERS):
            h = task_conv(h, filters_first(at[f"conv{i}.weight"]), stride=1)
            given = None if moments is None else moments[i]
            h, own = batch_norm(h, at[f"norm{i}.shift"], at.get(f"norm{i}.scale"), given)
            used.append(own)
            h = h.relu()
            if i < self.halvings:
                h = halve(h)
        return h.mean((3, 4)) if self.spatial_mean else h.flatten(2), tuple(used)

    def head(
        self, params: Params, features: Float[Tensor, "task example feature"]
    ) -> Float[Tensor, "task example out"]:
        at = named(self.layout, params)
        return linear(features, at["head.weight"], at["head.bias"])

    def __call__(
        self, params: Params, x: Float[Tensor, "task example *input"], moments: Sequence[Moments] | None = None
    ) -> Float[Tensor, "task example out"]:
        at = named(self.layout, params)
        out = self.features(at, x, moments)[0]
        return out if self.outputs is None else self.head(at, out)


def _convolved(
    image: Float[Tensor, "image height width channel"],
    weight: Float[Tensor, "*per 3 3 channel filter"],
    n_tasks: int,
    stride: int,
) -> Float[Tensor, "image row column filter"]:
    """With one set of filters per task as matrix products of patches: faster than grouped, with a stride of 2."""
    if weight.dim() == 5:
        patches = extract(image, stride)
        rows = torch.bmm(patches.view(n_tasks, -1, patches.shape[-1]), weight.flatten(1, 3))
        return rows.view(*patches.shape[:3], -1)
    return conv_channels_last(image, filters_first(weight), stride)
