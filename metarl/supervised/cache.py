"""Decoded images on disk, so that a data set is decoded once.

A cache file is written under another name and renamed when it is whole; a file that cannot be read, or that is not
what it should be, is made anew. Its name follows from what it was decoded from and how, so there is nothing to clear.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from .image_set import ImageSet

FORMAT = 1
_TEMPORARY = ".metarl-tmp-"
_STALE_S = 24 * 3600


def data_folder() -> Path:
    """Where downloads and decoded images go: $METARL_DATA, else metarl in $XDG_CACHE_HOME, else ~/.cache/metarl."""
    if own := os.environ.get("METARL_DATA"):
        return Path(own).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path is invalid and ignored.
    return (Path(cache) if os.path.isabs(cache) else Path.home() / ".cache") / "metarl"


def cached_images(facts: object, build: Callable[[], ImageSet], folder: Path | None) -> ImageSet:
    """The images that were built earlier from the same facts, or those that build makes now.

    facts: all that decides the images, with a telling repr. folder: where the file goes, None for no cache.
    A cache that cannot be written costs a warning, not the images.
    """
    if folder is None:
        return build()
    name = hashlib.sha256(repr((FORMAT, facts)).encode()).hexdigest()[:32]
    path = folder / f"{name}.npz"
    found = _read(path)
    if found is not None:
        return found
    built = build()
    try:
        _write(path, built)
    except OSError as error:
        warnings.warn(
            f"the decoded images could not be kept in {folder} ({error.strerror or error}) and will be decoded again "
            "next time; METARL_DATA names another folder",
            stacklevel=2,
        )
    return built


def _read(path: Path) -> ImageSet | None:
    try:
        # Reading a part of this zip compares its checksum. numpy leaves a damaged file open that it opened itself.
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            images, first, count = (torch.from_numpy(file[key]) for key in ("images", "first", "count"))
            names, groups = (tuple(file[key].tolist()) for key in ("names", "groups"))
        return ImageSet(images, first, count, names, groups)
    except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile):
        return None


def _write(path: Path, image_set: ImageSet) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f"{_TEMPORARY}*"):  # of a process that was killed while it wrote
        if time.time() - leftover.stat().st_mtime > _STALE_S:
            leftover.unlink(missing_ok=True)
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")
    try:
        with open(temporary, "wb") as file:
            np.savez(
                file,
                images=image_set.images.numpy(),
                first=image_set.first.numpy(),
                count=image_set.count.numpy(),
                names=np.array(image_set.names),
                groups=np.array(image_set.groups),
            )
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
