"""Few-shot tasks, and plain labelled batches, drawn from a set of images.

A batch of tasks is drawn at once: classes are the largest of random keys, images of a class are the largest of its
own random keys, and one gather fetches the pixels. Random numbers are drawn on the generator's device, so that the
choice does not depend on where the images lie.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .episodes import Episodes, Examples, Problem
from .image_set import ImageSet


@dataclass(frozen=True)
class EpisodeSpec:
    """Size of a task."""

    way: int
    """N, classes of a task."""
    shot: int
    """K, support images of a class."""
    query: int
    """Query images of a class."""
    within_group: bool = False
    """All classes of a task are of one group, such as one alphabet; each with enough of them is equally likely."""

    def __post_init__(self) -> None:
        for name, least in (("way", 2), ("shot", 1), ("query", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; a task needs at least {least}")


@dataclass(frozen=True, eq=False)
class ImageSampler:
    """Batches of tasks: `sampler(32, generator)`.

    The classes of a task are distinct, its support and query images too. A set with rotations gives each class of a
    task one of the four turns, for support and query alike, and never puts two turns of one class into a task.

    Raises ValueError if the set has too few classes, or a class too few images, for the tasks.
    """

    image_set: ImageSet
    spec: EpisodeSpec
    _members: Tensor | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_images(self.image_set, self.spec)
        # A record is frozen for its users; what follows from its fields is worked out once.
        object.__setattr__(self, "_members", _group_members(self.image_set, self.spec))

    @property
    def problem(self) -> Problem:
        """What a learner has to know."""
        return Problem(self.image_set.shape, self.spec.way, classification=True)

    def __call__(self, n_tasks: int, generator: torch.Generator) -> Episodes:
        """A batch of tasks; the same generator state gives the same bits."""
        characters = self._draw_classes(n_tasks, generator)
        rows = self._draw_images(characters, generator)
        turns = _draw_turns(self.image_set, characters.shape, generator)
        shot = self.spec.shot
        return Episodes(self._examples(rows[..., :shot], turns), self._examples(rows[..., shot:], turns))

    def _draw_classes(self, n_tasks: int, generator: torch.Generator) -> Int[Tensor, "task way"]:
        keys = torch.rand((n_tasks, len(self.image_set.names)), generator=generator, device=generator.device)
        if self._members is not None:
            members = self._members.to(generator.device)
            group = torch.randint(len(members), (n_tasks,), generator=generator, device=generator.device)
            keys = keys.masked_fill(~members[group], -1.0)
        return keys.topk(self.spec.way).indices

    def _draw_images(
        self, characters: Int[Tensor, "task way"], generator: torch.Generator
    ) -> Int[Tensor, "task way image"]:
        """Rows of distinct images of each class."""
        first, count = (x.to(generator.device)[characters] for x in (self.image_set.first, self.image_set.count))
        most = int(self.image_set.count.max())
        keys = torch.rand((*characters.shape, most), generator=generator, device=generator.device)
        absent = torch.arange(most, device=generator.device) >= count[..., None]
        return first[..., None] + keys.masked_fill(absent, -1.0).topk(self.spec.shot + self.spec.query).indices

    def _examples(self, rows: Int[Tensor, "task way image"], turns: Int[Tensor, "task way"] | None) -> Examples:
        n_tasks, way, n = rows.shape
        x = fetch(self.image_set, rows.reshape(-1), None if turns is None else turns.repeat_interleave(n))
        y = torch.arange(way, device=x.device).repeat_interleave(n)
        return Examples(x.view(n_tasks, way * n, *self.image_set.shape), y.expand(n_tasks, way * n))


@dataclass(frozen=True, eq=False)
class LabelledSampler:
    """Plain batches over all classes, for ordinary supervised training: `sampler(256, generator)`.

    Each image is equally likely, so a class is as likely as it is large; images are drawn with replacement.
    """

    image_set: ImageSet

    def __call__(
        self, n: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "{n} channel height width"], Int[Tensor, {n}]]:
        """Images in [0, 1] and their classes, of image_set.n_classes."""
        count, first = (x.to(generator.device) for x in (self.image_set.count, self.image_set.first))
        ends = count.cumsum(0)
        number = torch.randint(int(ends[-1]), (n,), generator=generator, device=generator.device)
        character = torch.searchsorted(ends, number, right=True)
        rows = first[character] + number - (ends - count)[character]
        turns = _draw_turns(self.image_set, (n,), generator)
        y = character if turns is None else turns * len(self.image_set.names) + character
        x = fetch(self.image_set, rows, turns)
        return x, y.to(x.device)


def fetch(
    image_set: ImageSet, rows: Int[Tensor, " image"], turns: Int[Tensor, " image"] | None = None
) -> Float[Tensor, "image channel height width"]:
    """Images by row, in [0, 1], each turned counter-clockwise by 90 degrees times its entry of turns."""
    pixels = image_set.images.index_select(0, rows.to(image_set.images.device))
    if turns is not None:
        turns = turns.to(pixels.device)
        for turn in range(1, image_set.rotations):
            (turned,) = torch.where(turns == turn)
            pixels[turned] = torch.rot90(pixels[turned], turn, (2, 3))
    return pixels.to(torch.float32).div_(255)


def _draw_turns(image_set: ImageSet, shape: tuple[int, ...], generator: torch.Generator) -> Tensor | None:
    if image_set.rotations == 1:
        return None
    return torch.randint(image_set.rotations, shape, generator=generator, device=generator.device)


def _check_images(image_set: ImageSet, spec: EpisodeSpec) -> None:
    n_classes = len(image_set.names)
    if spec.way > n_classes:
        raise ValueError(
            f"{spec.way}-way tasks need {spec.way} classes, this set has {n_classes}; choose way at most {n_classes}"
        )
    need = spec.shot + spec.query
    small = image_set.count < need
    if small.any():
        worst = int(image_set.count.argmin())
        n = int(image_set.count[worst])
        advice = f"choose shot + query at most {n}" if n > 1 else "a class needs at least 2 images"
        raise ValueError(
            f"{spec.shot} support and {spec.query} query images of a class need {need}; {int(small.sum())} of the "
            f"{n_classes} classes have fewer, {image_set.names[worst]!r} has {n}: {advice}, or leave such classes out"
        )


def _group_members(image_set: ImageSet, spec: EpisodeSpec) -> Tensor | None:
    """[group, class]: which classes are of a group, for groups with enough of them; None if not asked for."""
    if not spec.within_group:
        return None
    sizes = {group: image_set.groups.count(group) for group in dict.fromkeys(image_set.groups)}
    large = [group for group, size in sizes.items() if size >= spec.way]
    if not large:
        group, most = max(sizes.items(), key=lambda item: item[1])
        raise ValueError(
            f"{spec.way}-way tasks within one group need a group of {spec.way} classes; the largest, {group!r}, has "
            f"{most}: choose way at most {most}, or tasks across groups"
        )
    return torch.tensor([[g == group for g in image_set.groups] for group in large])
