"""Results of supervised evaluations as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def table(result: Mapping[str, Any]) -> str:
    """A row per learner, a column per number of steps: accuracy (%), or mean squared error with its median."""
    classes = "accuracy" in result
    name = str(result["learner"]) + (f", {result['statistics']}" if result["statistics"] else "")
    rows = {name: result}
    rows |= {f"{result['learner']}, {mode}": scores for mode, scores in result["other_statistics"].items()}
    rows |= result["baselines"]
    way = f"{result['way']}-way " if classes else ""
    unit = "accuracy (%)" if classes else "mean squared error"
    lines = [
        f"{unit} on {result['episodes']} test tasks, {way}{result['shot']}-shot, "
        f"{result['query']} queries{' of a class' if classes else ''}; mean +- 95 % interval over tasks"
    ]
    if result["statistics"]:
        lines.append("batch norm: transductive uses the queries' own statistics, the others do not")
    for row, scores in rows.items():
        key = "accuracy" if classes else "loss"
        for steps, summary in zip(scores["steps"], scores[key], strict=True):
            lines.append(f"{row:<26}{_steps(steps):>10}{_cell(summary, classes)}")
    return "\n".join(lines)


def lake_table(result: Mapping[str, Any]) -> str:
    """A row per method."""
    methods = result["methods"]
    n = len(next(iter(methods.values()))["by_run"])
    lines = [f"error (%) on {n} runs of Lake's one-shot task, mean +- 95 % interval over runs"]
    for name, error in methods.items():
        lines.append(f"{name:<26}{_interval(error['mean'], error['interval'], 1):>18}")
    return "\n".join(lines)


def _steps(steps: int | None) -> str:
    if steps is None:
        return ""
    return f"{steps} step" if steps == 1 else f"{steps} steps"


def _cell(summary: Mapping[str, Any], classes: bool) -> str:
    if classes:
        return f"{_interval(100 * summary['mean'], 100 * summary['ci95'], 2):>18}"
    blown = f"   {summary['n_not_finite']} tasks not finite" if summary["n_not_finite"] else ""
    return f"{_interval(summary['mean'], summary['ci95'], 3):>18}   median {summary['median']:.3f}{blown}"


def _interval(mean: float, half: float, digits: int) -> str:
    text = f"{mean:.{digits}f}"
    return f"{text} +- {half:.{digits}f}" if math.isfinite(half) else text  # one task has no interval
