"""Disks that are full or read-only, for tests: small file systems in memory, which only root may mount."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

PAGE = 4096
"""Bytes that a small disk counts in."""


@contextlib.contextmanager
def small_disk(folder: Path, n_bytes: int = 4_000_000) -> Iterator[Path]:
    """A disk of its own at a new folder; the test is skipped where that is not allowed."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={n_bytes}", "metarl-test", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=20)


@contextlib.contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """Nothing can be written on a small disk meanwhile, by root neither."""
    _mount("-o", "remount,ro", str(disk))
    try:
        yield
    finally:
        _mount("-o", "remount,rw", str(disk))


@contextlib.contextmanager
def filled(disk: Path, leaving: int) -> Iterator[None]:
    """A small disk with so many pages free."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(PAGE)) == PAGE:
            pass
    with open(filler, "r+b") as file:
        file.truncate(max(0, filler.stat().st_size // PAGE - leaving) * PAGE)
    try:
        yield
    finally:
        filler.unlink()


def _mount(*arguments: str) -> None:
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, timeout=20)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
