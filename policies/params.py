"""Parameters as one flat vector per task, with named views: adaptation, CG and line search are then vector algebra."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class ParamLayout:
    """Names and shapes of a policy's parameters, in the order in which the flat vector holds them."""

    entries: tuple[tuple[str, tuple[int, ...]], ...]

    @cached_property
    def size(self) -> int:
        """Length P of the flat vector."""
        return sum(self._sizes)

    @cached_property
    def _sizes(self) -> list[int]:
        return [math.prod(shape) for _, shape in self.entries]

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where each parameter lies in the flat vector."""
        out, start = {}, 0
        for name, shape in self.entries:
            out[name] = slice(start, start + math.prod(shape))
            start += math.prod(shape)
        return out

    def unflatten(self, flat: Float[Tensor, "*task P"]) -> dict[str, Tensor]:
        """Views of the flat vector, each (*task, *shape); differentiable."""
        if flat.shape[-1] != self.size:
            raise ValueError(f"parameter vector has {flat.shape[-1]} entries, this policy has {self.size}")
        # One split: its backward is one concatenation, where every slice's would fill a vector of P zeros.
        parts = flat.split(self._sizes, -1)
        task = flat.shape[:-1]
        return {name: part.reshape((*task, *shape)) for (name, shape), part in zip(self.entries, parts, strict=True)}

    def flatten(self, named: Mapping[str, Tensor]) -> Float[Tensor, " P"]:
        """Named parameters of one task as a flat vector. ValueError lists what is missing or misshapen."""
        for name, shape in self.entries:
            if name not in named:
                raise ValueError(f"parameter {name!r} is missing; there are {sorted(named)}")
            if tuple(named[name].shape) != shape:
                raise ValueError(f"parameter {name!r} has shape {tuple(named[name].shape)}, expected {shape}")
        return torch.cat([named[name].reshape(-1) for name, _ in self.entries])
