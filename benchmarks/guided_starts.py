"""How well an oracle serves as the start of `--preset guided`: returns after gradient steps from it, by its settings.

python benchmarks/guided_starts.py ENV PROTOCOL [SETTING...]   SETTING: CONTEXT_SCALE,INNER_LR[,STD]

Adds a row for each setting to results/guided-starts.json. The oracle is runs/baselines/ENV-PROTOCOL-oracle, as `metarl
baseline oracle` makes it; the standard deviation of its actions is raised to STD. 8 tasks of the training distribution,
40 trajectories each, 3 gradient steps, no meta-training.
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
from metarl.evaluate import adaptation_path, summarise
from metarl.files import versions
from metarl.presets import preset
from metarl.runs import read_json, write_atomic
from metarl.start import load_start
from metarl.workers import Workers

RECORD = Path("results", "guided-starts.json")
TASKS, TRAJECTORIES, STEPS, SEED = 8, 40, 3, 3


def row(config: TrainConfig, setting: str) -> dict[str, Any]:
    """The record of one setting."""
    scale, inner_lr, *std = map(float, setting.split(","))
    algo = dataclasses.replace(config.algo, inner_lr=inner_lr)
    policy = dataclasses.replace(config.policy, context_scale=scale)
    config = dataclasses.replace(config, policy=policy, algo=algo, init_min_std=std[0] if std else 0.0)
    family = config.env.make()
    network, theta = load_start(config, family)
    tasks = family.tasks.sample(TASKS, np.random.default_rng(SEED), "train")
    with closing(Workers(1)) as workers:
        path = adaptation_path(
            algo,
            family,
            network,
            MetaParams(theta, torch.tensor(inner_lr)),
            tasks,
            n_steps=STEPS,
            trajectories=TRAJECTORIES,
            seed=np.random.SeedSequence(SEED),
            workers=workers,
        )
    found = summarise(path.returns)
    made = read_json(Path(config.init) / BASELINE_RECORD)
    return {
        "command": f"python benchmarks/guided_starts.py {config.env.name} {config.env.protocol} {setting}",
        "env": config.env.name,
        "protocol": config.env.protocol,
        "oracle": {key: made[key] for key in ("command", "seed", "env_steps")},
        "context_scale": scale,
        "inner_lr": inner_lr,
        "std": math.exp(float(network.layout.unflatten(theta)["log_std"].mean())),
        "std_replaced": bool(std),
        "later_lr_ratio": algo.later_lr_ratio,
        "n_tasks": TASKS,
        "trajectories": TRAJECTORIES,
        "seed": SEED,
        "mean": found.mean,
        "ci95": found.ci95,
        "versions": versions(),
    }


def main(argv: Sequence[str]) -> int:
    """Measure the settings; returns the exit code."""
    if len(argv) < 3 or argv[1] not in ("modern", "finn2017"):
        print(__doc__, file=sys.stderr)
        return 2
    torch.set_num_threads(1)
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
