"""Families that installed packages offer under the entry point `metarl.envs`, in their pyproject.toml:

    [project.entry-points."metarl.envs"]
    swing-up = "my_package.swing_up:SwingUp"

The metadata is read, and nothing imported, until a family is asked for. An entry point that cannot be used is a problem
in words, and leaves the others alone.
"""

from __future__ import annotations

import functools
import importlib.metadata
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .task_family import TaskFamily

GROUP = "metarl.envs"
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Offered:
    """What the installed packages offer."""

    families: dict[str, importlib.metadata.EntryPoint]
    """By name; not imported."""
    problems: tuple[str, ...]
    """What was left out, and why."""


@functools.cache
def offered(taken: tuple[str, ...]) -> Offered:
    """The entry points of all installed packages, those with a malformed or taken name left out."""
    families: dict[str, importlib.metadata.EntryPoint] = {}
    problems = []
    points = importlib.metadata.entry_points(group=GROUP)
    for point in sorted(set(points), key=lambda point: (point.name, _package(point))):
        if not _NAME.fullmatch(point.name):
            problems.append(f"{_package(point)} offers {point.name!r}, which is not lower-case words joined by dashes")
        elif point.name in taken:
            problems.append(f"{_package(point)} offers {point.name!r}, which is the name of a built-in environment")
        elif point.name in families:
            other = _package(families[point.name])
            problems.append(f"{_package(point)} offers {point.name!r}, and so does {other}, which is used")
        else:
            families[point.name] = point
    return Offered(families, tuple(problems))


def load_entry_point(point: importlib.metadata.EntryPoint) -> type[TaskFamily]:
    """Import the class of an entry point. ValueError names the package and says what is wrong."""
    from .task_family import TaskFamily

    start = f"the environment {point.name!r} of the package {_package(point)} cannot be used: "
    try:
        family = point.load()
    except Exception as error:  # whatever another package raises while it is imported
        raise ValueError(
            f"{start}importing {point.value} raised {type(error).__name__}: {error}; repair or uninstall the package"
        ) from error
    if not (isinstance(family, type) and issubclass(family, TaskFamily)):
        raise ValueError(f"{start}{point.value} is not a class derived from metarl.envs.Family or GymnasiumFamily")
    if getattr(family, "name", None) != point.name:
        raise ValueError(f"{start}the class calls itself {getattr(family, 'name', None)!r}; give both the same name")
    return family


def _package(point: importlib.metadata.EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "unknown"
