"""`metarl pull REPO`: fetch a shared policy from a folder or the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from metarl.commands.parsing import parse_args
from metarl.hub import pull
from metarl.runs import json_text

OutPath = Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: the name of REPO)")]
Revision = Annotated[str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="(default: the newest)")]


@dataclass(frozen=True)
class Args:
    """Fetch a policy that 'metarl push' shared. Nothing in it is executed."""

    repo: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="REPO")]
    """owner/name on the Hugging Face hub, or a folder such as ./folder."""
    out: OutPath = None
    """New folder for it."""
    revision: Revision = None
    """Branch, tag or commit on the hub."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object and nothing else."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    args = parse_args(Args, argv, "metarl pull")
    folder = pull(args.repo, args.out or Path(args.repo.rstrip("/").rpartition("/")[2]), revision=args.revision)
    print(json_text({"folder": str(folder)}) if args.json else f"{folder}\n", end="")
    return 0
