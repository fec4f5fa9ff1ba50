"""What a run folder has recorded, read and checked: the report's only input."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metarl.config import TrainConfig
from metarl.metrics import read_metrics
from metarl.runs import RunFolder, open_run, read_json

META, RANDOM, PRETRAINED = "meta-trained", "random initialisation", "pretrained on all tasks"


@dataclass(frozen=True)
class Curve:
    """Returns after 0, 1, ... gradient steps: mean over tasks and half its 95 % interval (NaN: none)."""

    mean: tuple[float, ...]
    ci95: tuple[float, ...]


@dataclass(frozen=True)
class Evaluation:
    """An evaluation on held-out tasks."""

    n_tasks: int
    trajectories: int
    seed: int
    iterations: int
    """Iterations of the checkpoint that was evaluated."""
    command: str
    curves: dict[str, Curve]
    """META, RANDOM and, if measured, PRETRAINED."""
    groups: dict[str, Curve]
    """The meta-trained curve per named task."""
    oracle: float | None
    """Return of a policy that observes the goal, without adaptation."""
    score: tuple[float, ...] | None
    """(return - random at 0 steps) / (oracle - random at 0 steps) after 0, 1, ... steps."""

    @property
    def steps(self) -> int:
        """Gradient steps."""
        return len(self.curves[META].mean) - 1


@dataclass(frozen=True)
class Video:
    """A recorded video and the JSON beside it ({} without one)."""

    path: Path
    facts: dict[str, Any]


@dataclass(frozen=True)
class RunRecord:
    """One run."""

    label: str
    """Name to tell it from the others of a report."""
    path: Path
    config: TrainConfig
    made: dict[str, Any]
    """config.json: settings, seed, command, versions, resumptions."""
    rows: list[dict[str, float]]
    """metrics.jsonl."""
    evaluation: Evaluation | None
    videos: list[Video] = field(default_factory=list)

    def column(self, name: str) -> list[float]:
        """One metric, iteration by iteration; NaN where it is missing."""
        return [row.get(name, math.nan) for row in self.rows]

    @property
    def env_steps(self) -> float:
        """Environment steps so far."""
        return self.column("env_steps")[-1] if self.rows else 0.0

    @property
    def wall_s(self) -> float:
        """Wall time of training so far (s)."""
        return self.column("wall_s")[-1] if self.rows else 0.0


def read_runs(paths: Sequence[Path]) -> list[RunRecord]:
    """Records of run folders, in this order; one that is named twice appears once.

    Raises FileNotFoundError for what is no run folder, ValueError naming the file that is damaged.
    """
    first: dict[Path, Path] = {}
    for path in paths:
        first.setdefault(path.resolve(), path)
    unique = list(first.values())
    names = [path.resolve().name for path in unique]
    labels = [name if names.count(name) == 1 else str(path) for name, path in zip(names, unique, strict=True)]
    return [_read_run(path, label) for path, label in zip(unique, labels, strict=True)]


def _read_run(path: Path, label: str) -> RunRecord:
    run, config = open_run(path)
    made = read_json(run.config)
    metrics = path / "metrics.jsonl"
    return RunRecord(
        label=label,
        path=path,
        config=config,
        made=made,
        rows=_read_rows(metrics) if metrics.is_file() else [],
        evaluation=_read_evaluation(run) if run.evaluation.is_file() else None,
        videos=[_read_video(video) for video in sorted(run.videos.glob("*.mp4"))],
    )


def _read_rows(path: Path) -> list[dict[str, float]]:
    try:
        return [{name: _number(value) for name, value in row.items()} for row in read_metrics(path)]
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; restore it from a copy") from error


def _read_evaluation(run: RunFolder) -> Evaluation:
    data = read_json(run.evaluation)
    try:
        return _evaluation_from(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise ValueError(
            f"{run.evaluation} is damaged: {reason}; make it anew with 'metarl evaluate {run.path}'"
        ) from error


def _evaluation_from(data: Mapping[str, Any]) -> Evaluation:
    baselines = data.get("baselines") or {}
    curves = {META: _curve(data[META]["mean"], data[META].get("ci95"))}
    if RANDOM in data:
        curves[RANDOM] = _curve(data[RANDOM]["mean"], data[RANDOM].get("ci95"))
    for name, key in ((RANDOM, "random"), (PRETRAINED, "pretrained")):
        if name not in curves and (found := _named_curve(baselines, key)) is not None:
            curves[name] = found
    oracle = _named_curve(baselines, "oracle")
    score = data.get("score")
    return Evaluation(
        n_tasks=int(data["n_tasks"]),
        trajectories=int(data["trajectories"]),
        seed=int(data["seed"]),
        iterations=int(data["iterations"]),
        command=str(data["command"]),
        curves=curves,
        groups={str(name): _curve(g["mean"], g.get("ci95")) for name, g in (data.get("groups") or {}).items()},
        oracle=None if oracle is None else oracle.mean[0],
        score=None if score is None else _curve(score, None).mean,
    )


def _named_curve(baselines: Mapping[str, Any], key: str) -> Curve | None:
    """A baseline's returns: a number, a list of them, or a table with mean and ci95."""
    value = baselines.get(key)
    if value is None:
        return None
    if isinstance(value, Mapping):
        return _curve(value["mean"], value.get("ci95"))
    return _curve(value, baselines.get(f"{key}_ci95"))


def _curve(mean: Any, ci95: Any) -> Curve:
    means = tuple(map(_number, mean)) if isinstance(mean, list) else (_number(mean),)
    halves = ci95 if isinstance(ci95, list) else [ci95] * len(means)
    if not means or len(halves) != len(means):
        raise ValueError(f"{len(means)} returns with {len(halves)} intervals")
    return Curve(means, tuple(map(_number, halves)))


def _number(value: Any) -> float:
    """A recorded number; JSON's null and a missing value are NaN."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number")
    return float(value)


def _read_video(path: Path) -> Video:
    beside = path.with_suffix(".json")
    facts = read_json(beside) if beside.is_file() else {}
    if not isinstance(facts, dict):
        raise ValueError(f"{beside} is damaged: it is not a table; record the video again")
    return Video(path, facts)
