"""`metarl train`: meta-train from a preset, a TOML file and options, or resume a run."""

from __future__ import annotations

import dataclasses
import shlex
import tomllib
import typing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from metarl.algorithms.registry import DEFAULT_ALGORITHM, AlgorithmName
from metarl.commands.console import Console
from metarl.commands.loading import check_threads, check_writable
from metarl.commands.parsing import parse_args
from metarl.commands.train_progress import LogOptions, observed
from metarl.config import TrainConfig, check_algorithm, config_from_dict, nearest
from metarl.envs import PROTOCOLS
from metarl.metrics import read_metrics
from metarl.plugins import import_options
from metarl.presets import PresetName, preset
from metarl.runs import RunFolder
from metarl.train import resume, train

DEFAULT_ENV = "half-cheetah-dir"

ResumePath = Annotated[Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="(default: a new run)")]
TomlPath = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: none)")]
OutPath = Annotated[
    Path | None,
    tyro.conf.arg(
        metavar="DIR",
        help_behavior_hint="(default: runs/ENV-[ALGORITHM-]PRESET-PROTOCOL-seedN, numbered if it exists)",
    ),
]


@dataclass(frozen=True)
class Args:
    """Meta-train a policy on a family of tasks, or continue a run.

    Settings come from the preset, then the TOML file, then these options.
    """

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")] = DEFAULT_ENV
    """Environment family; 'metarl list' shows them."""
    preset: PresetName = "default"
    """default: what learns fastest here. paper: Finn et al. 2017. demo: a first result in minutes."""
    algorithm: AlgorithmName = DEFAULT_ALGORITHM
    """Algorithm, whose settings are the options --algo; 'metarl list' explains them."""
    resume: ResumePath = None
    """Continue this run, bit for bit. Beside it go only a new total of iterations, threads, quiet, json and log."""
    settings: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
    config: TomlPath = None
    """TOML file with settings, in tables as below: iterations = 100, then [algo] inner_lr = 0.2."""
    out: OutPath = None
    """Run folder."""
    threads: int = 0
    """Threads, 0 for one per core. Does not change the results."""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print nothing but the run folder."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object a line, each with "event": start, iteration, done."""
    log: LogOptions = field(default_factory=LogOptions)


@dataclass(frozen=True)
class ResumeArgs:
    """Continue a run from its checkpoint, bit for bit as if it had never stopped."""

    resume: Annotated[Path, tyro.conf.arg(metavar="RUN")]
    """Run folder to continue."""
    iterations: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: as planned)")] = None
    """New total of outer updates."""
    threads: int = 0
    """Threads, 0 for one per core. Does not change the results."""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print nothing but the run folder."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object a line, each with "event": start, iteration, done."""
    log: LogOptions = field(default_factory=LogOptions)


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    command = shlex.join(["metarl", "train", *argv])
    if any(a == "--resume" or a.startswith("--resume=") for a in argv) and not {"-h", "--help"} & set(argv):
        again = parse_args(ResumeArgs, argv, "metarl train --resume RUN")
        check_threads(again.threads)
        console = Console(quiet=again.quiet, json=again.json)
        with explained_interrupt(again.resume), observed(console, again.log) as (progress, on_start, on_iteration):
            run = resume(
                again.resume,
                n_threads=again.threads,
                iterations=again.iterations,
                command=command,
                on_start=on_start,
                on_iteration=on_iteration,
            )
        return progress.finish(run)
    args = parse(argv)
    check_threads(args.threads)
    console = Console(quiet=args.quiet, json=args.json)
    out = args.out or free_folder(Path("runs"), run_name(args))
    check_writable(out)
    with explained_interrupt(out), observed(console, args.log) as (progress, on_start, on_iteration):
        run = train(
            args.settings,
            out,
            n_threads=args.threads,
            command=command,
            on_start=on_start,
            on_iteration=on_iteration,
        )
    return progress.finish(run)


@contextmanager
def explained_interrupt(path: Path) -> Iterator[None]:
    """Ctrl-C and SIGTERM say how to go on with the run."""
    try:
        yield
    except KeyboardInterrupt:
        if not RunFolder(path).config.exists():
            raise
        metrics = path / "metrics.jsonl"
        rows = len(read_metrics(metrics)) if metrics.exists() else 0
        done = f" after {rows} iterations" if rows else ""
        again = f"metarl train --resume {path}{import_options()}"
        raise KeyboardInterrupt(f"interrupted{done}; go on with '{again}'") from None


def parse(argv: Sequence[str]) -> Args:
    """Options over TOML over preset. ValueError for wrong ones, SystemExit after printing help."""
    at, early = scan(argv)
    env_name = None if at is None else argv[at]
    # To the front, where an option that takes several values cannot swallow it.
    ordered = list(argv) if at is None else [argv[at], *argv[:at], *argv[at + 1 :]]
    toml = read_toml(Path(early["config"])) if "config" in early else {}
    of_env = toml.get("env", {}) if isinstance(toml.get("env"), dict) else {}
    env_name = env_name or str(of_env.get("name", DEFAULT_ENV))
    protocol = early.get("env.protocol", of_env.get("protocol"))
    if protocol not in (None, *PROTOCOLS):
        raise ValueError(f"unknown protocol {protocol!r}; {nearest(str(protocol), PROTOCOLS)}")
    # The preset depends on the environment, the protocol and the algorithm, wherever they are named.
    algorithm = check_algorithm(early.get("algorithm", toml.pop("algorithm", DEFAULT_ALGORITHM)))
    base = preset(env_name, early.get("preset", "default"), protocol, algorithm)
    if toml:
        base = config_from_dict(base, toml, early["config"])
        base = replace(base, env=replace(base.env, name=env_name))
    default = Args(name=env_name, algorithm=algorithm, settings=base)
    return parse_args(Args, ordered, "metarl train", default)


def scan(argv: Sequence[str]) -> tuple[int | None, dict[str, str]]:
    """Where the environment stands, and the options' values, before it is known which preset gives their defaults."""
    flags = _flags(Args)
    values: dict[str, str] = {}
    at, i = None, 0
    while i < len(argv):
        token = argv[i]
        i += 1
        option, has_value, value = token.removeprefix("--").partition("=")
        option = option.replace("_", "-")
        if not token.startswith("-"):
            at = i - 1 if at is None else at
        elif has_value:
            values[option] = value
        elif option not in flags and token not in ("-h", "--help") and i < len(argv):
            values[option] = argv[i]
            i += 1
            while option == "policy.hidden-sizes" and i < len(argv) and argv[i].isdigit():
                i += 1
    return at, values


def _flags(kind: Any, prefix: str = "") -> set[str]:
    """Names of the options that take no value."""
    names = set()
    for name, wanted in typing.get_type_hints(kind).items():
        option = name.replace("_", "-")
        if wanted is bool:
            names |= {f"{prefix}{option}", f"{prefix}no-{option}"}
        for kind_of in typing.get_args(wanted) or (wanted,):  # one of the algorithms, or a table itself
            if dataclasses.is_dataclass(kind_of):
                names |= _flags(kind_of, "" if name == "settings" else f"{prefix}{option}.")
    return names


def read_toml(path: Path) -> dict[str, Any]:
    """The settings in a TOML file. ValueError or OSError names the file."""
    try:
        return tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise type(error)(f"cannot read {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from error


def run_name(args: Args) -> str:
    """Default name of a run folder."""
    settings = args.settings
    algorithm = "" if args.algorithm == DEFAULT_ALGORITHM else f"{args.algorithm}-"
    return f"{settings.env.name}-{algorithm}{args.preset}-{settings.env.protocol}-seed{settings.seed}"


def free_folder(parent: Path, name: str) -> Path:
    """parent/name, or parent/name-2, -3, ... when it exists."""
    path, number = parent / name, 2
    while path.exists():
        path, number = parent / f"{name}-{number}", number + 1
    return path
