"""A checkpoint on disk: named tensors and numbers, atomic, with a checksum, and free of pickled code."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .files import write_atomic

Parts = tuple[Sequence[str], Sequence[str]]
"""Names of the tensors, and of the numbers, that a checkpoint's checksum is over."""


def write_checkpoint(path: Path, content: Mapping[str, Any], parts: Parts) -> None:
    """Write a checkpoint; the file at path is the old one or the whole new one at any moment. OSError if it cannot."""
    buffer = io.BytesIO()
    torch.save({**content, "crc": _crc(content, parts)}, buffer)
    try:
        write_atomic(path, buffer.getvalue())
    except OSError as error:
        raise OSError(
            f"cannot write the checkpoint {path}: {error.strerror or error}; the one before it is untouched"
        ) from error


def read_checkpoint(
    path: Path, checkpoint_format: int, required: Sequence[str], parts_of: Callable[[dict[str, Any]], Parts]
) -> dict[str, Any]:
    """The content of a checkpoint with the required entries, all tensors in float32. Nothing in it is ever executed.

    Raises FileNotFoundError if there is none, ValueError if it is damaged or of another format.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}; the run stopped before its first one")
    data = path.read_bytes()  # an OSError is one of the disk, not of the content
    try:
        content = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
        found, *_ = (content[name] for name in ("format", *required))
        parts = parts_of(content)
        intact = content["crc"] == _crc(content, parts) and all(content[n].dtype == torch.float32 for n in parts[0])
    except Exception as error:  # torch raises many kinds for a damaged or foreign file
        raise ValueError(
            f"the checkpoint {path} is damaged or not one of metarl's; restore it from a copy or train again"
        ) from error
    if found != checkpoint_format:
        raise ValueError(
            f"the checkpoint {path} has format {found!r}, this version of metarl reads format {checkpoint_format}"
        )
    if not intact:
        raise ValueError(
            f"the checkpoint {path} is damaged: its checksum does not match; restore it from a copy or train again"
        )
    return content


def _crc(content: Mapping[str, Any], parts: Parts) -> int:
    tensors, facts = parts
    crc = 0
    for name in tensors:
        crc = zlib.crc32(content[name].detach().contiguous().numpy().tobytes(), crc)
    return zlib.crc32(repr([content[name] for name in facts]).encode(), crc)
