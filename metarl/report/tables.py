"""The report's tables: held-out returns, settings, versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .curves import paper_points
from .markup import Child, Markup, join, tag
from .numbers import count_text, duration_text, interval_text, setting_text, value_text
from .run_record import META, PRETRAINED, RANDOM, Curve, RunRecord


def heldout_table(record: RunRecord) -> Markup | None:
    """Returns after 0, 1, ... gradient steps: a row per policy, the paper's below; None before an evaluation."""
    evaluation = record.evaluation
    if evaluation is None:
        return None
    columns = evaluation.steps + 1
    rows = [_row(META, _cells(evaluation.curves[META], columns), "main")]
    rows += [_row(name, _cells(curve, columns), "part") for name, curve in evaluation.groups.items()]
    for name in (RANDOM, PRETRAINED):
        if name in evaluation.curves:
            rows.append(_row(name, _cells(evaluation.curves[name], columns)))
    if evaluation.oracle is not None:
        rows.append(_row("oracle (sees the goal)", [value_text(evaluation.oracle), *[""] * (columns - 1)]))
    paper = paper_points(record)
    if paper is not None:
        rows.append(_row("Finn et al. 2017", _padded([value_text(value) for value in paper], columns)))
    if evaluation.score is not None:
        scores: list[Child] = [value_text(value, 2) for value in evaluation.score]
        rows.append(_row("score (random 0, oracle 1)", _padded(scores, columns)))
    head = ["gradient steps", *map(str, range(columns))]
    return _table(head, rows)


def comparison_table(records: Sequence[RunRecord], colours: Mapping[str, str]) -> Markup:
    """A row per run: what it is, what it reaches on held-out tasks and what that took.

    colours: class of the colour that a run's label has in the charts; a run in none of them has no colour.
    """
    head = ["run", "before", "1 step", "last step", "score", "environment steps", "wall time", "seed"]
    rows = []
    for record in records:
        evaluation = record.evaluation
        cells: list[Child] = [""] * 4
        if evaluation is not None:
            curve = evaluation.curves[META]
            picked = [0, 1, evaluation.steps] if evaluation.steps > 1 else [0, 1][: evaluation.steps + 1]
            shown = [_with_interval(curve.mean[i], curve.ci95[i]) for i in picked]
            score = "" if evaluation.score is None else value_text(evaluation.score[-1], 2)
            cells = [*_padded(shown, 3), score]
        env = record.config.env
        colour = colours.get(record.label)
        swatch = tag("span", "\N{BLACK CIRCLE} ", class_=f"swatch {colour}", aria_hidden="true") if colour else None
        name = join(swatch, record.label, tag("br"), tag("small", f"{env.name}, {env.protocol}", class_="soft"))
        cost: list[Child] = [count_text(record.env_steps), duration_text(record.wall_s), record.config.seed]
        rows.append(_row(name, [*cells, *cost], labels=head[1:]))
    return _table(head, rows, "compare")


def settings_table(settings: Mapping[str, Any]) -> Markup:
    """Settings in groups, as config.json has them."""
    plain = {key: value for key, value in settings.items() if not isinstance(value, Mapping)}
    groups = [("run", plain)]
    groups += [(key, dict(value)) for key, value in settings.items() if isinstance(value, Mapping)]
    return tag("div", *(_facts(title, facts) for title, facts in groups), class_="columns")


def versions_table(versions: Mapping[str, Any]) -> Markup:
    """Versions that the run was made with."""
    return tag("div", _facts("made with", versions), class_="columns")


def _facts(title: str, facts: Mapping[str, Any]) -> Markup:
    rows = [tag("tr", tag("th", key, scope="row"), tag("td", setting_text(value))) for key, value in facts.items()]
    return tag("div", tag("h4", title), tag("table", tag("tbody", *rows), class_="settings"))


def _table(head: Sequence[str], rows: Sequence[Markup], kind: str | None = None) -> Markup:
    top = tag("thead", tag("tr", *(tag("th", text, scope="col") for text in head)))
    return tag("div", tag("table", top, tag("tbody", *rows), class_=kind), class_="scroll")


def _row(name: Child, cells: Sequence[Child], kind: str | None = None, labels: Sequence[str] = ()) -> Markup:
    """labels: what each cell is, for a narrow page, where a column has no head."""
    named = zip(cells, labels or [""] * len(cells), strict=True)
    columns = [tag("td", cell, data_label=label or None) for cell, label in named]
    return tag("tr", tag("th", name, scope="row"), *columns, class_=kind)


def _cells(curve: Curve, columns: int) -> list[Child]:
    shown = [_with_interval(mean, half) for mean, half in zip(curve.mean, curve.ci95, strict=True)]
    return _padded(shown, columns)


def _padded(cells: Sequence[Child], columns: int) -> list[Child]:
    return [*cells, *[""] * (columns - len(cells))][:columns]


def _with_interval(mean: float, half: float) -> Markup:
    interval = interval_text(half)
    return join(value_text(mean), tag("small", f" {interval}") if interval else None)
