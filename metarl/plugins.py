"""Families of the user's own on the command line: `my_module:MyFamily` as ENV, and `--import` with any command.

Only what stands on the command line is imported. A run or policy folder names its environment by the registered name
alone, so that opening one from a stranger runs none of their code.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from metarl.envs.registry import import_family, import_users_module

_REFERENCE = re.compile(r"[\w.]+:[A-Za-z_]\w*|.*\.py:[A-Za-z_]\w*")
_TAKES_ENV = ("train", "baseline", "bench", "check")
_TAKES_PATH = ("--out", "--config", "--resume", "--task", "--baselines")

_imported: list[str] = []


def import_named(command: str, arguments: Sequence[str]) -> list[str]:
    """The arguments without `--import ...`, and with the family's name in place of `my_module:MyFamily`.

    ValueError if something cannot be imported, or is no family.
    """
    _imported.clear()
    rest: list[str] = []
    tokens = iter(arguments)
    for token in tokens:
        option, equals, value = token.partition("=")
        if option == "--import":
            value = value if equals else next(tokens, "")
            if not value or value.startswith("-"):
                raise ValueError("--import needs a module or a class of it: --import my_module:MyFamily")
            _import(value)
        elif command in _TAKES_ENV and _REFERENCE.fullmatch(token) and (rest or [""])[-1] not in _TAKES_PATH:
            rest.append(_import(token))
        else:
            rest.append(token)
    return rest


def import_options() -> str:
    """What to append to a command that goes on with the same families: "" or " --import my_module:MyFamily"."""
    return "".join(f" --import {shlex.quote(place)}" for place in _imported)


def _import(place: str) -> str:
    name = place
    if _REFERENCE.fullmatch(place):
        name = import_family(place).name
    else:
        import_users_module(place)
    if place not in _imported:
        _imported.append(place)
    return name
