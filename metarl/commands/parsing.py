"""Options of a command from its dataclass, with one line for an error."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import tomllib
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from metarl.settings import nearest

Args = TypeVar("Args")

# Options of every training command.
ResumePath = Annotated[Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="(default: a new run)")]
TomlPath = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: none)")]
# Of commands that open a run.
DataPath = Annotated[str, tyro.conf.arg(metavar="PATH", help_behavior_hint="(default: where they were in training)")]

_FRAME = "╭╮╰╯│"
_RULE = re.compile(r"^[─\-]{3,}$")


def parse_args(kind: type[Args], argv: Sequence[str], prog: str, default: Args | None = None) -> Args:
    """The options that argv gives. ValueError in one line for wrong ones; SystemExit(0) after printing help."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            if default is None:
                return tyro.cli(kind, args=list(argv), prog=prog)
            return tyro.cli(kind, args=list(argv), prog=prog, default=default)
    except SystemExit as end:
        if not end.code:
            raise
        raise ValueError(f"{one_line(said.getvalue()).rstrip('.')}; '{prog} --help' explains the options") from None


def scan(kind: type, argv: Sequence[str], with_several_values: Sequence[str] = ()) -> tuple[int | None, dict[str, str]]:
    """Where the positional argument stands, and the options' values, before it is known what gives their defaults.

    kind: the options. with_several_values: those among them that take numbers without end.
    """
    flags = _flags(kind)
    values: dict[str, str] = {}
    at, i = None, 0
    while i < len(argv):
        token = argv[i]
        i += 1
        option, has_value, value = token.removeprefix("--").partition("=")
        option = option.replace("_", "-")
        if not token.startswith("-"):
            at = i - 1 if at is None else at
        elif has_value:
            values[option] = value
        elif option not in flags and token not in ("-h", "--help") and i < len(argv):
            values[option] = argv[i]
            i += 1
            while option in with_several_values and i < len(argv) and argv[i].isdigit():
                i += 1
    return at, values


def _flags(kind: Any, prefix: str = "") -> set[str]:
    """Names of the options that take no value."""
    names = set()
    for name, wanted in typing.get_type_hints(kind).items():
        option = name.replace("_", "-")
        if wanted is bool:
            names |= {f"{prefix}{option}", f"{prefix}no-{option}"}
        for kind_of in typing.get_args(wanted) or (wanted,):  # one of the algorithms, or a table itself
            if dataclasses.is_dataclass(kind_of):
                names |= _flags(kind_of, "" if name == "settings" else f"{prefix}{option}.")
    return names


def read_toml(path: Path) -> dict[str, Any]:
    """The settings in a TOML file. ValueError or OSError names the file."""
    try:
        return tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise type(error)(f"cannot read {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from error


def one_line(box: str) -> str:
    """What an error box of tyro says, without frame, title and help texts; with the options it suggests."""
    # With a frame the title stands in it; where the terminal knows no frames, it is a section of its own.
    framed = box.lstrip().startswith(_FRAME[0])
    rows = [row.strip().strip(_FRAME).strip() for row in box.splitlines()]
    sections: list[list[str]] = [[]]
    for row in rows[1:] if framed else rows:
        if _RULE.match(row):
            sections.append([])
        elif row.strip("─"):
            sections[-1].append(row)
    if not framed and len(sections) > 1:
        del sections[0]
    message = " ".join(sections[0]).removeprefix("Error parsing ")
    message = message.replace("settings.", "--").replace("settings: ", "")  # how tyro names the nested settings
    choice = re.match(r"invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*)\)", message)
    if choice:
        value, option, allowed = choice.groups()
        return f"{option} is {value!r}; {nearest(value, re.findall(r'[^, ]+', allowed.replace(chr(39), '')))}"
    suggested = [
        row.split()[0].rstrip(",")
        for section in sections[1:]
        if section and section[0].startswith("Perhaps you meant")
        for row in section
        if row.startswith("--")
    ]
    return f"{message}; did you mean {' or '.join(suggested[:2])}?" if suggested else message
