"""`metarl demo`: the main job on real input - train, evaluate on held-out tasks, film before and after."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from metarl.commands import evaluate_command, record_command
from metarl.commands.checks import check_least, check_writable, clock, explained_interrupt, free_folder
from metarl.commands.console import Console
from metarl.commands.loading import load_run
from metarl.commands.parsing import parse_args
from metarl.commands.train_progress import LogOptions, observed
from metarl.presets import preset
from metarl.runs import json_text
from metarl.train import train

ENV = "half-cheetah-dir"


OutPath = Annotated[
    Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: runs/demo, numbered if it exists)")
]


@dataclass(frozen=True)
class Args:
    """Meta-train half-cheetah-dir for about ten minutes on two cores, evaluate it, film both directions."""

    out: OutPath = None
    """Run folder."""
    iterations: int = 0
    """Outer updates; 0 for the demo preset's own. A few are enough to see that everything works."""
    threads: int = 0
    """Threads, 0 for one per core. Does not change the results."""
    tasks: int = 40
    """Held-out tasks of the evaluation."""
    trajectories: int = 20
    """Episodes per task and step of the evaluation."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object and nothing else."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    args = parse_args(Args, argv, "metarl demo")
    check_least("threads", args.threads, 0)
    check_least("iterations", args.iterations, 0)
    check_least("tasks", args.tasks, 2)
    check_least("trajectories", args.trajectories, 1)
    config = preset(ENV, "demo")
    if args.iterations:
        config = replace(config, iterations=args.iterations)
    out = args.out or free_folder(Path("runs"), "demo")
    check_writable(out)
    start = time.perf_counter()
    with explained_interrupt(out), observed(Console(quiet=args.json), LogOptions()) as (_, on_start, on_iteration):
        run = train(
            config,
            out,
            n_threads=args.threads,
            command=shlex.join(["metarl", "demo", *argv]),
            on_start=on_start,
            on_iteration=on_iteration,
        )
    trained_s = time.perf_counter() - start
    loaded = load_run(run.path)
    result = evaluate_command.evaluate_run(
        loaded, args.tasks, args.trajectories, 3, 1000, args.threads, f"metarl evaluate {run.path}"
    )
    written = evaluate_command.write_evaluation(loaded, result, run.path)
    videos = []
    for task in ("forward", "backward"):
        film = record_command.Args(run=run.path, task=task, gif=True, threads=args.threads)
        command = shlex.join(["metarl", "record", str(run.path), "--task", task, "--gif"])
        recording = record_command.record_run(loaded, loaded.task(task), run.videos / f"{task}.mp4", film, command)
        videos += [p for p in (recording.mp4, recording.gif) if p is not None]
    made = {
        "run": str(run.path),
        "trained_s": trained_s,
        "total_s": time.perf_counter() - start,
        "written": [str(path) for path in written],
        "videos": [str(path) for path in videos],
        "evaluation": result,
    }
    print(json_text(made) if args.json else summary(made), end="")
    return 0


def summary(made: Mapping[str, Any]) -> str:
    """What the demo made, for a terminal."""
    return (
        f"\ntrained in {clock(made['trained_s'])}, everything in {clock(made['total_s'])}\n\n"
        f"{evaluate_command.table(made['evaluation'])}\n"
        f"\nrun folder  {made['run']}"
        f"\nevaluation  {', '.join(made['written'])}"
        f"\nvideos      {', '.join(made['videos'])}"
        f"\ntry         metarl adapt {made['run']} --task forward\n"
    )
