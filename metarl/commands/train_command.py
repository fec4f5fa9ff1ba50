"""`metarl train`: meta-train from a preset, a TOML file and options, or resume a run; alone or under `torchrun`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from metarl.algorithms.registry import DEFAULT_ALGORITHM, AlgorithmName
from metarl.assist import assist
from metarl.commands.checks import (
    check_threads,
    check_writable,
    explained_interrupt,
    free_folder,
    last_folder,
)
from metarl.commands.console import Console
from metarl.commands.parsing import ResumePath, TomlPath, parse_args, read_toml, scan
from metarl.commands.train_progress import LogOptions, observed
from metarl.config import TrainConfig, check_algorithm, config_from_dict, nearest
from metarl.devices import device_of
from metarl.distributed import joined, launch_of
from metarl.envs import PROTOCOLS
from metarl.files import removed_if_empty
from metarl.group import Group
from metarl.plugins import import_named
from metarl.presets import PresetName, preset
from metarl.runs import holds_run_of
from metarl.train import resume, train

DEFAULT_ENV = "half-cheetah-dir"
MANY = ("policy.hidden-sizes",)

OutPath = Annotated[
    Path | None,
    tyro.conf.arg(
        metavar="DIR",
        help_behavior_hint="(default: runs/ENV-[ALGORITHM-]PRESET-PROTOCOL-seedN, numbered if it exists)",
    ),
]
Device = Annotated[str, tyro.conf.arg(metavar="cpu|cuda|cuda:N")]


@dataclass(frozen=True)
class Args:
    """Meta-train a policy on a family of tasks, or continue a run.

    Settings come from the preset, then the TOML file, then these options.
    """

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")] = DEFAULT_ENV
    """Environment family; 'metarl list' shows them."""
    preset: PresetName = "default"
    """default: what learns fastest here. paper: Finn et al. 2017. demo: first results. guided: from an oracle."""
    algorithm: AlgorithmName = DEFAULT_ALGORITHM
    """Algorithm, whose settings are the options --algo; 'metarl list' explains them."""
    resume: ResumePath = None
    """Continue this run, bit for bit. Beside it go only a new total of iterations, threads, device, quiet, json and
    log."""
    settings: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
    config: TomlPath = None
    """TOML file with settings, in tables as below: iterations = 100, then [algo] inner_lr = 0.2."""
    out: OutPath = None
    """Run folder."""
    threads: int = 0
    """Threads, of each process; 0 for one per core. Does not change the results."""
    device: Device = "cpu"
    """Where the learner computes: cpu, or a GPU (cuda, cuda:1). Simulation is on the CPU."""
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
    """Threads, of each process; 0 for one per core. Does not change the results."""
    device: Device = "cpu"
    """Where the learner computes: cpu, or a GPU (cuda, cuda:1). Simulation is on the CPU."""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print nothing but the run folder."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object a line, each with "event": start, iteration, done."""
    log: LogOptions = field(default_factory=LogOptions)


def main(argv: Sequence[str]) -> int:
    """Run the command, as one process or as one of those that `torchrun` starts; returns the exit code."""
    launch = launch_of(os.environ)
    with joined(launch) as group:
        command = shlex.join(["metarl", "train", *argv])
        argv = import_named("train", argv)
        if group.rank > 0:
            assist(group)
            return 0
        if any(a == "--resume" or a.startswith("--resume=") for a in argv) and not {"-h", "--help"} & set(argv):
            again = parse_args(ResumeArgs, argv, "metarl train --resume RUN")
            return _resume(again, again.resume, command, group)
        return _train(parse(argv), command, group, restarted=launch is not None and launch.restarts > 0)


def _train(args: Args, command: str, group: Group, restarted: bool) -> int:
    """restarted: `torchrun` runs the command again, since a process failed; it goes on with what it made."""
    check_threads(args.threads)
    console = Console(quiet=args.quiet, json=args.json)
    group.divide(args.settings.meta_batch)
    device = device_of(args.device, group)
    if restarted:
        made = args.out or last_folder(Path("runs"), run_name(args))
        if holds_run_of(made, args.settings):
            return _resume(args, made, command, group)
    out = args.out or free_folder(Path("runs"), run_name(args))
    check_writable(out)
    with (
        removed_if_empty(out),
        explained_interrupt(out),
        observed(console, args.log) as (progress, on_start, on_iteration),
    ):
        run = train(
            args.settings,
            out,
            n_threads=args.threads,
            device=device,
            group=group,
            command=command,
            on_start=on_start,
            on_iteration=on_iteration,
        )
    return progress.finish(run)


def _resume(args: Args | ResumeArgs, path: Path, command: str, group: Group) -> int:
    check_threads(args.threads)
    console = Console(quiet=args.quiet, json=args.json)
    with explained_interrupt(path), observed(console, args.log) as (progress, on_start, on_iteration):
        run = resume(
            path,
            n_threads=args.threads,
            device=device_of(args.device, group),
            group=group,
            iterations=args.iterations if isinstance(args, ResumeArgs) else None,
            command=command,
            on_start=on_start,
            on_iteration=on_iteration,
        )
    return progress.finish(run)


def parse(argv: Sequence[str]) -> Args:
    """Options over TOML over preset. ValueError for wrong ones, SystemExit after printing help."""
    at, early = scan(Args, argv, MANY)
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


def run_name(args: Args) -> str:
    """Default name of a run folder."""
    settings = args.settings
    algorithm = "" if args.algorithm == DEFAULT_ALGORITHM else f"{args.algorithm}-"
    return f"{settings.env.name}-{algorithm}{args.preset}-{settings.env.protocol}-seed{settings.seed}"
