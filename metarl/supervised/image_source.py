"""Files of a folder or of a zip, read alike."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"))
Classes = dict[str, list[str]]
"""Files of each class."""


@dataclass(frozen=True)
class Source:
    """Files below a folder or in a zip."""

    path: Path
    names: tuple[str, ...]
    """Relative names with slashes, sorted, without hidden files."""
    read: Callable[[str], bytes]
    """Content of a file. ValueError if it cannot be unpacked, OSError if it cannot be read."""

    @property
    def images(self) -> list[str]:
        """Names of image files."""
        return [name for name in self.names if PurePosixPath(name).suffix.lower() in SUFFIXES]

    def classes(self) -> Classes:
        """Image files by the folder that they stand in; "." is the source itself."""
        out: Classes = {}
        for name in self.images:
            out.setdefault(str(PurePosixPath(name).parent), []).append(name)
        return out


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """A folder or a zip to read from.

    Raises FileNotFoundError if there is none, ValueError if it is neither.
    """
    if path.is_dir():
        yield Source(path, tuple(name for name, _ in _walk(path)), lambda name: (path / name).read_bytes())
        return
    if not path.exists():
        raise FileNotFoundError(f"there is no folder or zip {path}; check the path, or download the data first")
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{path} is neither a folder nor a whole zip ({error}); download or copy it again, or name a folder"
        ) from error

    def read(name: str) -> bytes:
        try:
            return archive.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"{name} in {path} is damaged ({error}); download or copy the zip again") from error

    with archive:
        yield Source(path, tuple(sorted(filter(_visible, archive.namelist()))), read)


def stamp(path: Path) -> tuple[object, ...]:
    """What tells whether a folder or zip has changed: the place, and names, sizes and times of the files.

    A file that is replaced by one of the same size and time goes unnoticed.
    """
    if path.is_dir():
        return (str(path.resolve()), *((name, s.st_size, s.st_mtime_ns) for name, s in _walk(path)))
    if not path.exists():
        raise FileNotFoundError(f"there is no folder or zip {path}; check the path, or download the data first")
    status = path.stat()
    return (str(path.resolve()), status.st_size, status.st_mtime_ns)


def listed(names: Sequence[str], n: int = 3) -> str:
    """The first names of a list, for messages."""
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")


def _visible(name: str) -> bool:
    return not name.endswith("/") and not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _walk(path: Path) -> list[tuple[str, os.stat_result]]:
    """Name and status of each file below a folder, sorted by name. ValueError for links to nothing or in circles."""
    out = []
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset([_identity(path.stat())]))]
    while pending:
        below, holders = pending.pop()
        with os.scandir(path / below) as entries:
            for entry in entries:
                if not _visible(entry.name):
                    continue
                try:
                    status = entry.stat()
                except OSError as error:
                    if not entry.is_symlink():
                        raise
                    raise ValueError(f"{entry.path} is a link that leads nowhere; repair or remove it") from error
                if not entry.is_dir():
                    out.append((below + entry.name, status))
                    continue
                here = _identity(status)
                if here in holders:
                    raise ValueError(f"{entry.path} is a link to a folder that it stands in; remove the link")
                pending.append((f"{below}{entry.name}/", holders | {here}))
    return sorted(out, key=lambda item: item[0])


def _identity(status: os.stat_result) -> tuple[int, int]:
    """The same for a folder and for links to it."""
    return status.st_dev, status.st_ino
