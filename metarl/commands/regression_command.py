"""`metarl regression train | evaluate`: functions from a few points."""

from __future__ import annotations

from collections.abc import Sequence

from metarl.commands.supervised_command import run


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    return run("regression", argv)
