"""The page: sections of charts, tables and videos in one HTML text without anything external."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import metarl
from metarl.envs import family_class

from .clips import Clip
from .curves import adaptation_chart, learning_charts, paper_points, run_colour
from .markup import Child, Markup, join, tag
from .milestones import SHARE, milestone
from .numbers import count_text, duration_text, interval_text, value_text
from .run_record import META, RANDOM, RunRecord
from .svg_chart import chart_figure
from .tables import comparison_table, heldout_table, settings_table, versions_table

_HERE = Path(__file__).parent
_STYLE, _SCRIPT = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
_ALGORITHMS = {"MAMLTRPO": "MAML-TRPO"}


def report_page(records: Sequence[RunRecord], clips: Mapping[str, Sequence[Clip]]) -> str:
    """The HTML of a report on runs.

    records: at least one. clips: the videos of each, by its label.
    """
    if not records:
        raise ValueError("a report needs at least one run")
    if len(records) == 1:
        title, body = _single(records[0], clips.get(records[0].label, ()))
    else:
        title, body = _several(records, clips)
    made = tag("p", f"Written by metarl {metarl.__version__} from the runs' own records.", class_="note")
    return "<!DOCTYPE html>\n" + tag(
        "html",
        tag("head", *_head(title)),
        tag("body", tag("main", body, made), tag("script", Markup(_SCRIPT))),
        lang="en",
    )


def _head(title: str) -> list[Markup]:
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    # Nothing is fetched, and no script but ours runs, whatever the page holds.
    policy = (
        "default-src 'none'; img-src data:; media-src data: blob:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
    return [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(_STYLE)),
    ]


def _single(record: RunRecord, clips: Sequence[Clip]) -> tuple[str, Markup]:
    env = record.config.env
    body = join(
        tag("header", tag("h1", env.name), tag("p", _kind(record), class_="soft")),
        _run_sections(record, clips),
    )
    return f"{env.name} ({env.protocol}), {record.label}", body


def _several(records: Sequence[RunRecord], clips: Mapping[str, Sequence[Clip]]) -> tuple[str, Markup]:
    title = f"{len(records)} runs"
    groups: dict[tuple[str, str, bool, int], list[RunRecord]] = {}
    for record in records:
        env = record.config.env
        groups.setdefault((env.name, env.protocol, env.oracle, env.horizon), []).append(record)
    # The charts count runs within their group.
    colours = {
        record.label: run_colour(i) for group in groups.values() for i, record in enumerate(group) if len(group) > 1
    }
    parts: list[Child] = [
        tag("header", tag("h1", title), tag("p", _names(records), class_="soft")),
        tag("section", tag("h3", "Held-out tasks and cost"), comparison_table(records, colours), class_="card"),
    ]
    for (name, protocol, *_), group in groups.items():
        if len(group) > 1:
            parts += [tag("h2", f"{name} ({protocol}): {len(group)} runs"), _adaptation(group), _learning(group)]
    for record in records:
        heading = [tag("h2", record.label), tag("p", f"{record.config.env.name}: {_kind(record)}", class_="soft")]
        parts.append(tag("section", *heading, _run_sections(record, clips.get(record.label, ()))))
    return title, join(*parts)


def _names(records: Sequence[RunRecord]) -> str:
    return ", ".join(dict.fromkeys(f"{r.config.env.name} ({r.config.env.protocol})" for r in records))


def _kind(record: RunRecord) -> str:
    config = record.config
    kind = type(config.algo).__name__
    parts = [
        family_class(config.env.name).title,
        f"protocol {config.env.protocol}",
        *(["goal in the observation"] if config.env.oracle else []),
        _ALGORITHMS.get(kind, kind),
        f"seed {config.seed}",
    ]
    return " \N{MIDDLE DOT} ".join(parts)


def _run_sections(record: RunRecord, clips: Sequence[Clip]) -> Markup:
    table = heldout_table(record)
    return join(
        tag("p", _summary(record), class_="lead"),
        _tiles(record),
        _adaptation([record], clips),
        None if clips else _how_to_film(record),
        _learning([record]),
        None if table is None else tag("section", tag("h3", "Return on held-out tasks"), table, class_="card"),
        _details("Settings", settings_table(record.made["config"])),
        _details("Command to reproduce, versions", join(_commands(record), versions_table(_versions(record)))),
    )


def _summary(record: RunRecord) -> Markup:
    """The result in words, or the command that would give one."""
    iterations = len(record.rows)
    cost = (
        f"{iterations} of {record.config.iterations} iterations of training took "
        f"{count_text(record.env_steps)} environment steps and {duration_text(record.wall_s)}."
    )
    evaluation = record.evaluation
    if evaluation is None:
        command = f"metarl evaluate {shlex.quote(str(record.path))}"
        return join("Not evaluated on held-out tasks yet: ", tag("code", command), f". {cost}")
    curve = evaluation.curves[META]
    after = f"On {evaluation.n_tasks} held-out tasks the return is {value_text(curve.mean[0])} before adaptation"
    if evaluation.steps >= 1:
        after += f" and {value_text(curve.mean[1])} after one gradient step"
    if evaluation.steps > 1:
        after += f" ({value_text(curve.mean[-1])} after {evaluation.steps})"
    if RANDOM in evaluation.curves and len(evaluation.curves[RANDOM].mean) > 1:
        after += f"; a random initialisation gets to {value_text(evaluation.curves[RANDOM].mean[1])} with one"
    stale = ""
    if evaluation.iterations < iterations:
        stale = f" The evaluation is of iteration {evaluation.iterations}."
    return join(f"{after}. {cost}{stale}")


def _tiles(record: RunRecord) -> Markup:
    facts: list[tuple[str, Child]] = []
    evaluation, paper = record.evaluation, paper_points(record)
    if evaluation is not None:
        curve = evaluation.curves[META]
        step = min(1, evaluation.steps)
        shown = join(value_text(curve.mean[step]), tag("small", f" {interval_text(curve.ci95[step])}"))
        facts.append(("return after 1 step" if step else "return before", shown))
        if paper is not None:
            facts.append(("Finn et al. 2017, 1 step", value_text(paper[1])))
        if evaluation.score is not None:
            facts.append(("adaptation score", value_text(evaluation.score[-1], 2)))
    reached = milestone(record)
    if reached is not None:
        shown = join(count_text(reached.env_steps, "M"), tag("small", f" steps, {duration_text(reached.wall_s)}"))
        facts.append((f"to {100 * SHARE:.0f} % of the final score", shown))
    facts += [
        ("environment steps", count_text(record.env_steps, "M")),
        ("wall time", duration_text(record.wall_s)),
        ("iterations", len(record.rows)),
    ]
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts), class_="tiles")


def _learning(records: Sequence[RunRecord]) -> Markup:
    return tag("div", *map(chart_figure, learning_charts(records)), class_="grid")


def _adaptation(records: Sequence[RunRecord], clips: Sequence[Clip] = ()) -> Markup | None:
    """What a gradient step does, as numbers and as videos."""
    evaluated = any(record.evaluation is not None for record in records)
    figures = [chart_figure(adaptation_chart(records))] if evaluated else []
    figures += _players(clips)
    return tag("div", *figures, class_="grid") if figures else None


def _how_to_film(record: RunRecord) -> Markup:
    command = tag("code", f"metarl record {shlex.quote(str(record.path))}")
    return tag("p", "No video yet: ", command, " films a task before and after adaptation.", class_="soft")


def _players(clips: Sequence[Clip]) -> list[Markup]:
    figures = []
    for clip in clips:
        player = tag("p", clip.left_out, class_="note")
        if clip.mp4 is not None:
            player = tag(
                "video", src=clip.mp4, poster=clip.poster, controls=True, muted=True, loop=True, playsinline=True
            )
        figures.append(tag("figure", tag("figcaption", clip.title), player, tag("p", clip.text, class_="note")))
    return figures


def _details(title: str, content: Markup) -> Markup:
    return tag("details", tag("summary", title), content)


def _commands(record: RunRecord) -> Markup:
    lines = [record.made.get("command"), *(entry.get("command") for entry in record.made.get("resumed", []))]
    if record.evaluation is not None:
        lines.append(record.evaluation.command)
    for video in record.videos:
        metadata = video.facts.get("metadata")
        lines.append(metadata.get("command") if isinstance(metadata, Mapping) else None)
    return tag("pre", tag("code", "\n".join(str(line) for line in lines if line)))


def _versions(record: RunRecord) -> Mapping[str, object]:
    versions = record.made.get("versions")
    return versions if isinstance(versions, Mapping) else {}
