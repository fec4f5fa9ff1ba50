"""The report's charts: learning curves and adaptation curves, from records."""

from __future__ import annotations

import math
from collections.abc import Sequence

from metarl.run_tables import PAPER_MAML

from .numbers import count_text, duration_text, duration_unit, interval_text, value_text
from .run_record import META, PRETRAINED, RANDOM, Curve, Evaluation, RunRecord
from .svg_chart import Chart, Dash, Level, Series

RETURN = "return per episode"
_GROUP_DASHES: tuple[Dash, Dash] = ("dotted", "dashdot")
_RUN_COLOURS = tuple(f"c{i}" for i in range(8))


def run_colour(index: int) -> str:
    """Class of the colour of one of several runs."""
    return _RUN_COLOURS[index % len(_RUN_COLOURS)]


def paper_points(record: RunRecord) -> tuple[float, ...] | None:
    """The paper's returns after 0, 1, 2, 3 steps, where the run's environment is the paper's."""
    env = record.config.env
    return PAPER_MAML.get(env.name) if env.protocol == "finn2017" and not env.horizon and not env.oracle else None


def learning_charts(records: Sequence[RunRecord]) -> list[Chart]:
    """Return before and after adaptation against environment steps and against wall time, the same axes for all runs.

    One run has a colour for before and one for after; of several, each has one, dashed before adaptation.
    """
    longest_s = max((record.wall_s for record in records), default=0.0)
    second, unit = duration_unit(longest_s)
    million = max((record.env_steps for record in records), default=0.0) >= 1e6
    steps_label = "environment steps (millions)" if million else "environment steps (thousands)"
    axes = (
        ("Learning, by environment steps", steps_label, "env_steps", 1e6 if million else 1e3),
        ("Learning, by wall time", f"wall time of training ({unit})", "wall_s", second),
    )
    note = "Training tasks, mean of an iteration's tasks and episodes."
    if len(records) > 1:
        note += " Solid: after adaptation; dashed: before."
    return [
        Chart(title, label, RETURN, _learning_series(records, column, scale), note=note)
        for title, label, column, scale in axes
    ]


def _learning_series(records: Sequence[RunRecord], column: str, scale: float) -> list[Series]:
    series = []
    for index, record in enumerate(records):
        x = [value / scale for value in record.column(column)]
        for key, name in (("return_before", "before adaptation"), ("return_after", "after adaptation")):
            alone, after = len(records) == 1, key == "return_after"
            y = record.column(key)
            series.append(
                Series(
                    label=name if alone else record.label,
                    x=x,
                    y=y,
                    spots=_learning_spots(record, name, y),
                    colour=("c0" if after else "muted") if alone else run_colour(index),
                    dash="solid" if alone or after else "dashed",
                    in_legend=alone or after,
                )
            )
    return series


def _learning_spots(record: RunRecord, name: str, returns: Sequence[float]) -> list[str]:
    columns = zip(returns, record.column("env_steps"), record.column("wall_s"), strict=True)
    return [
        f"{value_text(value)} {name}, {count_text(steps, 'M')} steps, {duration_text(seconds)}"
        if math.isfinite(value) and math.isfinite(steps) and math.isfinite(seconds)
        else name
        for value, steps, seconds in columns
    ]


def adaptation_chart(records: Sequence[RunRecord]) -> Chart:
    """Return on held-out tasks against gradient steps, with baselines and the paper's points.

    records: runs of one environment and protocol. The baselines of several are those of the first that has
    them; named tasks are shown for a single run.
    """
    evaluated = [(record, record.evaluation) for record in records if record.evaluation is not None]
    alone = len(evaluated) == 1
    series, levels = [], []
    for record, evaluation in evaluated:
        colour = run_colour(records.index(record))  # also beside runs that are not evaluated
        curve = evaluation.curves[META]
        series.append(_steps_series(META if alone else record.label, curve, colour, marker=True))
        if alone:
            series += [
                _steps_series(name, group, colour, dash=_GROUP_DASHES[i % 2], in_legend=len(evaluation.groups) <= 4)
                for i, (name, group) in enumerate(evaluation.groups.items())
            ]
    for name, colour, pattern in ((RANDOM, "muted", _GROUP_DASHES[0]), (PRETRAINED, "c1", _GROUP_DASHES[1])):
        baseline = _first_curve([evaluation for _, evaluation in evaluated], name)
        if baseline is not None:
            tint = colour if alone else "muted"
            series.append(_steps_series(name, baseline, tint, marker=alone, dash="solid" if alone else pattern))
    oracle = next((e.oracle for _, e in evaluated if e.oracle is not None), None)
    if oracle is not None:
        levels.append(Level("oracle (sees the goal)", oracle, "c2" if alone else "muted"))
    paper = paper_points(evaluated[0][0]) if evaluated else None
    if paper is not None:
        series.append(_paper_series(paper, "c3" if alone else "ink"))
    return Chart(
        "Adaptation to held-out tasks", "gradient steps", RETURN, series, levels, whole_x=True, note=_counts(evaluated)
    )


def _paper_series(paper: Sequence[float], colour: str) -> Series:
    name = "Finn et al. 2017"
    x = [float(step) for step in range(len(paper))]
    said = [f"{name}: {value_text(y)}" for y in paper]
    return Series(name, x, paper, spots=said, colour=colour, dash="dashed", marker="diamond")


def _counts(evaluated: Sequence[tuple[RunRecord, Evaluation]]) -> str:
    counts = {(e.n_tasks, e.trajectories) for _, e in evaluated}
    said = "; ".join(f"{tasks} tasks, {episodes} episodes each" for tasks, episodes in sorted(counts))
    return f"Mean over tasks with its 95 % interval ({said})."


def _first_curve(evaluations: Sequence[Evaluation], name: str) -> Curve | None:
    return next((e.curves[name] for e in evaluations if name in e.curves), None)


def _steps_series(
    label: str, curve: Curve, colour: str, *, marker: bool = False, dash: Dash = "solid", in_legend: bool = True
) -> Series:
    spots = [
        f"{label}: {value_text(mean)} {interval_text(half)}".rstrip()
        for mean, half in zip(curve.mean, curve.ci95, strict=True)
    ]
    x = [float(step) for step in range(len(curve.mean))]
    # The bars of named tasks, and of several runs' baselines, would hide the others'.
    ci95 = curve.ci95 if marker else None
    return Series(label, x, curve.mean, ci95, spots, colour, dash, "circle" if marker else "none", in_legend)
