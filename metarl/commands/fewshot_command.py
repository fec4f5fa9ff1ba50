"""`metarl fewshot train | evaluate`: classes of images from a few examples each."""

from __future__ import annotations

from collections.abc import Sequence

from metarl.commands.supervised_command import run


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    return run("fewshot", argv)
