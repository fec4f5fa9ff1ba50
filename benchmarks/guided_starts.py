"""How well an oracle serves as the start of `--preset guided`: returns after gradient steps from it, by its settings.

python benchmarks/guided_starts.py ENV PROTOCOL [SETTING...]   SETTING: SCALE,INNER_LR[,STD[,GUESS[,LAMBDA[,WEIGHT]]]]
python benchmarks/guided_starts.py goals ENV PROTOCOL SETTING... the goals that adaptation takes tasks for: a figure

The first adds a row for each setting to results/guided-starts.json. The oracle is runs/baselines/ENV-PROTOCOL-oracle,
as `metarl baseline oracle` makes it; SCALE is the context's; the standard deviation of its actions is raised to STD;
GUESS is that of the guesses before adaptation; LAMBDA that of the advantages; WEIGHT is that of the guesses'
likelihood; all else is the preset's, or where GUESS is 0 that of a preset without guesses. 8 tasks of the training
distribution, 40 trajectories each, 3 gradient steps, no meta-training. The second takes 40 tasks and 20 trajectories,
of a family whose goal is one number, and writes results/guided-goals.json and docs/learning-goals.png.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metarl.algorithms.maml import MetaParams
from metarl.baselines import RECORD as BASELINE_RECORD
from metarl.config import TrainConfig
from metarl.drawing import figure_file
from metarl.envs import Tasks
from metarl.evaluate import AdaptationPath, adaptation_path, summarise
from metarl.files import versions
from metarl.policies import GaussianMLP
from metarl.presets import GUIDED_START, GuidedStart, guided, preset
from metarl.runs import read_json, write_atomic
from metarl.saved_policy import load_policy
from metarl.start import load_start
from metarl.workers import Workers

RECORD = Path("results", "guided-starts.json")
GOALS, GOALS_FIGURE = Path("results", "guided-goals.json"), Path("docs", "learning-goals.png")
TASKS, TRAJECTORIES, STEPS, SEED = 8, 40, 3, 3
GOAL_TASKS = 40


@dataclasses.dataclass(frozen=True)
class Adapted:
    """Tasks adapted from an oracle."""

    network: GaussianMLP
    theta: torch.Tensor
    """Before adaptation."""
    tasks: Tasks
    path: AdaptationPath


def with_setting(config: TrainConfig, setting: str) -> TrainConfig:
    """The preset with one setting."""
    values = [float(value) for value in setting.split(",")]
    scale, inner_lr, std, guess_std, gae_lambda, guess_weight = values + [0.0] * (6 - len(values))
    where = (config.env.name, config.env.protocol)
    usual = GUIDED_START.get(where, GuidedStart()) if guess_std else GuidedStart()
    start = dataclasses.replace(usual, context_scale=scale, min_std=std, guess_std=guess_std, guess_weight=guess_weight)
    if gae_lambda:
        start = dataclasses.replace(start, gae_lambda=gae_lambda)
    config = guided(*where, start)
    return dataclasses.replace(config, algo=dataclasses.replace(config.algo, inner_lr=inner_lr))


def adapted(config: TrainConfig, n_tasks: int, trajectories: int) -> Adapted:
    """Gradient steps of training tasks, from the oracle."""
    family = config.env.make()
    network, theta = load_start(config, family)
    tasks = family.tasks.sample(n_tasks, np.random.default_rng(SEED), "train")
    with closing(Workers(1)) as workers:
        path = adaptation_path(
            config.algo,
            family,
            network,
            MetaParams(theta, torch.tensor(config.algo.inner_lr)),
            tasks,
            n_steps=STEPS,
            trajectories=trajectories,
            seed=np.random.SeedSequence(SEED),
            workers=workers,
        )
    return Adapted(network, theta, tasks, path)


def row(config: TrainConfig, setting: str) -> dict[str, Any]:
    """The record of one setting."""
    config = with_setting(config, setting)
    start = adapted(config, TASKS, TRAJECTORIES)
    network, entries = start.network, start.network.layout.unflatten(start.theta)
    found = summarise(start.path.returns)
    made = read_json(Path(config.init) / BASELINE_RECORD)
    return {
        "command": f"python benchmarks/guided_starts.py {config.env.name} {config.env.protocol} {setting}",
        "env": config.env.name,
        "protocol": config.env.protocol,
        "oracle": {key: made[key] for key in ("command", "seed", "env_steps")},
        "context_scale": config.policy.context_scale,
        "inner_lr": config.algo.inner_lr,
        "std": math.exp(float(entries[network.log_std_name(network.guess_dim > 0)].mean())),
        "std_replaced": bool(config.init_min_std),
        "guess_std": config.policy.guess_std,
        "guess_weight": config.algo.guess_weight,
        "later_lr_ratio": config.algo.later_lr_ratio,
        "baseline": config.algo.baseline,
        "gae_lambda": config.algo.gae_lambda,
        "n_tasks": TASKS,
        "trajectories": TRAJECTORIES,
        "seed": SEED,
        "mean": found.mean,
        "ci95": found.ci95,
        "versions": versions(),
    }


def goals(config: TrainConfig, setting: str) -> dict[str, Any]:
    """The goal of each task, and those that its context stands for after 1, 2, ... gradient steps."""
    config = with_setting(config, setting)
    start = adapted(config, GOAL_TASKS, config.trajectories)
    oracle = load_policy(Path(config.init)).network.normaliser
    assert oracle is not None  # its goal is scaled like its other observations
    context = start.network.layout.slices["context"]
    scaled = [start.network.context_scale * params[:, context].double().numpy() for params in start.path.params[1:]]
    taken = [oracle.mean[-1] + oracle.std[-1] * value for value in scaled]
    return {
        "setting": setting,
        "guess_std": config.policy.guess_std,
        "guess_weight": config.algo.guess_weight,
        "goal": start.tasks.goal[:, 0].tolist(),
        "taken_for": [values[:, 0].tolist() for values in taken],
        "mean": summarise(start.path.returns).mean,
    }


def goals_record(config: TrainConfig, settings: Sequence[str]) -> dict[str, Any]:
    """The same for several settings, with what they have in common."""
    return {
        "command": " ".join(
            ["python benchmarks/guided_starts.py goals", config.env.name, config.env.protocol, *settings]
        ),
        "env": config.env.name,
        "protocol": config.env.protocol,
        "n_tasks": GOAL_TASKS,
        "trajectories": config.trajectories,
        "seed": SEED,
        "settings": [goals(config, setting) for setting in settings],
        "versions": versions(),
    }


def goals_figure(record: dict[str, Any], name: str, path: Path) -> None:
    """The goals that tasks are taken for against their own, a panel a setting; name: of the goal, with its unit."""
    settings = record["settings"]
    with figure_file(path, (4.5 * len(settings), 4)) as drawing:
        panels = drawing.subplots(1, len(settings), squeeze=False, sharey=True)[0]
        for axes, found in zip(panels, settings, strict=True):
            ends = [min(found["goal"]), max(found["goal"])]
            axes.plot(ends, ends, color="#444444", linestyle=":", linewidth=1, label="as it should be")
            for steps, (values, colour) in enumerate(
                zip(found["taken_for"], ("#c8691e", "#1f5fbf", "#2e8b57"), strict=True), 1
            ):
                label = f"after {steps} gradient step{'s' if steps > 1 else ''}"
                axes.plot(found["goal"], values, "o", color=colour, markersize=4, label=label)
            axes.set_xlabel(f"{name}: the task's")
            title = "without guesses" if not found["guess_std"] else "guesses before adaptation"
            axes.set_title(title + (", with their likelihood" if found["guess_weight"] else ""), fontsize=10)
            axes.grid(alpha=0.3)
        panels[0].set_ylabel(f"{name}: what the context stands for")
        panels[0].legend(fontsize=8)
        drawing.suptitle(f"{record['env']} ({record['protocol']}), no meta-training", fontsize=10)


def main(argv: Sequence[str]) -> int:
    """Measure the settings; returns the exit code."""
    torch.set_num_threads(1)
    if len(argv) >= 4 and argv[0] == "goals" and argv[2] in ("modern", "finn2017"):
        config = preset(argv[1], "guided", argv[2])  # type: ignore[arg-type]
        record = goals_record(config, argv[3:])
        write_atomic(GOALS, json.dumps(record, indent=1) + "\n")
        goals_figure(record, config.env.make().tasks.names[0], GOALS_FIGURE)
        return 0
    if len(argv) < 3 or argv[1] not in ("modern", "finn2017"):
        print(__doc__, file=sys.stderr)
        return 2
    RECORD.parent.mkdir(exist_ok=True)
    config = preset(argv[0], "guided", argv[1])  # type: ignore[arg-type]
    rows = read_json(RECORD)["rows"] if RECORD.exists() else []
    for setting in argv[2:]:
        found = row(config, setting)
        print(setting, "std", round(found["std"], 3), [round(value, 1) for value in found["mean"]], flush=True)
        rows.append(found)
        write_atomic(RECORD, json.dumps({"rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
