"""`metarl export RUN --to sb3|onnx|pt2|torchscript`: a policy for programs without metarl."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from metarl.commands.adapt_command import adapt_run, check_adaptation, task_slug
from metarl.commands.checks import check_writable
from metarl.commands.console import Console
from metarl.commands.loading import LoadedRun, load_run, policy_source
from metarl.commands.parsing import parse_args
from metarl.envs import ProtocolName
from metarl.export import SUFFIX, ScalingPlace, Target, export_policy
from metarl.runs import json_text, read_json
from metarl.saved_policy import SavedPolicy, load_policy

OutPath = Annotated[
    Path | None,
    tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: RUN/exports/TASK.*; exports/ENV-PROTOCOL-TASK.*)"),
]
TaskText = Annotated[
    str | None, tyro.conf.arg(metavar="TASK", help_behavior_hint="(default: not adapted: the initialisation)")
]
Protocol = Annotated[
    ProtocolName | None,
    tyro.conf.arg(metavar="{modern,finn2017}", help_behavior_hint="(default: modern if that ships, else another)"),
]


@dataclass(frozen=True)
class Args:
    """Write a policy as a file for other programs: observation to mean action, clipped to [-1, 1]."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder, or policy folder (an initialisation, an adapted policy, a baseline); with --pretrained an
    environment."""
    to: Target
    """sb3: PPO of Stable-Baselines3. onnx. pt2: torch.export. torchscript: for old programs, torch deprecates it."""
    task: TaskText = None
    """Adapt to this goal first, as 'metarl adapt' does."""
    pretrained: tyro.conf.FlagCreatePairsOff[bool] = False
    """The policy that ships for an environment: 'metarl list' shows which there are."""
    protocol: Protocol = None
    """Of the pretrained policy."""
    steps: int = 1
    """Gradient steps of the adaptation."""
    trajectories: int = 0
    """Episodes a gradient step; 0 for as many as in training."""
    seed: int = 0
    """Seed of the adaptation."""
    scaling: ScalingPlace = "inside"
    """Where the scaling of observations goes, for sb3. inside: the zip, which then needs metarl to load. beside: a
    VecNormalize pickle, and the zip needs Stable-Baselines3 alone."""
    threads: int = 0
    """Threads of the adaptation, 0 for one per core. Does not change the results."""
    out: OutPath = None
    """File; a JSON beside it says what it is."""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print nothing but the file."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the JSON, with the paths of the files, and nothing else."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    args = parse_args(Args, argv, "metarl export")
    console = Console(quiet=args.quiet, json=args.json)
    check_adaptation(args.steps, args.trajectories, args.seed, args.threads)
    if args.out is not None and args.out.suffix != SUFFIX[args.to]:
        raise ValueError(f"--out is {args.out}, but its name must end in {SUFFIX[args.to]} for --to {args.to}")
    folder = policy_source(args.run, args.pretrained, args.protocol, "export", "exports")
    facts: dict[str, Any] = {
        "source": f"pretrained {args.run}" if args.pretrained else str(args.run),
        "command": shlex.join(["metarl", "export", *argv]),
    }
    finished = _as_it_is(folder, args)
    if finished is not None:
        policy, slug = finished, folder.name
    else:
        loaded = load_run(folder)
        task = None if args.task is None else loaded.task(args.task)
        slug = "initialisation" if args.task is None else task_slug(args.task)
    out = args.out or _default_out(args, folder, slug)
    check_writable(out.parent)
    if finished is None:
        policy, adapted = _initialisation_or_adapted(loaded, task, args)
        facts.update(adapted)
    written = export_policy(policy, args.to, out, scaling=args.scaling, facts=facts)
    if args.json:
        paths = {"model": str(written.model), "json": str(written.facts)}
        beside = {} if written.scaling is None else {"scaling": str(written.scaling)}
        print(json_text({**paths, **read_json(written.facts), **beside}), end="")
        return 0
    console.result(str(written.model) if args.quiet else f"{args.to}: {written.model}")
    if written.scaling is not None:
        console.say(f"scaling of observations: {written.scaling}")
    return 0


def _as_it_is(folder: Path, args: Args) -> SavedPolicy | None:
    """An adapted policy or a baseline, which is not adapted any more; None for a run or an initialisation."""
    if not (folder / "model.safetensors").is_file():
        return None
    policy = load_policy(folder)
    if policy.task is None and policy.step_size is not None:
        return None
    if args.task is not None:
        raise ValueError(f"the policy in {folder} cannot be adapted to --task; leave it out, or give its run folder")
    return policy


def _initialisation_or_adapted(loaded: LoadedRun, task: Any, args: Args) -> tuple[SavedPolicy, dict[str, Any]]:
    facts: dict[str, Any] = {"iterations": loaded.state.iteration}
    env = loaded.config.env
    if task is None:
        return SavedPolicy(env, loaded.policy, loaded.state.meta.theta, None, loaded.state.meta.step_size, {}), facts
    path = adapt_run(loaded, task, args.steps, args.trajectories, args.seed, args.threads)
    facts |= {
        "goal": loaded.family.describe(task.goal[0]),
        "gradient_steps": args.steps,
        "return_after_steps": path.returns[:, 0].tolist(),
        "seed": args.seed,
    }
    return SavedPolicy(env, loaded.policy, path.params[-1][0], task.goal[0], None, {}), facts


def _default_out(args: Args, folder: Path, slug: str) -> Path:
    # A pretrained policy's own folder is part of the installation.
    parent = Path("exports") if args.pretrained else folder / "exports"
    return parent / f"{f'{folder.name}-' if args.pretrained else ''}{slug}{SUFFIX[args.to]}"
