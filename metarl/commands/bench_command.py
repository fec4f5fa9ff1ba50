"""`metarl bench rollout | iteration`: our hot loops against raw MuJoCo stepping, as ratios taken in one run."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tyro

from metarl.bench import bench_iteration, bench_rollout
from metarl.envs import ProtocolName, make_family
from metarl.presets import preset

USAGE = """usage: metarl bench {rollout,iteration} [options]

  rollout    closed-loop steps/s as a ratio of open-loop mujoco.rollout
  iteration  one meta-iteration by stage, as a ratio of raw stepping of as many steps

'metarl bench rollout --help' explains the options.
"""


@dataclass(frozen=True)
class Args:
    """Measure on this machine; ratios are taken within one run, since machines are noisy."""

    env: str = "half-cheetah-dir"
    """Environment family; 'metarl list' shows them."""
    protocol: ProtocolName = "modern"
    """modern or finn2017."""
    threads: int = 0
    """Threads, 0 for one per core."""
    tasks: int = 40
    """Tasks."""
    trajectories: int = 20
    """Environments (trajectories) per task."""
    json: bool = False
    """Print the JSON and nothing else."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    kinds = ("rollout", "iteration")
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if argv else 2
    if argv[0] not in kinds:
        close = difflib.get_close_matches(argv[0], kinds, n=1)
        hint = f"did you mean {close[0]}?" if close else "allowed: rollout, iteration"
        raise ValueError(f"unknown benchmark {argv[0]!r}; {hint}")
    args = tyro.cli(Args, args=argv[1:], prog=f"metarl bench {argv[0]}")
    if args.tasks < 1 or args.trajectories < 1 or args.threads < 0:
        raise ValueError(
            f"--tasks {args.tasks}, --trajectories {args.trajectories} must be at least 1, --threads {args.threads} 0"
        )
    result: dict[str, Any]
    if argv[0] == "rollout":
        family = make_family(args.env, args.protocol)
        result = dataclasses.asdict(bench_rollout(family, args.tasks, args.trajectories, args.threads))
    else:
        config = preset(args.env, "default", args.protocol)
        config = dataclasses.replace(config, meta_batch=args.tasks, trajectories=args.trajectories)
        result = dataclasses.asdict(bench_iteration(config, args.threads))
    if args.json:
        print(json.dumps(result))
        return 0
    print(f"{args.env} ({args.protocol}), {args.tasks} tasks x {args.trajectories} environments")
    for name, value in result.items():
        if name == "stages":
            print("stages")
            for stage, seconds in value.items():
                print(f"  {stage:<22}{seconds:10.3f} s")
        else:
            print(f"{name:<24}{value:12,.3f}")
    return 0
