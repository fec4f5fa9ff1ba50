"""`metarl record RUN` and `metarl record ENV --pretrained`: before and after adaptation, side by side, as a video."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from metarl.board import add_video
from metarl.commands.adapt_command import adapt_run, check_adaptation, task_slug
from metarl.commands.checks import check_least, check_writable
from metarl.commands.loading import LoadedRun, load_run, policy_source
from metarl.commands.parsing import parse_args
from metarl.envs import Family, GymnasiumFamily, ProtocolName, Tasks
from metarl.evaluate import AdaptationPath
from metarl.runs import json_text, read_json
from metarl.saved_policy import SavedPolicy
from metarl.seeding import Purpose, generator_for, seed_for
from metarl.videos import (
    Act,
    Backend,
    EglUnavailableError,
    Recording,
    check_pictures,
    record,
    record_environments,
    run_episode,
)

OutPath = Annotated[
    Path | None,
    tyro.conf.arg(
        metavar="FILE",
        help_behavior_hint="(default: RUN/videos/TASK.mp4; videos/ENV-PROTOCOL-TASK.mp4 for a pretrained policy)",
    ),
]
TaskText = Annotated[
    str | None, tyro.conf.arg(metavar="TASK", help_behavior_hint="(default: a held-out one, drawn with the seed)")
]
Protocol = Annotated[
    ProtocolName | None,
    tyro.conf.arg(metavar="{modern,finn2017}", help_behavior_hint="(default: modern if that ships, else another)"),
]


@dataclass(frozen=True)
class Args:
    """Video of the policy before | after adapting to a task."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder made by 'metarl train', or a policy folder such as RUN/policy; with --pretrained an environment."""
    task: TaskText = None
    """The goal: numbers as the family takes them (1.5 or 0.3,-0.2), or a name (forward)."""
    pretrained: tyro.conf.FlagCreatePairsOff[bool] = False
    """Film the policy that ships for an environment, without training: 'metarl list' shows which there are."""
    protocol: Protocol = None
    """Of the pretrained policy."""
    steps: int = 1
    """Gradient steps between the two."""
    trajectories: int = 0
    """Episodes a gradient step; 0 for as many as in training."""
    seed: int = 0
    """Seed of the adaptation and of the filmed episodes, which start from the same state."""
    sample: tyro.conf.FlagCreatePairsOff[bool] = False
    """Film sampled actions instead of the policy's mean."""
    gif: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write a GIF beside the MP4."""
    width: int = 480
    """Width of each of the two pictures, in pixels."""
    height: int = 360
    """Their height, in pixels."""
    backend: Backend = "auto"
    """Renderer of MuJoCo families: egl (OpenGL without a display), raycast (no system library), or egl if it works."""
    threads: int = 0
    """Threads of the adaptation, 0 for one per core."""
    out: OutPath = None
    """Video file; a JSON beside it says what it shows."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the JSON, with the paths of the files, and nothing else."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    args = parse_args(Args, argv, "metarl record")
    check_adaptation(args.steps, args.trajectories, args.seed, args.threads)
    check_least("width", args.width, 16)
    check_least("height", args.height, 16)
    if args.out is not None and args.out.suffix.lower() != ".mp4":
        raise ValueError(f"--out is {args.out}, but must end in .mp4; --gif writes a GIF beside it")
    loaded = load_run(policy_source(args.run, args.pretrained, args.protocol, "record", "films"))
    check_filmable(loaded, args.backend)
    if args.task is None:
        task = loaded.family.tasks.sample(1, generator_for(args.seed, Purpose.EVAL_TASKS), "test")
        slug = task_slug(loaded.family.describe(task.goal[0]))
    else:
        task, slug = loaded.task(args.task), task_slug(args.task)
    out = args.out or _default_out(loaded, slug, args.pretrained)
    check_writable(out.parent)
    try:
        recording = record_run(loaded, task, out, args, shlex.join(["metarl", "record", *argv]))
    except EglUnavailableError as error:
        raise OSError(str(error).replace('backend="raycast"', "--backend raycast")) from error
    if args.json:
        paths = {"mp4": str(recording.mp4), "json": str(recording.json), "gif": recording.gif and str(recording.gif)}
        print(json_text({**paths, **read_json(recording.json)}), end="")
        return 0
    print(f"video: {recording.mp4}")
    if recording.gif is not None:
        print(f"gif: {recording.gif}")
    return 0


def _default_out(loaded: LoadedRun, slug: str, pretrained: bool) -> Path:
    env = loaded.config.env
    # A pretrained policy's own folder is part of the installation.
    return (
        Path("videos", f"{env.name}-{env.protocol}-{slug}.mp4") if pretrained else loaded.folder.videos / f"{slug}.mp4"
    )


def record_run(loaded: LoadedRun, task: Tasks, out: Path, args: Args, command: str) -> Recording:
    """Adapt, film one episode before and one after from the same initial state, and write the video.

    command: the one that makes this video, for its JSON. A video in the run's own folder also goes into its
    TensorBoard.
    """
    path = adapt_run(loaded, task, args.steps, args.trajectories, args.seed, args.threads)
    on_board = out.parent.resolve() == loaded.folder.videos.resolve() and loaded.folder.board.is_dir()
    with tempfile.TemporaryDirectory(prefix="metarl-record-") as made:
        gif = out.with_suffix(".gif") if args.gif else Path(made, "film.gif") if on_board else None
        with torch.inference_mode():
            recording = _film(loaded, task.goal[0], path, out, gif, args, command)
        if on_board and gif is not None:
            add_video(loaded.folder.path, out.stem, gif, loaded.state.iteration)
    return recording if args.gif else replace(recording, gif=None)


def check_filmable(loaded: LoadedRun, backend: Backend) -> None:
    """ValueError, before the adaptation, for what cannot be filmed."""
    family = loaded.family
    if not isinstance(family, GymnasiumFamily):
        return
    if backend != "auto":
        raise ValueError(
            f"--backend {backend} films MuJoCo families; {family.name} runs Gymnasium environments, which make their "
            "own pictures: leave it out"
        )
    check_pictures(family, family.tasks.sample(1, np.random.default_rng(0)).goal[0])


def _film(
    loaded: LoadedRun, goal: np.ndarray, path: AdaptationPath, out: Path, gif: Path | None, args: Args, command: str
) -> Recording:
    """Both episodes, by the camera or by the environments' own pictures."""
    start, noise = seed_for(args.seed, Purpose.RECORD).spawn(2)

    def act_after(step: int) -> Act:
        policy = SavedPolicy(loaded.config.env, loaded.policy, path.params[step][0], goal, None, {})
        rng = np.random.default_rng(noise) if args.sample else None
        return lambda obs: policy.act(obs, rng)

    acts = [("before adaptation", act_after(0)), (_after(args.steps), act_after(args.steps))]
    metadata = {
        "run": str(loaded.folder.path) if not args.pretrained else f"pretrained {args.run}",
        "command": command,
        "iterations": loaded.state.iteration,
        "seed": args.seed,
        "gradient_steps": args.steps,
        "actions": "sampled" if args.sample else "mean",
        "mean_return_after_steps": path.returns[:, 0].tolist(),
    }
    width, height, family = args.width, args.height, loaded.family
    if isinstance(family, GymnasiumFamily):
        seed = int(np.random.default_rng(start).integers(2**31))
        return record_environments(
            family, goal, acts, seed, out, width=width, height=height, gif=gif, metadata=metadata
        )
    assert isinstance(family, Family)  # there are these two kinds
    episodes = [(title, run_episode(family, goal, act, np.random.default_rng(start))) for title, act in acts]
    return record(
        family, goal, episodes, out, width=width, height=height, gif=gif, backend=args.backend, metadata=metadata
    )


def _after(steps: int) -> str:
    return f"after {steps} gradient step{'s' if steps != 1 else ''}"
