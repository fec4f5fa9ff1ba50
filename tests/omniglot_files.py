"""Small data sets on disk in the layouts of the real ones, and where the real ones may lie."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

OMNIGLOT = Path(__file__).parent.parent.parent / "shared" / "data" / "omniglot"
MINI_LISTS = OMNIGLOT.parent / "miniimagenet_split"
needs_omniglot = pytest.mark.skipif(
    not (OMNIGLOT / "images_background.zip").is_file(), reason="the Omniglot zips are not beside the repository"
)


def png(pixels: np.ndarray | None = None, mode: str = "1", size: tuple[int, int] = (105, 105), seed: int = 0) -> bytes:
    """A picture of the given pixels, or of random ones."""
    if pixels is None:
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, "PNG")
    return out.getvalue()


def omniglot_files(alphabets: dict[str, int], drawers: int = 4, first: int = 1) -> dict[str, bytes]:
    """Files ALPHABET/characterNN/NNNN_DD.png of random ink."""
    out = {}
    number = first
    for alphabet, n in alphabets.items():
        for c in range(1, n + 1):
            for d in range(1, drawers + 1):
                out[f"{alphabet}/character{c:02d}/{number:04d}_{d:02d}.png"] = png(seed=100 * number + d)
            number += 1
    return out


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    """Put files into a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_zip(path: Path, files: dict[str, bytes], top: str = "") -> Path:
    """Put files into a zip, below a folder at the top if one is named."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(top + name, content)
    return path
