"""Any folder or zip of class folders as a few-shot data set.

With folders train, val (or valid, validation) and test in it, these are the splits; else classes are split at random. A
class is a folder with images in it, at any depth; its group is the folder above: alphabets of characters are groups.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .cache import cached_images
from .image_files import ImageFormat, Progress, read_classes
from .image_set import FewShotData, ImageSet
from .image_source import Classes, Source, listed, open_source, stamp

SPLIT_NAMES = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}


def image_folder(
    path: Path,
    form: ImageFormat,
    fractions: tuple[float, float] = (0.16, 0.2),
    seed: int = 0,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> FewShotData:
    """Read a folder or zip of class folders.

    fractions: of the classes, for validation and test, where the data have no splits; mini-ImageNet's by default.
    seed: of that random split. cache: folder for the decoded images.
    Raises FileNotFoundError if there is none, ValueError if there are no classes, or a file is no image.
    """
    facts = ("image_folder", stamp(path), form)

    def build() -> ImageSet:
        with open_source(path) as source:
            return read_classes(source, _all_classes(source), form, progress)

    images = cached_images(facts, build, cache)
    return split_by_folder(images) or split_at_random(images, fractions, seed)


def split_by_folder(images: ImageSet) -> FewShotData | None:
    """Classes by the train, val and test folders that their names begin with; None if there is no train and test."""
    parts = {
        split: [i for i, name in enumerate(images.names) if any(part in name.split("/")[:-1][:2] for part in folders)]
        for split, folders in SPLIT_NAMES.items()
    }
    if not parts["train"] or not parts["test"]:
        return None
    validation = images.subset(parts["validation"]) if parts["validation"] else None
    return FewShotData(images.subset(parts["train"]), validation, images.subset(parts["test"]))


def split_at_random(images: ImageSet, fractions: tuple[float, float], seed: int) -> FewShotData:
    """Classes in random order: validation, test and the rest to train on. No validation if its fraction is 0."""
    n = len(images.names)
    n_validation, n_test = (round(fraction * n) for fraction in fractions)
    if min(fractions) < 0 or n_test < 1 or (fractions[0] > 0 and n_validation < 1) or n_validation + n_test >= n:
        raise ValueError(
            f"{n} classes cannot be split into {fractions[0]:g} for validation, {fractions[1]:g} for test and a rest "
            "to train on; give more classes, other fractions, or folders train, val and test"
        )
    order = np.random.default_rng(seed).permutation(n).tolist()
    validation, test, train = (
        sorted(part)
        for part in (order[:n_validation], order[n_validation : n_validation + n_test], order[n_validation + n_test :])
    )
    return FewShotData(images.subset(train), images.subset(validation) if validation else None, images.subset(test))


def _all_classes(source: Source) -> Classes:
    classes = source.classes()
    if not classes:
        found = f"it holds {listed(source.names)}" if source.names else "it is empty"
        raise ValueError(f"there are no images in {source.path} ({found}); it must hold a folder of images per class")
    if list(classes) == ["."]:
        raise ValueError(
            f"the {len(classes['.'])} images of {source.path} are not in class folders; put those of each class "
            "into a folder of its own"
        )
    classes.pop(".", None)  # a stray picture beside the class folders
    return classes
