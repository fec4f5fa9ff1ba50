"""Omniglot (Lake, Salakhutdinov, Tenenbaum 2015, Science 350:1332) from local files, and its customary splits.

Images become 28 x 28 grey values, inverted so that ink is large. The files are black and white; they are turned to
grey before they are scaled with the Lanczos filter.
Differs: the code of Finn et al. 2017 asks Pillow for Lanczos on the black and white files, for which Pillow takes the
nearest pixel instead; resample="nearest" gives that.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from .cache import cached_images
from .image_files import ImageFormat, Progress, Resample, read_classes
from .image_set import FewShotData, ImageSet, concatenate
from .image_source import Classes, Source, listed, open_source, stamp

Part = Literal["images_background", "images_evaluation"]
PARTS: tuple[Part, ...] = ("images_background", "images_evaluation")
Split = Literal["characters", "alphabets"]
Rotations = Literal["none", "train", "all"]


def omniglot(
    path: Path,
    split: Split = "characters",
    rotations: Rotations | None = None,
    *,
    size: int = 28,
    resample: Resample = "lanczos",
    seed: int = 0,
    validation_alphabets: int = 0,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> FewShotData:
    """Read Omniglot and split its classes.

    split: "characters" as `split_characters` does (seed decides), "alphabets" as `split_alphabets` does
    (validation_alphabets of the background alphabets are for validation).
    rotations: which classes come in four turns. None for "all" with characters, as in Finn et al. 2017, whose code
    turns classes in evaluation too; for "train" with alphabets.
    cache: folder for the decoded images.
    """
    form = ImageFormat(size, 1, resample, invert=True)
    background, evaluation = (read_part(path, part, form, cache, progress) for part in PARTS)
    if split == "characters":
        data = split_characters(concatenate([background, evaluation]), seed)
    else:
        data = split_alphabets(background, evaluation, validation_alphabets)
    return _rotate(data, rotations or ("all" if split == "characters" else "train"))


def read_part(
    path: Path, part: Part, form: ImageFormat, cache: Path | None = None, progress: Progress | None = None
) -> ImageSet:
    """One of the two parts, by class "ALPHABET/characterNN" in the order of names.

    path: a folder that holds the part as a folder or as a zip, such as the data set's own folder `python`; or one zip
    of both parts. Files are laid out as images_background/ALPHABET/characterNN/NNNN_DD.png; in images_background.zip
    the folder at the top may be missing.
    Raises FileNotFoundError if the part is not there, ValueError if it holds no characters or a damaged file.
    """
    place = find_part(path, part)

    def build() -> ImageSet:
        with open_source(place) as source:
            return read_classes(source, part_classes(source, part), form, progress)

    return cached_images((part, stamp(place), form), build, cache)


def find_part(path: Path, part: Part) -> Path:
    """The folder or zip that holds a part."""
    if path.is_file():
        return path
    places = [folder / name for folder in (path, path / "python") for name in (part, f"{part}.zip")]
    for place in places:
        if place.exists():
            return place
    found = sorted(p.name for p in path.iterdir()) if path.is_dir() else None
    state = "does not exist" if found is None else f"has {listed(found)}" if found else "is empty"
    raise FileNotFoundError(
        f"Omniglot's {part} is not in {path}, which {state}; name a folder with {PARTS[0]} and {PARTS[1]} in it, "
        "as folders or zips, or leave --data out and they are downloaded"
    )


def part_classes(source: Source, part: Part) -> Classes:
    """Files of each class "ALPHABET/characterNN" of a part."""
    other = PARTS[1 - PARTS.index(part)]
    classes: Classes = {}
    for name in source.images:
        *above, alphabet, character, _ = ("", "", *name.split("/"))
        named = part in above or part in source.path.name
        if alphabet and character.startswith("character") and named and other not in above:
            classes.setdefault(f"{alphabet}/{character}", []).append(name)
    if not classes:
        found = f"it holds {listed(source.names)}" if source.names else "it is empty"
        raise ValueError(
            f"there are no characters of {part} in {source.path} ({found}); its files must be laid out as "
            f"{part}/ALPHABET/characterNN/NNNN_DD.png"
        )
    return classes


def split_characters(images: ImageSet, seed: int, n_train: int = 1100, n_validation: int = 100) -> FewShotData:
    """Characters irrespective of alphabet, in random order: 1100 to train on, 100 to validate, the rest (423) to test.

    Source: Finn et al. 2017, section 5.2, after Santoro et al. 2016; sizes from its code. Which characters these are
    depends there on the order of a folder listing, here on the seed alone.
    """
    n = len(images.names)
    if n <= n_train + n_validation:
        raise ValueError(
            f"splitting by characters takes more than {n_train + n_validation} of them, here are {n}; "
            "give all of Omniglot (1623), or split by alphabets"
        )
    order = np.random.default_rng(seed).permutation(n).tolist()
    parts = (order[:n_train], order[n_train : n_train + n_validation], order[n_train + n_validation :])
    train, validation, test = (images.subset(sorted(part)) for part in parts)
    return FewShotData(train, validation, test)


def split_alphabets(background: ImageSet, evaluation: ImageSet, validation_alphabets: int = 0) -> FewShotData:
    """Train on the background alphabets but for the last ones, which validate; test on the evaluation alphabets.

    Source: the split of Lake et al. 2015, whose test alphabets no model sees in training.
    """
    alphabets = sorted(set(background.groups))
    if not 0 <= validation_alphabets < len(alphabets):
        raise ValueError(
            f"{validation_alphabets} alphabets cannot be kept for validation; there are {len(alphabets)}, and at least "
            "one must remain to train on"
        )
    kept = alphabets[len(alphabets) - validation_alphabets :]
    train = background.subset([i for i, group in enumerate(background.groups) if group not in kept])
    validation = background.subset([i for i, group in enumerate(background.groups) if group in kept]) if kept else None
    return FewShotData(train, validation, evaluation)


def _rotate(data: FewShotData, rotations: Rotations) -> FewShotData:
    if rotations == "none":
        return data
    if rotations == "train":
        return FewShotData(data.train.rotated(), data.validation, data.test)
    validation = data.validation.rotated() if data.validation else None
    return FewShotData(data.train.rotated(), validation, data.test.rotated())


def drawer(name: str) -> int:
    """Which person drew a file NNNN_DD.png: DD. ValueError for another name."""
    stem = name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    try:
        return int(stem.rsplit("_", 1)[1])
    except (IndexError, ValueError):
        raise ValueError(f"{name} does not end in _DD.png, DD being the number of the person who drew it") from None


def by_drawer(files: Sequence[str]) -> dict[int, str]:
    """Files of one character by the person who drew them."""
    return {drawer(name): name for name in files}
