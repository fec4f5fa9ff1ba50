"""`metarl bench rollout | iteration | supervised`: our hot loops against plain ones, as ratios taken in one run.

The plain ones are raw MuJoCo stepping and, for few-shot learning, a loop over tasks.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from metarl.bench import bench_iteration, bench_rollout
from metarl.commands.checks import check_least
from metarl.commands.parsing import parse_args
from metarl.envs import ProtocolName, make_family
from metarl.presets import preset


@dataclass(frozen=True)
class Args:
    """Measure on this machine; ratios are taken within one run, since machines are noisy."""

    what: Annotated[
        tyro.conf.Positional[Literal["rollout", "iteration", "supervised"]],
        tyro.conf.arg(metavar="rollout|iteration|supervised"),
    ]
    """rollout: closed-loop steps/s as a ratio of open-loop mujoco.rollout. iteration: one meta-iteration by stage, as
    a ratio of raw stepping of as many steps. supervised: MAML's meta-gradients on sinusoids and
    images, and how many times as long a loop over the tasks takes; the other options do not matter to it."""
    env: Annotated[str, tyro.conf.arg(metavar="ENV")] = "half-cheetah-dir"
    """Environment family; 'metarl list' shows them."""
    protocol: ProtocolName = "modern"
    """modern: Gymnasium's physics and time step. finn2017: the paper's own environment."""
    threads: int = 0
    """Threads, 0 for one per core."""
    tasks: int = 40
    """Tasks."""
    trajectories: int = 20
    """Environments (trajectories) per task."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the JSON and nothing else."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    args = parse_args(Args, argv, "metarl bench")
    check_least("tasks", args.tasks, 1)
    check_least("trajectories", args.trajectories, 1)
    check_least("threads", args.threads, 0)
    if args.what == "supervised":
        return _supervised(args.json)
    result: dict[str, Any]
    if args.what == "rollout":
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


def _supervised(as_json: bool) -> int:
    from metarl.supervised.speed import bench_supervised

    result = {name: dataclasses.asdict(times) for name, times in bench_supervised().items()}
    if as_json:
        print(json.dumps(result))
        return 0
    print(f"{'MAML meta-gradient, CPU time on one thread':<52}{'ours':>12}{'loop':>14}{'loop / ours':>14}")
    for name, times in result.items():
        ours, loop = times["median_ms"]["ours"], times["median_ms"]["loop"]
        print(f"{name:<52}{ours:9.2f} ms{loop:11.2f} ms{times['ratio']['loop']:14.2f}")
    return 0
