"""Parameters of a learner's parts in one flat dict of tensors: part `lstm` owns the names that start with `lstm.`."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def named(part: str, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A part's parameters under the part's name: `weight` of `lstm` becomes `lstm.weight`."""
    return {f"{part}.{name}": value for name, value in params.items()}


def part_of(params: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """The parameters of a part under the part's own names: the inverse of `named`."""
    start = f"{part}."
    return {name.removeprefix(start): value for name, value in params.items() if name.startswith(start)}
