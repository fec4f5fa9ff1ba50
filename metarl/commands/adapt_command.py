"""`metarl adapt RUN --task ...`: a policy adapted to one task, as a folder to use elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from metarl.commands.checks import check_least, check_writable
from metarl.commands.loading import LoadedRun, load_run
from metarl.commands.parsing import parse_args
from metarl.envs import Tasks
from metarl.evaluate import AdaptationPath, adaptation_path
from metarl.runs import json_text
from metarl.saved_policy import save_policy
from metarl.seeding import Purpose, seed_for
from metarl.workers import Workers

OutPath = Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: RUN/adapted-TASK)")]


@dataclass(frozen=True)
class Args:
    """Adapt a trained run to one task and save the policy as model.safetensors + config.json."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder made by 'metarl train', or the policy folder of an initialisation, such as RUN/policy."""
    task: Annotated[str, tyro.conf.arg(metavar="TASK")]
    """The goal: numbers as the family takes them (1.5 or 0.3,-0.2), or a name (forward)."""
    steps: int = 1
    """Gradient steps."""
    trajectories: int = 0
    """Episodes a gradient step; 0 for as many as in training."""
    seed: int = 0
    """Seed of the episodes."""
    threads: int = 0
    """Threads, 0 for one per core. Does not change the results."""
    out: OutPath = None
    """Folder for the policy; one that is there already is replaced."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object and nothing else."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    args = parse_args(Args, argv, "metarl adapt")
    check_adaptation(args.steps, args.trajectories, args.seed, args.threads)
    loaded = load_run(args.run)
    task = loaded.task(args.task)
    out = args.out or args.run / f"adapted-{task_slug(args.task)}"
    check_writable(out)
    path = adapt_run(loaded, task, args.steps, args.trajectories, args.seed, args.threads)
    returns = path.returns[:, 0].tolist()
    facts = {
        "goal": loaded.family.describe(task.goal[0]),
        "gradient_steps": args.steps,
        "return_after_steps": returns,
        "run": str(args.run),
        "iterations": loaded.state.iteration,
        "seed": args.seed,
    }
    save_policy(out, loaded.config, loaded.policy, path.params[-1][0], task=task.goal[0], extra=facts)
    if args.json:
        print(json_text({"policy": str(out), "task": task.goal[0].tolist(), **facts}), end="")
        return 0
    shown = ", ".join(f"{value:.1f}" for value in returns)
    print(f"{loaded.family.describe(task.goal[0])}: return after 0 to {args.steps} gradient steps: {shown}")
    print(f"policy: {out}")
    return 0


def check_adaptation(steps: int, trajectories: int, seed: int, threads: int) -> None:
    """ValueError for a count below what makes sense."""
    for option, value in (("steps", steps), ("trajectories", trajectories), ("seed", seed), ("threads", threads)):
        check_least(option, value, 0)


def adapt_run(loaded: LoadedRun, task: Tasks, steps: int, trajectories: int, seed: int, threads: int) -> AdaptationPath:
    """Adapt a run's initialisation to one task."""
    workers = Workers(threads)
    try:
        return adaptation_path(
            loaded.config.algo,
            loaded.family,
            loaded.policy,
            loaded.state.meta,
            task,
            n_steps=steps,
            trajectories=trajectories or loaded.config.trajectories,
            seed=seed_for(seed, Purpose.ADAPT),
            workers=workers,
        )
    finally:
        workers.close()


def task_slug(text: str) -> str:
    """A task as typed, for a file name."""
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in text.strip())
