"""Settings of the network that maps an input to features or outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from .conv4 import LAYERS, Conv4
from .networks import MLP, Network


@dataclass(frozen=True)
class NetworkConfig:
    """The network that maps an input to features or outputs."""

    kind: Literal["mlp", "conv4"] = "mlp"
    """mlp: fully connected layers. conv4: four 3 x 3 convolutions with batch norm, for images."""
    hidden: tuple[int, ...] = (40, 40)
    """Units of each layer of an MLP. Paper: 40 40 for sinusoids, 256 128 64 64 for Omniglot."""
    norm: bool = False
    """Batch norm after each layer of an MLP but the last; conv4 always has it."""
    init_std: float = 0.01
    """Standard deviation of an MLP's initial weights. Paper's code: 0.01."""
    filters: int = 64
    """Filters of each convolution. MAML on mini-ImageNet: 32."""
    pool: bool = False
    """Convolutions are followed by 2 x 2 max-pooling, else they have stride 2 as MAML's on Omniglot."""
    halvings: int = LAYERS
    """Convolutions that halve the image so, the first ones; the others keep its size. Relation networks: 2."""
    spatial_mean: bool = True
    """Features are means over positions as MAML's on Omniglot, else one for each position."""
    scale: bool = False
    """Batch norm has a scale beside its shift; MAML's code has none."""

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden is {self.hidden}, but must be one or more positive numbers")
        if not self.init_std > 0:
            raise ValueError(f"init_std is {self.init_std}, but must be positive")
        if self.filters < 1:
            raise ValueError(f"filters is {self.filters}, but must be at least 1")
        if not 0 <= self.halvings <= LAYERS:
            raise ValueError(f"halvings is {self.halvings}, but must be from 0 to {LAYERS}")

    @property
    def normalises(self) -> bool:
        """Whether there is batch norm in it."""
        return self.kind == "conv4" or self.norm

    def make(self, input_shape: tuple[int, ...], outputs: int | None) -> Network:
        """The network for inputs of these axes; outputs None for one that returns its features."""
        if self.kind == "mlp":
            return MLP(
                math.prod(input_shape), outputs, self.hidden, norm=self.norm, scale=self.scale, init_std=self.init_std
            )
        if len(input_shape) != 3:
            raise ValueError("conv4 is a network for images; choose --network.kind mlp for regression")
        channel, height, width = input_shape
        return Conv4(
            (channel, height, width),
            outputs,
            self.filters,
            pool=self.pool,
            halvings=self.halvings,
            spatial_mean=self.spatial_mean,
            scale=self.scale,
        )

    def map_shape(self, input_shape: tuple[int, ...]) -> tuple[int, int, int] | None:
        """(channel, height, width) of features that are a flattened map, else None."""
        network = self.make(input_shape, None)
        if not isinstance(network, Conv4) or network.spatial_mean:
            return None
        return (network.filters, *network.positions)
