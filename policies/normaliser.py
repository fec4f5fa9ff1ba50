"""Fixed observation scaling, measured once before training."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CLIP = 5.0
# An observation that hardly varies before training (a foot that is never in contact) must not dominate once it does.
MIN_STD = 0.05


@dataclass(frozen=True)
class ObsNormaliser:
    """obs -> clip((obs - mean) / std, -5, 5), with constants that neither adaptation nor meta-training changes."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @cached_property
    def _constants(self) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.mean), 1.0 / torch.tensor(self.std)

    def __call__(self, obs: Float[Tensor, "*batch obs"]) -> Float[Tensor, "*batch obs"]:
        """Scaled observations, in the dtype and on the device of obs."""
        mean, inverse_std = self._constants
        return ((obs - mean.to(obs)) * inverse_std.to(obs)).clamp_(-CLIP, CLIP)


def measure_normaliser(obs: Float[Tensor, "*batch obs"], valid: Bool[Tensor, "*batch"]) -> ObsNormaliser:
    """Mean and standard deviation of each component over the valid observations; the latter is at least MIN_STD."""
    rows = obs[valid].double()
    std = rows.std(dim=0).clamp(min=MIN_STD)
    # Through float32, so that a normaliser stored as float32 tensors is the same one when it is loaded.
    return normaliser_from_tensors(rows.mean(dim=0).float(), std.float())


def normaliser_from_tensors(mean: Float[Tensor, " obs"], std: Float[Tensor, " obs"]) -> ObsNormaliser:
    """The normaliser with these constants."""
    return ObsNormaliser(tuple(mean.tolist()), tuple(std.tolist()))
