"""Where a long command's progress goes: one line that updates, plain lines at a bounded rate, JSON, or nowhere."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from types import TracebackType
from typing import Any, Literal

from metarl.files import finite

Mode = Literal["terminal", "notebook", "log", "json", "quiet"]

EVERY_S: dict[Mode, float] = {"terminal": 0.1, "notebook": 0.5, "log": 2.0}
"""Mean time between two lines of progress (s), beyond a burst; the last is always shown."""
BURST: dict[Mode, float] = {"terminal": 1, "notebook": 1, "log": 10}
"""Lines that may come at once: a short run shows all of its own."""


def mode_of(stream: Any) -> Mode:
    """Of a text stream.

    terminal: a line can be overwritten. notebook: the same, by a carriage return only. log: a file or a pipe.
    """
    if type(stream).__module__.partition(".")[0] == "ipykernel":
        return "notebook"
    try:
        is_terminal = stream.isatty()
    except ValueError:  # closed
        is_terminal = False
    return "terminal" if is_terminal and os.environ.get("TERM", "") not in ("", "dumb") else "log"


class Console:
    """Standard output of one command.

    quiet prints only results; json one object a line, each with "event", and nothing else. Otherwise the mode follows
    from where standard output goes.
    """

    def __init__(self, *, quiet: bool = False, json: bool = False) -> None:
        if quiet and json:
            raise ValueError("--quiet and --json exclude each other; give one")
        self.mode: Mode = "quiet" if quiet else "json" if json else mode_of(sys.stdout)
        self._credit = BURST.get(self.mode, 1.0)
        self._checked_s = time.monotonic()
        self._waiting = ""
        self._width = 0

    def say(self, text: str) -> None:
        """A line that stays."""
        if self.mode not in ("quiet", "json"):
            self._end_line()
            print(text, flush=True)

    def result(self, text: str) -> None:
        """A line that quiet prints too: what a script wants to know."""
        if self.mode != "json":
            self._end_line()
            print(text, flush=True)

    def progress(self, text: str, *, last: bool = False) -> None:
        """How far it has come, shown if there have not been too many lines, or if it is the last."""
        if self.mode in ("quiet", "json"):
            return
        now = time.monotonic()
        self._credit = min(BURST[self.mode], self._credit + (now - self._checked_s) / EVERY_S[self.mode])
        self._checked_s = now
        if not last and self._credit < 1:
            self._waiting = text
            return
        self._credit, self._waiting = self._credit - 1, ""
        if self.mode == "log":
            print(text, flush=True)
        else:
            self._overwrite(text)

    def event(self, kind: str, **facts: Any) -> None:
        """One JSON object, for json only."""
        if self.mode == "json":
            print(json.dumps(finite({"event": kind, **facts}), allow_nan=False), flush=True)

    def close(self) -> None:
        """Show what progress was held back, and leave the cursor at the start of a line."""
        if self._waiting:
            self.progress(self._waiting, last=True)
        self._end_line()

    def __enter__(self) -> Console:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or not issubclass(kind, OSError):  # else it may be the output that failed
            self.close()

    def _overwrite(self, text: str) -> None:
        if self.mode == "terminal":  # a longer line would wrap, and only its last row be overwritten
            text = text[: shutil.get_terminal_size().columns - 1]
        print("\r" + text.ljust(self._width), end="", flush=True)
        self._width = len(text)

    def _end_line(self) -> None:
        if self._width:
            self._width = 0
            print(flush=True)
