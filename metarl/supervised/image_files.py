"""Image files as arrays of bytes of one size."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from .image_set import ImageSet
from .image_source import Source

Resample = Literal["lanczos", "bilinear", "box", "nearest"]
Progress = Callable[[int, int], None]
"""Told how many images are decoded, of how many."""


@dataclass(frozen=True)
class ImageFormat:
    """What image files become."""

    size: int
    """Height and width (pixels); images that are not square are squeezed, not cropped."""
    channels: int
    """1 for grey, 3 for red, green and blue."""
    resample: Resample = "lanczos"
    """How images of another size are scaled. Files of black and white are turned to grey first: Pillow ignores the
    filter for them and takes the nearest pixel, which is what "nearest" gives."""
    invert: bool = False
    """Black becomes 255: ink on paper is large."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size} pixels; it must be at least 1")
        if self.channels not in (1, 3):
            raise ValueError(f"channels is {self.channels}; it can be 1 (grey) or 3 (colour)")


def decode(data: bytes, where: str, form: ImageFormat) -> UInt8[np.ndarray, "channel height width"]:
    """The image in a file. Transparent parts become white. ValueError names the file if it is no whole image."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            out = _without_depth(_without_transparency(image), form.channels)
    except MemoryError:
        raise
    except UnidentifiedImageError:  # whose own words are about a stream in memory
        raise ValueError(f"{where} is not a whole image (of no known format); replace it or take it away") from None
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and others
        raise ValueError(f"{where} is not a whole image ({error}); replace it or take it away") from error
    if out.size != (form.size, form.size):
        out = out.resize((form.size, form.size), Image.Resampling[form.resample.upper()])
    pixels = np.asarray(out).reshape(form.size, form.size, form.channels).transpose(2, 0, 1)
    return 255 - pixels if form.invert else pixels


def read_classes(
    source: Source, classes: Mapping[str, Sequence[str]], form: ImageFormat, progress: Progress | None = None
) -> ImageSet:
    """Decode the files of each class, on all cores; a class's group is the folder that it stands in.

    Raises ValueError for a file that is no whole image. On an error or Ctrl-C nothing more is decoded.
    """
    files = [name for names in classes.values() for name in names]
    images = np.empty((len(files), form.channels, form.size, form.size), dtype=np.uint8)

    def fill(i: int) -> None:
        images[i] = decode(source.read(files[i]), f"{files[i]} in {source.path}", form)

    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for i, _ in enumerate(pool.map(fill, range(len(files))), start=1):
            if progress is not None:
                progress(i, len(files))
    finally:
        pool.shutdown(cancel_futures=True)
    count = torch.tensor([len(names) for names in classes.values()], dtype=torch.long)
    groups = (str(PurePosixPath(name).parent) for name in classes)
    return ImageSet(
        torch.from_numpy(images),
        count.cumsum(0) - count,
        count,
        tuple(classes),
        tuple("" if group == "." else group for group in groups),
    )


def _without_transparency(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    paper = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")


def _without_depth(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255
        image = Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its pixels are floats, of an unknown range")
    return image.convert("L" if channels == 1 else "RGB")
