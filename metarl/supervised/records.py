"""Records of evaluated runs of supervised learning: how each was made, and what it scored on test tasks."""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path
from typing import Any

from metarl.files import read_json
from metarl.metrics import read_metrics
from metarl.run_folder import RunFolder

from .config import SupervisedConfig
from .datasets import OmniglotConfig, dataset_name, of_problem
from .learners import learner_name
from .presets import PRESETS, preset
from .runs import open_run

FREE = ("seed", "iterations", "data", "threads", "log_every", "validate_every", "validation_episodes")
"""Settings that may differ from a preset's without another name, beside those of checkpoints."""
SCORES = ("steps", "loss", "accuracy")


def is_supervised(path: Path) -> bool:
    """Whether a folder holds a run of supervised learning."""
    config = RunFolder(path).config
    return config.exists() and "problem" in read_json(config).get("config", {})


def supervised_record(path: Path) -> dict[str, Any]:
    """One JSON-ready record of a run and all evaluations in its folder. FileNotFoundError if there is none."""
    run, config = open_run(path)
    # Those with other seeds or steps last: tables show the first of a size.
    files = sorted(run.path.glob("evaluation*.json"), key=lambda file: (len(file.name), file.name))
    found = [read_json(file) for file in files]
    if not found:
        problem = of_problem(config.dataset)
        raise FileNotFoundError(f"{path} has not been evaluated; run: metarl {problem} evaluate {path}")
    made, last = read_json(run.config), found[0]
    return {
        "problem": of_problem(config.dataset),
        "on": dataset_name(config.dataset),
        "split": split_of(config),
        "learner": learner_name(config.algo),
        "preset": matching_preset(config),
        "seed": config.seed,
        "command": made["command"],
        "trained_for": last["trained_for"],
        "trained_with": last["trained_with"],
        "iterations": last["iterations"],
        "chosen_iteration": last["chosen_iteration"],
        "n_skipped": last["n_skipped"],
        "cpu_s": last["train_cpu_s"],
        "wall_s": last["train_wall_s"],
        "threads": config.threads,
        "machine": platform.machine(),
        "versions": last["versions"],
        "data": {key: value for key, value in last["data"].items() if key != "source"},
        "config": {key: value for key, value in made["config"].items() if key != "data"},
        "curve": _curve(path),
        "tests": [_test(one) for one in found],
    }


def record_file(record: dict[str, Any]) -> str:
    """File name of a record."""
    size = record["trained_for"]
    split = f"-{record['split']}" if record["split"] else ""
    way = f"{size['way']}way-" if record["problem"] == "fewshot" else ""
    return f"{record['on']}{split}-{record['learner']}-{way}{size['shot']}shot-seed{record['seed']}.json"


def split_of(config: SupervisedConfig) -> str:
    """How Omniglot's characters were split; "" for other data."""
    if not isinstance(config.dataset, OmniglotConfig):
        return ""
    return config.dataset.split + ("-within" if config.dataset.within_alphabet else "")


def matching_preset(config: SupervisedConfig) -> str:
    """The preset a config is of, the data and what only decides how long it runs aside; "custom" if none.

    Where the two differ in nothing else, it is the paper's.
    """
    learner, size = learner_name(config.algo), config.episodes
    free = {name: getattr(config, name) for name in (*FREE, "checkpoint_every")}
    for name in reversed(PRESETS):
        candidate = preset(dataset_name(config.dataset), learner, name, size.way, size.shot)
        if dataclasses.replace(candidate, **free, dataset=config.dataset) == config:
            return name
    return "custom"


def _curve(path: Path, points: int = 40) -> list[dict[str, Any]]:
    """The learning curve at so many points at most."""
    rows = read_metrics(path / "metrics.jsonl")
    rows = rows[:: max(1, -(-len(rows) // points))]
    return [{key: row[key] for key in ("iteration", "objective", "validation_accuracy")} for row in rows]


def _test(found: dict[str, Any]) -> dict[str, Any]:
    """One evaluation without what the record says already."""
    test = {key: found[key] for key in ("command", "way", "shot", "query", "episodes", "seed", "statistics")}
    test |= {key: found[key] for key in SCORES if key in found}
    return test | {"other_statistics": found["other_statistics"], "baselines": found["baselines"]}
