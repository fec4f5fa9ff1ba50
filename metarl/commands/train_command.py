"""`metarl train`: meta-train from a preset, a TOML file and options, or resume a run."""

from __future__ import annotations

import argparse
import shlex
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from metarl.checkpoint import TrainState
from metarl.commands.loading import check_writable
from metarl.config import TrainConfig, config_from_dict
from metarl.envs import PROTOCOLS, family_names
from metarl.presets import PRESETS, PresetName, preset
from metarl.runs import RunFolder
from metarl.train import IterationRecord, resume, train

DEFAULT_ENV = "half-cheetah-dir"


@dataclass(frozen=True)
class Args:
    """Meta-train a policy on a family of tasks.

    Settings come from the preset, then the TOML file, then these options.
    """

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")] = DEFAULT_ENV
    """Environment family; 'metarl list' shows them."""
    preset: PresetName = "default"
    """default: what learns fastest here. paper: Finn et al. 2017. demo: a first result in minutes."""
    settings: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
    config: Path | None = None
    """TOML file with settings, in tables as below: iterations = 100, then [algo] inner_lr = 0.2."""
    out: Path | None = None
    """Run folder; default: runs/ENV-PRESET-PROTOCOL-seedN, numbered if it exists."""
    threads: int = 0
    """Threads, 0 for one per core. Does not change the results."""
    quiet: bool = False
    """Print nothing but the run folder."""


@dataclass(frozen=True)
class ResumeArgs:
    """Continue a run from its checkpoint, bit for bit as if it had never stopped."""

    resume: Path
    """Run folder to continue."""
    iterations: int | None = None
    """New total of iterations; default: as first planned."""
    threads: int = 0
    """Threads, 0 for one per core. Does not change the results."""
    quiet: bool = False
    """Print nothing but the run folder."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    if any(a == "--resume" or a.startswith("--resume=") for a in argv):
        again = tyro.cli(ResumeArgs, args=argv, prog="metarl train")
        progress = Progress(quiet=again.quiet)
        run = resume(
            again.resume,
            n_threads=again.threads,
            iterations=again.iterations,
            on_start=progress.start,
            on_iteration=progress.iteration,
        )
        return progress.finish(run)
    args = parse(argv)
    out = args.out or free_folder(Path("runs"), run_name(args))
    check_writable(out)
    progress = Progress(quiet=args.quiet)
    run = train(
        args.settings,
        out,
        n_threads=args.threads,
        command=shlex.join(["metarl", "train", *argv]),
        on_start=progress.start,
        on_iteration=progress.iteration,
    )
    return progress.finish(run)


def parse(argv: Sequence[str]) -> Args:
    """Options over TOML over preset. ValueError or SystemExit (from tyro) for wrong ones."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="default")
    first.add_argument("--config", type=Path)
    first.add_argument("--env.protocol", dest="protocol")
    early, _ = first.parse_known_args(list(argv))
    # A name that stands first may be misspelt; elsewhere only a right one can be told from an option's value.
    leading = argv[0] if argv and not argv[0].startswith("-") else None
    env_name = leading or next((a for a in argv if a in family_names()), DEFAULT_ENV)
    if early.protocol is not None and early.protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {early.protocol!r}; allowed: {', '.join(PROTOCOLS)}")
    base = preset(env_name, early.preset, early.protocol)
    if early.config is not None:
        base = apply_toml(base, early.config)
    default = Args(name=base.env.name, preset=early.preset, settings=base)
    args = tyro.cli(Args, args=argv, default=default, prog="metarl train")
    if args.name != base.env.name:
        raise ValueError(f"the environment is {args.name!r} on the command line and {base.env.name!r} in {args.config}")
    return args


def apply_toml(base: TrainConfig, path: Path) -> TrainConfig:
    """Settings with those of a TOML file over them; errors name the file and the setting."""
    try:
        data = tomllib.loads(path.read_text())
    except OSError as error:
        raise OSError(f"cannot read {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from error
    return config_from_dict(base, data, str(path))


def run_name(args: Args) -> str:
    """Default name of a run folder."""
    settings = args.settings
    return f"{settings.env.name}-{args.preset}-{settings.env.protocol}-seed{settings.seed}"


def free_folder(parent: Path, name: str) -> Path:
    """parent/name, or parent/name-2, -3, ... when it exists."""
    path, number = parent / name, 2
    while path.exists():
        path, number = parent / f"{name}-{number}", number + 1
    return path


class Progress:
    """One line an iteration, readable in a terminal, a notebook and a log file alike."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.total = 0
        self.mean_s = 0.0

    def start(self, config: TrainConfig, state: TrainState, run: RunFolder) -> None:
        """Say what is about to happen."""
        self.total = config.iterations
        if self.quiet:
            return
        done = f", continuing at iteration {state.iteration}" if state.iteration else ""
        print(f"{config.env.name} ({config.env.protocol}): {config.iterations} iterations{done} -> {run.path}")
        print(
            f"each: {config.meta_batch} tasks x {config.trajectories} trajectories, before and after "
            f"{config.algo.inner_steps} gradient step(s); returns are means over training tasks",
            flush=True,
        )

    def iteration(self, record: IterationRecord) -> None:
        """Report an iteration."""
        seconds = record.iteration_s
        self.mean_s = seconds if self.mean_s == 0 else 0.8 * self.mean_s + 0.2 * seconds
        if self.quiet:
            return
        left = self.mean_s * (self.total - record.iteration - 1)
        diverged = f"  {record.n_diverged} simulations diverged" if record.n_diverged else ""
        print(
            f"{record.iteration + 1:>5}/{self.total}  before {record.return_before:9.2f}  "
            f"after {record.return_after:9.2f}  KL {record.kl:.4f}  {record.steps_per_s:8,.0f} steps/s  "
            f"left {clock(left)}{diverged}",
            flush=True,
        )

    def finish(self, run: RunFolder) -> int:
        """Say where everything is."""
        if self.quiet:
            print(run.path)
        else:
            print(f"done: {run.path}\nnext: metarl evaluate {run.path}", flush=True)
        return 0


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or mm:ss."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m:02d}:{s:02d}"


__all__ = ["PRESETS", "Args", "Progress", "main", "parse"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
