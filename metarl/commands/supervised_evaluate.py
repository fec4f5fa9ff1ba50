"""`metarl fewshot evaluate RUN`, `metarl regression evaluate RUN`: test tasks as a table and JSON; Lake's protocol."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from metarl.commands.checks import check_least, check_writable
from metarl.commands.console import Console
from metarl.commands.parsing import DataPath, parse_args
from metarl.commands.supervised_progress import SupervisedProgress
from metarl.commands.supervised_table import lake_table, table
from metarl.files import json_text, versions, write_atomic
from metarl.supervised.datasets import ProblemName
from metarl.supervised.evaluation import evaluate
from metarl.supervised.lake_evaluation import evaluate_lake
from metarl.supervised.learners import learner_name
from metarl.supervised.pictures import write_pictures
from metarl.supervised.trained import Trained, open_trained

StepsOption = Annotated[
    int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: as many as the learner takes at test)")
]
OutPath = Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: RUN)")]
RunPath = Annotated[Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="(default: none)")]
RunsPath = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="(default: none)")]

OF_EPISODES = ("episodes", "way", "shot", "query", "steps", "seed")
"""Options that Lake's protocol has no use for."""


@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of both commands."""

    episodes: int = 600
    """Test tasks, the same ones for all that have this seed."""
    shot: int = 0
    """Support examples of a class, or support points; 0 for as many as trained for."""
    query: int = 0
    """Query examples of a class, or query points; 0 for as many as in the run's settings."""
    steps: StepsOption = None
    """Gradient steps to look at, of learners that take them."""
    seed: int = 1000
    """Seed of the test tasks."""
    data: DataPath = ""
    """Folder or zip with the data."""
    baselines: tyro.conf.FlagCreatePairsOff[bool] = False
    """Beside it, what needs no meta-training: nearest neighbour, and training from scratch."""
    threads: int = 1
    """Threads of torch."""
    out: OutPath = None
    """Folder for the JSON and the pictures."""
    no_pictures: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write the JSON alone."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the JSON and nothing else."""


@dataclass(frozen=True, kw_only=True)
class FewshotArgs(Common):
    """Accuracy on test tasks of classes that meta-training has not seen, after each number of gradient steps.

    With --protocol lake, the error on the runs of Lake et al. 2015; without RUN, that of two plain methods.
    """

    run: Annotated[
        tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[RUN]", help_behavior_hint="(default: none)")
    ] = None
    """Run folder made by 'metarl fewshot train'; lake can do without."""
    way: int = 0
    """Classes of a task; 0 for as many as trained for. Learners with an output for each class cannot do others."""
    protocol: Literal["episodes", "lake"] = "episodes"
    """episodes: tasks drawn from the test classes. lake: 20 runs of 20 characters of one alphabet."""
    runs: RunsPath = None
    """Folder or zip of runs for lake: RUN/training/*.png, RUN/test/*.png and RUN/class_labels.txt in each."""


@dataclass(frozen=True, kw_only=True)
class RegressionArgs(Common):
    """Mean squared error on test tasks after each number of gradient steps: mean and median."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder made by 'metarl regression train'."""
    oracle: RunPath = None
    """A run of the learner oracle, to be put beside it on the same tasks."""


def evaluate_command(problem: ProblemName, argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    prog = f"metarl {problem} evaluate"
    command = shlex.join(["metarl", problem, "evaluate", *argv])
    args = parse_args(FewshotArgs if problem == "fewshot" else RegressionArgs, argv, prog)
    assert isinstance(args, FewshotArgs | RegressionArgs)
    for option, least in (("episodes", 1), ("shot", 0), ("query", 0), ("seed", 0), ("threads", 1)):
        check_least(option, getattr(args, option), least)
    if args.steps is not None:
        check_least("steps", args.steps, 0)
    with Console(json=args.json) as console:
        if isinstance(args, FewshotArgs):
            check_least("way", args.way, 0)
            if args.protocol == "lake":
                return _lake(args, command, console)
            if args.runs is not None:
                raise ValueError("--runs belongs to Lake's protocol; add --protocol lake, or leave it out")
        if args.run is None:
            raise ValueError(f"no run is named; give the folder that 'metarl {problem} train' made: {prog} RUN")
        return _episodes(problem, args.run, args, command, console)


def _episodes(
    problem: ProblemName, path: Path, args: FewshotArgs | RegressionArgs, command: str, console: Console
) -> int:
    trained = open_trained(path, problem, args.data, SupervisedProgress(console).images)
    size = trained.size(args.way if isinstance(args, FewshotArgs) else 0, args.shot, args.query)
    trained.sampler(size)  # fail before anything is written
    oracle = None
    if isinstance(args, RegressionArgs) and args.oracle is not None:
        oracle = open_trained(args.oracle, problem)
        if learner_name(oracle.config.algo) != "oracle":
            raise ValueError(
                f"{args.oracle} is no run of an oracle; train one by: metarl regression train --learner oracle"
            )
    out = args.out or path
    check_writable(out)
    result = evaluate(
        trained,
        size,
        args.episodes,
        args.seed,
        steps=args.steps,
        baselines=args.baselines,
        oracle=oracle,
        threads=args.threads,
        progress=lambda name, done, total: console.progress(f"{name}: {done}/{total} tasks", last=done == total),
    )
    result = {"command": command, **result, "versions": versions()}
    stem = out / evaluation_name(trained, result, args)
    path = Path(f"{stem}.json")
    write_atomic(path, json_text(result))
    pictures = [] if args.no_pictures else write_pictures(trained, size, result, stem)
    return _say(result, table(result), [path, *pictures], console)


def _lake(args: FewshotArgs, command: str, console: Console) -> int:
    if args.runs is None:
        raise ValueError("--protocol lake needs runs; give a folder or zip of them by --runs, such as all_runs.zip")
    given = [name for name in OF_EPISODES if getattr(args, name) != getattr(FewshotArgs, name)]
    if given:
        raise ValueError(
            f"--{given[0]} is of tasks that are drawn; Lake's are what the runs hold, with one image of a class: leave "
            "it out"
        )
    out = args.out or args.run
    if out is not None and (args.out is not None or out.exists()):  # what is wrong with a run is said as it is opened
        check_writable(out)
    trained = None
    if args.run is not None:
        trained = open_trained(args.run, "fewshot", args.data, SupervisedProgress(console).images)
    result = evaluate_lake(
        trained, args.runs, baselines=args.baselines, threads=args.threads, progress=lambda name: console.progress(name)
    )
    result = {"command": command, **result, "versions": versions()}
    if out is None:
        return _say(result, lake_table(result), [], console)
    write_atomic(out / "lake.json", json_text(result))
    return _say(result, lake_table(result), [out / "lake.json"], console)


def evaluation_name(trained: Trained, result: Mapping[str, Any], args: FewshotArgs | RegressionArgs) -> str:
    """Name of the JSON without its ending: what is not as the run or the command has it is in it."""
    own = trained.config.episodes.size("test")
    parts = ["evaluation"]
    if (own.way, own.shot) != (result["way"], result["shot"]):
        parts += [f"{result['way']}way"] if result["problem"] == "fewshot" else []
        parts.append(f"{result['shot']}shot")
    if args.seed != Common.seed:
        parts.append(f"seed{args.seed}")
    if args.steps is not None:
        parts.append(f"{args.steps}steps")
    return "-".join(parts)


def _say(result: Mapping[str, Any], text: str, written: Sequence[Path], console: Console) -> int:
    if console.mode == "json":
        print(json_text(dict(result)), end="")
        return 0
    console.close()
    print(text)
    if written:
        print(f"written: {', '.join(map(str, written))}")
    return 0
