"""`metarl fewshot train` and `metarl regression train`: from a preset, a TOML file and options, or resume a run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from metarl.commands.checks import check_least, check_writable, explained_interrupt, free_folder
from metarl.commands.console import Console
from metarl.commands.parsing import DataPath, ResumePath, TomlPath, parse_args, read_toml, scan
from metarl.commands.supervised_progress import SupervisedProgress
from metarl.files import removed_if_empty
from metarl.settings import nearest
from metarl.supervised.config import SupervisedConfig, check_dataset, check_learner, config_from_dict
from metarl.supervised.datasets import DATASETS, DatasetName, ProblemName, of_problem
from metarl.supervised.learners import LearnerName
from metarl.supervised.presets import PRESETS, PresetName, preset
from metarl.supervised.runs import open_run
from metarl.supervised.train_state import iterations_done
from metarl.supervised.training import resume
from metarl.supervised.training import train as train_run

DEFAULTS: dict[ProblemName, tuple[DatasetName, LearnerName]] = {
    "fewshot": ("omniglot", "prototypical"),
    "regression": ("sinusoid", "maml"),
}
MANY = ("network.hidden",)

OutPath = Annotated[
    Path | None,
    tyro.conf.arg(
        metavar="DIR",
        help_behavior_hint="(default: runs/DATASET-LEARNER-[Nway-]Kshot-seedS, numbered if it exists)",
    ),
]


@dataclass(frozen=True)
class Args:
    """Meta-train a learner on few-shot tasks, or continue a run.

    Settings come from the preset for the data set, the learner and the size of the tasks, then the TOML file, then
    these options.
    """

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATASET")] = "omniglot"
    """Data set: omniglot, mini-imagenet or folder; sinusoid for regression."""
    learner: LearnerName = "prototypical"
    """Learner, whose settings are the options --algo; the command without options explains each."""
    preset: PresetName = "default"
    """default: what learns in minutes. paper: the settings of the learner's paper."""
    resume: ResumePath = None
    """Continue this run, bit for bit. Beside it go only a new total of iterations, data, quiet and json."""
    settings: Annotated[SupervisedConfig, tyro.conf.arg(name="")] = field(default_factory=SupervisedConfig)
    config: TomlPath = None
    """TOML file with settings, in tables as below: iterations = 100, then [algo] steps = 5; 'on' is the data set."""
    out: OutPath = None
    """Run folder."""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print nothing but the run folder."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object a line, each with "event": start, progress, done."""


@dataclass(frozen=True)
class ResumeArgs:
    """Continue a run from its checkpoint, bit for bit as if it had never stopped."""

    resume: Annotated[Path, tyro.conf.arg(metavar="RUN")]
    """Run folder to continue."""
    iterations: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: as planned)")] = None
    """New total of outer updates; schedules stretch to it."""
    data: DataPath = ""
    """Folder or zip with the data."""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print nothing but the run folder."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object a line, each with "event": start, progress, done."""


def train(problem: ProblemName, argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    command = shlex.join(["metarl", problem, "train", *argv])
    again = f"metarl {problem} train"
    if any(a == "--resume" or a.startswith("--resume=") for a in argv) and not {"-h", "--help"} & set(argv):
        options = parse_args(ResumeArgs, argv, f"{again} --resume RUN")
        if options.iterations is not None:
            check_least("iterations", options.iterations, 1)
        check_problem(problem, options.resume)
        with (
            explained_interrupt(options.resume, again, lambda run: iterations_done(run.checkpoint)),
            Console(quiet=options.quiet, json=options.json) as console,
        ):
            progress = SupervisedProgress(console)
            run = resume(
                options.resume,
                iterations=options.iterations,
                data=options.data,
                command=command,
                on_start=progress.start,
                on_row=progress.row,
                on_images=progress.images,
            )
            return progress.finish(run)
    args = parse(problem, argv)
    args.settings.check_learner()
    console = Console(quiet=args.quiet, json=args.json)
    out = args.out or free_folder(Path("runs"), run_name(args))
    check_writable(out)
    with (
        removed_if_empty(out),
        explained_interrupt(out, again, lambda run: iterations_done(run.checkpoint)),
        console,
    ):
        progress = SupervisedProgress(console)
        run = train_run(
            args.settings,
            out,
            command=command,
            on_start=progress.start,
            on_row=progress.row,
            on_images=progress.images,
        )
        return progress.finish(run)


def parse(problem: ProblemName, argv: Sequence[str]) -> Args:
    """Options over TOML over preset. ValueError for wrong ones, SystemExit after printing help."""
    at, early = scan(Args, argv, MANY)
    toml = read_toml(Path(early["config"])) if "config" in early else {}
    dataset, learner = DEFAULTS[problem]
    dataset = check_dataset(argv[at] if at is not None else toml.pop("on", dataset), problem)
    learner = check_learner(early.get("learner", toml.pop("learner", learner)))
    toml = {key: value for key, value in toml.items() if key not in ("problem", "on", "learner")}
    name: Any = early.get("preset", toml.pop("preset", "default"))
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; {nearest(str(name), PRESETS)}")
    # The preset depends on the size of the tasks, wherever that is named.
    sizes = toml.get("episodes", {}) if isinstance(toml.get("episodes"), dict) else {}
    way, shot = (_count(key, early.get(key, sizes.get(key))) for key in ("way", "shot"))
    base = preset(dataset, learner, name, way or 5, shot)
    if toml:
        base = config_from_dict(base, toml, early["config"])
    # To the front, where an option that takes several values cannot swallow it.
    ordered = list(argv) if at is None else [argv[at], *argv[:at], *argv[at + 1 :]]
    return parse_args(Args, ordered, f"metarl {problem} train", Args(dataset, learner, name, settings=base))


def check_problem(problem: ProblemName, path: Path) -> None:
    """ValueError if a run is of another problem."""
    found = of_problem(open_run(path)[1].dataset)
    if found != problem:
        raise ValueError(f"{path} is a run of {found}; use 'metarl {found} train --resume {path}'")


def run_name(args: Args) -> str:
    """Default name of a run folder."""
    episodes = args.settings.episodes
    way = f"{episodes.way}way-" if DATASETS[check_dataset(args.name)].problem == "fewshot" else ""
    preset_name = "" if args.preset == "default" else f"{args.preset}-"
    return f"{args.name}-{args.learner}-{preset_name}{way}{episodes.shot}shot-seed{args.settings.seed}"


def _count(name: str, given: Any) -> int | None:
    """An option that the preset depends on; what is wrong with it is said when the options are parsed."""
    try:
        count = int(given)
    except (TypeError, ValueError):
        return None
    return count if count > 0 else None
