"""mini-ImageNet (Vinyals et al. 2016, classes of Ravi and Larochelle 2017) from local files: 84 x 84 in colour.

The images belong to ImageNet and cannot be downloaded freely, so they are read from where the user has them.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path, PurePosixPath

from .cache import cached_images
from .image_files import ImageFormat, Progress, read_classes
from .image_folder import split_by_folder
from .image_set import FewShotData, ImageSet
from .image_source import Classes, Source, listed, open_source, stamp

LISTS = ("train.csv", "val.csv", "test.csv")


def mini_imagenet(
    path: Path,
    lists: Path | None = None,
    size: int = 84,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> FewShotData:
    """Read mini-ImageNet from a folder or zip in one of two layouts.

        train/CLASS/*.jpg, val/CLASS/*.jpg, test/CLASS/*.jpg
        train.csv, val.csv, test.csv with columns filename,label, and the files they name anywhere beside or below

    lists: folder of the three CSV files, where they are not with the images. cache: folder for the decoded images.
    Raises FileNotFoundError or ValueError for what is missing, and for a file that is no whole image.
    """
    form = ImageFormat(size, 3)
    facts = ("mini_imagenet", stamp(path), stamp(lists) if lists else None, form)

    def build() -> ImageSet:
        with open_source(path) as source:
            if lists is None:
                return read_classes(source, _classes(source, source), form, progress)
            with open_source(lists) as of_lists:
                return read_classes(source, _classes(source, of_lists), form, progress)

    data = split_by_folder(cached_images(facts, build, cache))
    if data is None:
        raise ValueError(f"{path} has no train and test classes; give folders train, val and test, or {listed(LISTS)}")
    return data


def _classes(source: Source, of_lists: Source) -> Classes:
    """Files of each class, named train/LABEL and so on."""
    by_name = {PurePosixPath(name).name: name for name in of_lists.names}
    there = [name for name in LISTS if name in by_name]
    if not there:
        classes = source.classes()
        if not classes:
            raise ValueError(
                f"there are no images in {source.path}; it must hold train, val and test folders of classes"
            )
        return classes
    if len(there) < len(LISTS):
        lacking = [name for name in LISTS if name not in there]
        raise ValueError(f"{of_lists.path} has {listed(there)} and lacks {listed(lacking)}; put all three there")
    files = {PurePosixPath(name).name: name for name in source.images}
    classes = {}
    missing: list[str] = []
    for table in LISTS:
        for filename, label in _rows(of_lists, by_name[table]):
            if filename in files:
                classes.setdefault(f"{table.removesuffix('.csv')}/{label}", []).append(files[filename])
            else:
                missing.append(filename)
    if missing:
        raise ValueError(
            f"{len(missing)} images that the lists in {of_lists.path} name are not in {source.path}: "
            f"{listed(missing)}; copy them there"
        )
    return classes


def _rows(source: Source, name: str) -> list[tuple[str, str]]:
    rows = csv.DictReader(io.StringIO(source.read(name).decode(errors="replace")))
    if not {"filename", "label"} <= set(rows.fieldnames or ()):
        raise ValueError(f"{name} in {source.path} lacks the columns filename,label; it has {rows.fieldnames}")
    out = [(row["filename"], row["label"]) for row in rows]
    if not out or any(not filename or not label for filename, label in out):
        raise ValueError(f"{name} in {source.path} has no rows, or a row without file name or label; restore it")
    return out
