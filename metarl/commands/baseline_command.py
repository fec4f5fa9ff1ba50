"""`metarl baseline oracle|pretrained ENV`: train what meta-learning is compared with."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from metarl.baselines import BaselineConfig, BaselineKind, PPOConfig, baseline_folder, baseline_preset
from metarl.commands.checks import check_threads, check_writable, clock
from metarl.commands.console import Console
from metarl.commands.parsing import parse_args
from metarl.config import EnvConfig, config_from_dict, config_to_dict
from metarl.envs import ProtocolName
from metarl.ppo_training import CurvePoint, minibatch_size, read_record, train_baseline

OutPath = Annotated[
    Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: runs/baselines/ENV-PROTOCOL-KIND)")
]


@dataclass(frozen=True)
class EnvOptions:
    """Which environment."""

    protocol: ProtocolName = "modern"
    """modern: Gymnasium's physics and time step. finn2017: the paper's own environment."""
    horizon: int = 0
    """Control steps per episode; 0 for the family's own (200; 100 for the point)."""


@dataclass(frozen=True)
class Args:
    """Train a baseline on all training tasks with Stable-Baselines3's PPO.

    'metarl evaluate RUN --baselines' compares a run with both. Ctrl-C keeps what there is, and --resume goes on.
    """

    kind: Annotated[tyro.conf.Positional[BaselineKind], tyro.conf.arg(metavar="oracle|pretrained")]
    """oracle: sees the goal, an upper bound. pretrained: does not, and is adapted in the evaluation."""
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")]
    """Environment family; 'metarl list' shows them."""
    env: EnvOptions = field(default_factory=EnvOptions)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    steps: int = BaselineConfig.steps
    """Environment steps, rounded up to whole updates."""
    seed: int = 0
    """Seed of every random number."""
    out: OutPath = None
    """Folder of the baseline."""
    replace: tyro.conf.FlagCreatePairsOff[bool] = False
    """Replace a baseline that is there already."""
    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    """Go on with a baseline that was interrupted, or up to more --steps, with its settings. The learning rate falls to
    0 at the last step: with more of them it starts again from where it would be then."""
    threads: int = 0
    """Threads of the simulator, 0 for one per core. Does not change the results."""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print nothing but the folder."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object a line, each with "event": start, update, done."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    args = parse(argv)
    check_threads(args.threads)
    env = EnvConfig(args.name, args.env.protocol, oracle=args.kind == "oracle", horizon=args.env.horizon)
    config = BaselineConfig(args.kind, env, args.ppo, args.steps, args.seed)
    minibatch_size(config)
    console = Console(quiet=args.quiet, json=args.json)
    out = args.out or baseline_folder(args.kind, env)
    check_writable(out)
    with console:
        progress = Progress(config, out, console)
        train_baseline(
            config,
            out,
            n_threads=args.threads,
            command=shlex.join(["metarl", "baseline", *argv]),
            replace=args.replace,
            resume=args.resume,
            on_start=progress.start,
            on_update=progress.update,
        )
    console.result(str(out) if args.quiet else f"done: {out}")
    console.event("done", folder=str(out))
    return 0


def parse(argv: Sequence[str]) -> Args:
    """Options over the settings for the environment, or over those of a baseline to resume.

    ValueError for wrong ones, SystemExit after printing help. FileNotFoundError if there is none to resume.
    """
    first = parse_args(Args, argv, "metarl baseline")
    if first.replace and first.resume:
        raise ValueError("--replace and --resume exclude each other; give one")
    env = EnvConfig(first.name, first.env.protocol, oracle=first.kind == "oracle")
    usual = baseline_preset(first.kind, env)
    if first.resume:
        out = first.out or baseline_folder(first.kind, env)
        usual = config_from_dict(usual, read_record(out)["config"], f"{out}: settings")
        options = EnvOptions(usual.env.protocol, usual.env.horizon)
    else:
        options = first.env
    base = Args(first.kind, first.name, options, usual.ppo, usual.steps, usual.seed)
    return parse_args(Args, argv, "metarl baseline", base)


class Progress:
    """An update a line, as the console shows it."""

    def __init__(self, config: BaselineConfig, out: Path, console: Console) -> None:
        self.config = config
        self.out = out
        self.console = console

    def start(self) -> None:
        """Say what is trained."""
        config = self.config
        self.console.say(
            f"{config.env.name} ({config.env.protocol}), {config.kind}: {config.steps:,} steps, "
            f"{config.ppo.envs} episodes an update -> {self.out}\nreturns are means over new training tasks"
        )
        self.console.event("start", folder=str(self.out), config=config_to_dict(config))

    def update(self, point: CurvePoint) -> None:
        """Report an update."""
        rate = point.env_steps / point.wall_s
        left = max(0, self.config.steps - point.env_steps) / rate
        self.console.progress(
            f"{point.env_steps:>12,}/{self.config.steps:,}  return {point.mean_return:9.2f}  "
            f"std {point.mean_std:.2f}  {rate:8,.0f} steps/s  left {clock(left)}",
            last=point.env_steps >= self.config.steps,
        )
        self.console.event("update", **dataclasses.asdict(point))
