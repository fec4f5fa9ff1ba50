"""Options of a command from its dataclass, with one line for an error."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from typing import TypeVar

import tyro

from metarl.config import nearest

Args = TypeVar("Args")

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
