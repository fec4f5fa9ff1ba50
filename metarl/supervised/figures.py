"""Figures of supervised evaluations, as pure functions of what was recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from ..drawing import figure_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRUTH, SUPPORT = "#c8342b", "#6b3fa0"
STEP_STYLES = (("#9a9a9a", ":"), ("#2e8b57", "--"), ("#1f5fbf", "-"))
"""Colour and line of the first, the next and the last of three numbers of steps."""
COLOURS = ("#1f5fbf", "#c8691e", "#2e8b57", "#6b3fa0", "#999999", "#c8342b")
RIGHT, WRONG = "#2e8b57", "#c8342b"
LEAST_QUERIES_A_ROW = 5
OFF_THE_CHART = 10
"""Mean squared errors of so many times the largest median are written instead of drawn."""


@dataclass(frozen=True)
class Curves:
    """A regression task before and after adaptation."""

    shot: int
    x: Float[np.ndarray, " point"]
    """Where the functions are drawn."""
    truth: Float[np.ndarray, " point"]
    support_x: Float[np.ndarray, " shot"]
    support_y: Float[np.ndarray, " shot"]
    predictions: Mapping[str, Float[np.ndarray, " point"]]
    """By what precedes the prediction, such as "1 step"; at most three."""


@dataclass(frozen=True)
class PicturedEpisode:
    """One task of images: what was shown, asked and answered. Images lie in [0, 1]."""

    support: Float[np.ndarray, "example channel height width"]
    support_y: Int[np.ndarray, " example"]
    query: Float[np.ndarray, "asked channel height width"]
    query_y: Int[np.ndarray, " asked"]
    answer: Int[np.ndarray, " asked"]
    """The class that the learner gave each query."""
    inverted: bool = False
    """1 is black: grey images are drawn as they looked on paper."""


def curves_figure(tasks: Sequence[Curves], title: str, path: Path) -> None:
    """The true function, support points and predictions, a panel a task, as a PNG.

    In the manner of Finn et al. 2017, figure 2.
    """
    with figure_file(path, (3.4 * len(tasks), 3.4)) as figure:
        panels = figure.subplots(1, len(tasks), squeeze=False, sharey=True)[0]
        for axes, task in zip(panels, tasks, strict=True):
            axes.plot(task.x, task.truth, color=TRUTH, linewidth=2, label="true function")
            for (name, y), (colour, line) in zip(task.predictions.items(), _styles(task.predictions), strict=True):
                axes.plot(task.x, y, color=colour, linestyle=line, label=name)
            axes.plot(task.support_x, task.support_y, "^", color=SUPPORT, markersize=8, label="support points")
            axes.set_title(f"{task.shot} support points", fontsize=9)
            axes.set_xlabel("x")
            axes.grid(alpha=0.3)
        panels[0].set_ylabel("y")
        figure.suptitle(title, fontsize=10)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8)


def adaptation_figure(result: Mapping[str, Any], title: str, path: Path) -> None:
    """Accuracy, or mean squared error, against gradient steps: mean and 95 % interval over tasks, as a PNG.

    result: of `evaluation.evaluate`. A learner without steps, and a baseline, is a line across. Mean squared errors
    are drawn on a logarithmic scale, with their medians and the number of tasks that blew up, which are not in the
    mean. A mean far above all medians is written at the top.
    """
    classes = "accuracy" in result
    rows = {_name(result["learner"], result["statistics"]): result}
    rows |= {_name(result["learner"], mode): row for mode, row in result["other_statistics"].items()}
    rows |= result["baselines"]
    from matplotlib.ticker import MaxNLocator

    medians = [] if classes else [score["median"] for row in rows.values() for score in row["loss"]]
    top = OFF_THE_CHART * max(filter(math.isfinite, medians), default=math.inf)
    with figure_file(path, (6, 4)) as figure:
        axes = figure.add_subplot()
        longest = max(len(row["steps"]) for row in rows.values())
        for colour, (name, row) in zip(COLOURS, rows.items(), strict=False):
            scores = row["accuracy" if classes else "loss"]
            factor = 100 if classes else 1
            mean = factor * np.array([score["mean"] for score in scores], float)
            half = factor * np.array([score["ci95"] for score in scores], float)
            if len(mean) == 1 and longest > 1:
                axes.axhline(mean[0], color=colour, linestyle="--", label=name)
                axes.axhspan(mean[0] - half[0], mean[0] + half[0], color=colour, alpha=0.15, linewidth=0)
                continue
            steps = [step or 0 for step in row["steps"]]
            above, shown = mean > top, np.minimum(mean, top)
            half[above] = 0
            below = half if classes else np.where(half < mean, half, 0)  # there is no zero on a logarithmic scale
            axes.errorbar(steps, shown, (below, half), marker="o", markersize=4, capsize=3, color=colour, label=name)
            axes.plot(np.array(steps)[above], shown[above], "^", color=colour)
            if not classes:
                middle = [score["median"] for score in scores]
                axes.plot(steps, middle, linestyle=":", color=colour, label=f"{name}, median")
            for i, score in enumerate(scores):
                notes = [f"{mean[i]:.0e}"] if above[i] else []
                if score["n_not_finite"]:  # a mean without them may fall where things get worse
                    notes.append(f"{score['n_not_finite']} lost")
                at = (steps[i], shown[i])
                axes.annotate("\n".join(notes), at, (0, 6), textcoords="offset points", ha="center", fontsize=7)
        if longest > 1:
            axes.set_xlabel("gradient steps")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        else:
            axes.set_xticks([])
        if classes:
            axes.set_ylabel("accuracy on queries (%)")
        else:
            axes.set_ylabel("mean squared error on queries")
            axes.set_yscale("log")
            if axes.get_ylim()[1] > top:
                axes.set_ylim(top=3 * top)  # room for the notes
        counted = f"{result['episodes']} test tasks, mean and 95 % interval over tasks"
        axes.set_title(f"{title}\n{counted}", fontsize=10)
        axes.grid(alpha=0.3, which="both")
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)


def episode_figure(episode: PicturedEpisode, title: str, path: Path) -> None:
    """A row a class: its support images, then its queries, framed green where they were answered right, else red.

    A wrong answer is written beneath its query. As a PNG.
    """
    way = int(episode.support_y.max()) + 1
    shots = int(np.bincount(episode.support_y).max())
    asked = int(np.bincount(episode.query_y, minlength=way).max())
    columns = shots + max(asked, LEAST_QUERIES_A_ROW)
    scale = 0.55 if way > 8 else 0.75
    right = float((episode.answer == episode.query_y).mean())
    with figure_file(path, (scale * (columns + 1.2), scale * (1.25 * way + 1.2)), gap=0.14) as figure:
        panels = figure.subplots(
            way, columns + 1, squeeze=False, width_ratios=[*[1] * shots, 0.3, *[1] * (columns - shots)]
        )
        for axes in panels.flat:
            axes.axis("off")
        for k in range(way):
            for axes, image in zip(panels[k], episode.support[episode.support_y == k], strict=False):
                _show(axes, image, episode.inverted, "#444444")
            panels[k][0].text(-0.25, 0.5, str(k), transform=panels[k][0].transAxes, ha="right", va="center", fontsize=9)
            own = episode.query_y == k
            queries = zip(episode.query[own], episode.answer[own], strict=True)
            for axes, (image, answer) in zip(panels[k][shots + 1 :], queries, strict=False):
                _show(axes, image, episode.inverted, RIGHT if answer == k else WRONG)
                if answer != k:
                    note = axes.text(0.5, -0.06, f"as {answer}", transform=axes.transAxes, ha="center", va="top")
                    note.set(fontsize=7, color=WRONG, in_layout=False)  # rows are as far apart with notes as without
        panels[0][0].set_title("support", fontsize=8, loc="left")
        panels[0][shots + 1].set_title("queries", fontsize=8, loc="left")
        figure.suptitle(f"{title}\n{100 * right:.0f} % of {len(episode.answer)} queries right", fontsize=9)


def _show(axes: Axes, image: np.ndarray, inverted: bool, frame: str) -> None:
    axes.axis("on")
    axes.set_xticks([])
    axes.set_yticks([])
    shown = (1 - image if inverted else image).transpose(1, 2, 0)
    axes.imshow(shown, cmap="gray" if len(image) == 1 else None, vmin=0, vmax=1)
    for spine in axes.spines.values():
        spine.set(color=frame, linewidth=2)


def _styles(predictions: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The last prediction stands out, whatever their number."""
    return STEP_STYLES[-len(predictions) :]


def _name(learner: str, statistics: str | None) -> str:
    return f"{learner}, {statistics}" if statistics else learner
