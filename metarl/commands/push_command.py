"""`metarl push RUN REPO`: share a policy as a folder or on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from metarl.commands.parsing import parse_args
from metarl.hub import push
from metarl.runs import json_text


@dataclass(frozen=True)
class Args:
    """Write a policy with a model card, its results and videos to a folder or the Hugging Face hub."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder made by 'metarl train', or a policy folder."""
    repo: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="REPO")]
    """owner/name on the hub, for which 'hf auth login' or HF_TOKEN gives access; or a folder such as ./folder."""
    private: tyro.conf.FlagCreatePairsOff[bool] = False
    """Make a new repository private."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object and nothing else."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    args = parse_args(Args, argv, "metarl push")
    place = push(args.run, args.repo, private=args.private)
    print(json_text({"repo": place}) if args.json else f"{place}\n", end="")
    return 0
