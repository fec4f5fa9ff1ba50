"""Griffe extension: the formulas in docstrings, set off by two spaces, as blocks of code; Markdown would join them."""

from __future__ import annotations

import re
from typing import Any

import griffe

# Lines that begin with two or three spaces and a character that is no list's.
FORMULA = re.compile(r"^ {2,}\S")
SECTION = re.compile(r"^(Args|Arguments|Returns|Raises|Yields|Attributes|Example|Examples|Note):\s*$")


class Formulas(griffe.Extension):
    """Rewrites every docstring as it is loaded."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """The text with indented lines in code fences, but for those of sections such as "Args:"."""
    out: list[str] = []
    inside = in_section = False
    for line in text.splitlines():
        if SECTION.match(line):
            in_section = True
        elif line and not line.startswith(" "):
            in_section = False
        formula = bool(FORMULA.match(line)) and not in_section
        if formula and not inside:
            out += ["", "```text"]
        elif inside and not formula:
            out += ["```", ""]
        inside = formula
        out.append(line)
    return "\n".join([*out, "```"] if inside else out)
