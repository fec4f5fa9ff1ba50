"""`metarl evaluate RUN`: adaptation on held-out tasks as a table, JSON and a plot."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from metarl.baselines import FOLDER, Baselines, load_baselines
from metarl.board import add_evaluation
from metarl.commands.adapt_command import check_adaptation
from metarl.commands.checks import check_least, check_writable
from metarl.commands.loading import LoadedRun, load_run
from metarl.commands.parsing import parse_args
from metarl.evaluate import evaluate
from metarl.figures import adaptation_figure
from metarl.presets import preset
from metarl.runs import json_text, versions, write_atomic
from metarl.workers import Workers

BaselinesPath = Annotated[
    Path | None,
    tyro.conf.arg(metavar="[DIR]", help_behavior_hint=f"(default: none; without DIR: {FOLDER})"),
]
OutPath = Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: RUN)")]


@dataclass(frozen=True)
class Args:
    """Return on held-out tasks after 0, 1, ... gradient steps, beside a random initialisation adapted as well.

    With --baselines also beside a pretrained policy adapted as well, and an oracle that observes the goal. Baselines
    take the run's step sizes; beside a run with a context, whose steps are of another kind, those of preset default.
    A pretrained policy takes smaller ones, or the context's, if they serve it better.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder made by 'metarl train', or the policy folder of an initialisation, such as RUN/policy."""
    tasks: int = 40
    """Held-out tasks. Paper: 40."""
    trajectories: int = 0
    """Episodes per task and step; 0 for as many as in training."""
    steps: int = 3
    """Gradient steps. Paper: 3, the later ones at half the step size."""
    seed: int = 1000
    """Seed of the held-out tasks and episodes."""
    threads: int = 0
    """Threads, 0 for one per core. Does not change the results."""
    baselines: BaselinesPath = None
    """Compare with the oracle and the pretrained policy in this folder, as 'metarl baseline' makes them."""
    out: OutPath = None
    """Folder for evaluation.json and evaluation.png."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the JSON and nothing else."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    args = parse_args(Args, with_default_folder(argv), "metarl evaluate")
    check_least("tasks", args.tasks, 1)
    check_adaptation(args.steps, args.trajectories, args.seed, args.threads)
    loaded = load_run(args.run)
    baselines = None if args.baselines is None else load_baselines(loaded.config.env, args.baselines)
    out = args.out or args.run
    check_writable(out)
    command = shlex.join(["metarl", "evaluate", *argv])
    report = None if args.json else _print_progress
    result = evaluate_run(
        loaded, args.tasks, args.trajectories, args.steps, args.seed, args.threads, command, report, baselines
    )
    paths = write_evaluation(loaded, result, out)
    if args.json:
        print(json_text(result), end="")
    else:
        print(table(result))
        print("written: " + ", ".join(map(str, paths)))
    return 0


def with_default_folder(argv: Sequence[str]) -> list[str]:
    """The arguments with the usual folder after a `--baselines` that names none."""
    out = list(argv)
    for i in reversed([i for i, token in enumerate(argv) if token == "--baselines"]):
        if i + 1 == len(argv) or argv[i + 1].startswith("-"):
            out.insert(i + 1, str(FOLDER))
    return out


def evaluate_run(
    loaded: LoadedRun,
    tasks: int,
    trajectories: int,
    steps: int,
    seed: int,
    threads: int,
    command: str,
    report: Any = None,
    baselines: Baselines | None = None,
) -> dict[str, Any]:
    """Evaluate a run's checkpoint; plain values for JSON."""
    config, workers = loaded.config, Workers(threads)
    # The step size that moves a context is of another scale than what suits all parameters.
    usual = preset(config.env.name, "default", config.env.protocol).algo if config.policy.context_dim else None
    try:
        result = evaluate(
            config.algo,
            loaded.family,
            loaded.policy,
            loaded.state.meta,
            n_tasks=tasks,
            n_steps=steps,
            trajectories=trajectories or config.trajectories,
            seed=seed,
            workers=workers,
            baselines=baselines,
            baseline_algo=usual,
            on_step=report,
        )
    finally:
        workers.close()
    head = {
        "env": config.env.name,
        "protocol": config.env.protocol,
        "iterations": loaded.state.iteration,
        "env_steps": loaded.state.env_steps,
        "train_wall_s": loaded.state.wall_s,
        "command": command,
    }
    return {**head, **result, "versions": versions()}


def write_evaluation(loaded: LoadedRun, result: Mapping[str, Any], out: Path) -> list[Path]:
    """Write evaluation.json and evaluation.png into a folder; returns their paths.

    Into the run's own folder, they also go into its TensorBoard. OSError if one cannot be written; an older one is then
    as it was.
    """
    title = f"{loaded.config.env.name} ({loaded.config.env.protocol}), {loaded.state.iteration} iterations"
    try:
        write_atomic(out / "evaluation.json", json_text(result))
        adaptation_figure(result, title, out / "evaluation.png")
    except OSError as error:
        raise OSError(
            f"cannot write {error.filename or out}: {error.strerror or error}; choose another folder with --out"
        ) from error
    if out.resolve() == loaded.folder.path.resolve() and loaded.folder.board.is_dir():
        add_evaluation(out, result, out / "evaluation.png")
    return [out / "evaluation.json", out / "evaluation.png"]


def table(result: Mapping[str, Any]) -> str:
    """The result for a terminal: a row per policy and named task, a column per gradient step."""
    n_columns = len(result["meta-trained"]["mean"])
    rows = [("meta-trained", result["meta-trained"])]
    rows += [(f"  {name}", group) for name, group in result["groups"].items()]
    rows += [(name, result[name]) for name in ("random initialisation", "pretrained", "oracle") if name in result]
    width = max(len(name) for name, _ in rows)
    head = " " * width + "".join(f"{f'{i} steps' if i != 1 else '1 step':>20}" for i in range(n_columns))
    lines = [
        f"{name:<{width}}"
        + "".join(f"{_with_interval(m, c):>20}" for m, c in zip(row["mean"], row["ci95"], strict=True))
        for name, row in rows
    ]
    if "score" in result:
        lines.append(f"{'score':<{width}}" + "".join(f"{_score(value):>20}" for value in result["score"]))
    note = (
        f"return on {result['n_tasks']} held-out tasks, {result['trajectories']} trajectories each, "
        "mean +- 95 % interval over tasks"
    )
    if "score" in result:
        note += "; score: 0 is random initialisation before adaptation, 1 the oracle"
    return "\n".join([note, head, *lines])


def _with_interval(mean: float, ci95: float) -> str:
    return f"{mean:.1f} +- {ci95:.1f}" if math.isfinite(ci95) else f"{mean:.1f}"  # one task has no interval


def _score(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "-"  # an oracle that is no better than random


def _print_progress(name: str, step: int) -> None:
    print(f"{name}: scored after {step} gradient step(s)", flush=True)
