"""`metarl check ENV`: whether a family keeps the contract that training relies on, and what is wrong in words."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from metarl.commands.parsing import parse_args
from metarl.envs import family_class
from metarl.envs.contract import check_family
from metarl.plugins import import_options


@dataclass(frozen=True)
class Args:
    """Check an environment family: shapes, types, determinism, independence of rows, tasks, and what the policy sees.

    The exit code is 1 if something is wrong.
    """

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")]
    """my_module:MyFamily, my_file.py:MyFamily, or a registered name."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print JSON, a list of checks each with its problem and a hint (empty: fine), and nothing else."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    args = parse_args(Args, argv, "metarl check")
    findings = check_family(family_class(args.env))
    if args.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
        return int(any(finding.problem for finding in findings))
    for finding in findings:
        if finding.problem:
            print(f"  WRONG  {finding.check}: {finding.problem}\n         hint: {finding.hint}")
        else:
            print(f"  ok     {finding.check}")
    wrong = sum(bool(finding.problem) for finding in findings)
    if wrong:
        print(f"{args.env}: {wrong} of {len(findings)} checks failed; later checks may follow once these are right")
        return 1
    print(f"{args.env}: all {len(findings)} checks passed\nnext: metarl train {args.env}{import_options()}")
    return 0
