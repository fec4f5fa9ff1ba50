"""Whole files at any moment, folders that go if empty, standard JSON, and versions that decide a run's numbers."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TEMPORARY = ".metarl-tmp-"


def versions() -> dict[str, str]:
    """Versions of what decides a run's numbers; packages that are not there (no MuJoCo for few-shot) are left out."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    packages = ("metarl", "torch", "mujoco", "gymnasium", "numpy", "stable-baselines3")
    out = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            out[name] = importlib.metadata.version(name)
    return {"python": platform.python_version(), **out, "platform": platform.platform()}


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that at any moment there is the old one or the whole new one, even after a power cut.

    An OSError names the file; the old one is then untouched.
    """
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:  # of a full disk, say, the system does not tell which file it was
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def removed_if_empty(*folders: Path) -> Iterator[None]:
    """If the block fails, remove those of the folders, in this order, that are then empty."""
    try:
        yield
    except BaseException:
        for folder in folders:
            with contextlib.suppress(OSError):  # it holds something, or was never made
                folder.rmdir()
        raise


def json_text(value: Any) -> str:
    """Indented JSON. Numbers that JSON does not have (NaN: the interval of a single task) become null."""
    return json.dumps(finite(value), indent=2, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """Nested plain values with None in place of NaN and infinities."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> Any:
    """Parsed JSON; ValueError names a damaged file."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # broken JSON, broken UTF-8, nested without end
        raise ValueError(f"{path} is damaged ({error}); restore it from a copy or make it anew") from error
