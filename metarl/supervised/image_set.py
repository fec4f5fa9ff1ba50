"""A set of labelled images in memory, as bytes: what few-shot tasks are drawn from.

All images are one uint8 tensor and a class is a range of its rows, so that a batch of tasks is one gather. Subsets and
rotated classes share the images: neither copies any.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

QUARTER_TURNS = 4


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images by class."""

    images: UInt8[Tensor, "image channel height width"]
    """0 ... 255. After `subset`, also images of classes that are not in the set."""
    first: Int[Tensor, " character"]
    """Row of images where a class begins."""
    count: Int[Tensor, " character"]
    """Images of a class, from `first` on; at least 1."""
    names: tuple[str, ...]
    """Name of each class, such as "Latin/character01"; no two are equal."""
    groups: tuple[str, ...]
    """Group of each class, such as its alphabet; "" where there are none."""
    rotations: int = 1
    """1, or 4: each class stands for four, turned by 0, 90, 180 and 270 degrees, turned when drawn."""

    def __post_init__(self) -> None:
        n = len(self.names)
        if not n:
            raise ValueError("a set of images needs at least one class")
        if (len(self.groups), len(self.first), len(self.count)) != (n, n, n):
            raise ValueError(
                f"{n} names, {len(self.groups)} groups, {len(self.first)} first rows and {len(self.count)} counts: "
                "each class needs one of each"
            )
        if len(set(self.names)) != n:
            twice = next(name for i, name in enumerate(self.names) if name in self.names[:i])
            raise ValueError(f"two classes are called {twice!r}; give each its own name")
        if int(self.count.min()) < 1:
            raise ValueError(f"class {self.names[int(self.count.argmin())]!r} has no images; leave it out")
        if int(self.first.min()) < 0 or int((self.first + self.count).max()) > len(self.images):
            raise ValueError(f"a class lies outside the {len(self.images)} images")
        if self.rotations not in (1, QUARTER_TURNS):
            raise ValueError(f"rotations is {self.rotations}; it can be 1 (none) or {QUARTER_TURNS} (quarter turns)")
        if self.rotations > 1 and self.images.shape[2] != self.images.shape[3]:
            height, width = self.images.shape[2:]
            raise ValueError(f"images of {width} x {height} pixels cannot be turned by 90 degrees; only squares can")

    @property
    def n_classes(self) -> int:
        """Classes, rotated ones counted."""
        return self.rotations * len(self.names)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each of the n_classes: class r * len(names) + i is names[i] turned by 90 r degrees."""
        return tuple(
            f"{name} turned {90 * turn}" if turn else name for turn in range(self.rotations) for name in self.names
        )

    @property
    def n_images(self) -> int:
        """Images of all classes, rotated ones not counted."""
        return int(self.count.sum())

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channel, height, width) of an image."""
        channel, height, width = self.images.shape[1:]
        return channel, height, width

    @property
    def memory(self) -> int:
        """Bytes of the images in memory, shared with the sets that this one is a subset of."""
        return self.images.nbytes

    def subset(self, classes: Sequence[int | str]) -> ImageSet:
        """Only these classes, by number or by name, in this order. No image is copied.

        Raises ValueError for a class that is not there or is named twice, and if there are none.
        """
        chosen = [self._number(c) for c in classes]
        index = torch.tensor(chosen, dtype=torch.long, device=self.first.device)
        names, groups = tuple(self.names[i] for i in chosen), tuple(self.groups[i] for i in chosen)
        return replace(self, first=self.first[index], count=self.count[index], names=names, groups=groups)

    def rotated(self) -> ImageSet:
        """Four classes for each one, turned by 0, 90, 180 and 270 degrees counter-clockwise. No image is copied.

        Source: the augmentation of Santoro et al. 2016, section 4.1, which Finn et al. 2017 use for Omniglot.
        """
        return replace(self, rotations=QUARTER_TURNS)

    def to(self, device: torch.device | str) -> ImageSet:
        """The set on another device; samplers then gather there."""
        return replace(self, images=self.images.to(device), first=self.first.to(device), count=self.count.to(device))

    def _number(self, wanted: int | str) -> int:
        if isinstance(wanted, str):
            if wanted in self.names:
                return self.names.index(wanted)
            close = difflib.get_close_matches(wanted, self.names, n=2)
            hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else f"; the first is {self.names[0]!r}"
            raise ValueError(f"there is no class {wanted!r} among the {len(self.names)} of this set{hint}")
        if 0 <= wanted < len(self.names):
            return wanted
        raise ValueError(f"there is no class number {wanted}; this set has 0 to {len(self.names) - 1}")


@dataclass(frozen=True, eq=False)
class FewShotData:
    """Disjoint sets of classes."""

    train: ImageSet
    """Classes to meta-train on."""
    validation: ImageSet | None
    """Classes to choose settings and checkpoints by; None where the data have none."""
    test: ImageSet
    """Classes to report results on."""


def concatenate(sets: Sequence[ImageSet]) -> ImageSet:
    """One set of the classes of several, which must have images of one shape; copies the images.

    Raises ValueError if shapes or rotations differ, or two classes have one name.
    """
    shapes, rotations = {s.shape for s in sets}, {s.rotations for s in sets}
    if len(shapes) != 1 or len(rotations) != 1:
        raise ValueError(f"sets with images of shapes {sorted(shapes)}, rotations {sorted(rotations)} cannot be joined")
    starts = np.cumsum([0] + [len(s.images) for s in sets[:-1]]).tolist()
    return ImageSet(
        torch.cat([s.images for s in sets]),
        torch.cat([s.first + start for s, start in zip(sets, starts, strict=True)]),
        torch.cat([s.count for s in sets]),
        tuple(name for s in sets for name in s.names),
        tuple(group for s in sets for group in s.groups),
        rotations.pop(),
    )
