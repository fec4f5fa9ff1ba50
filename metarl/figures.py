"""Figures as pure functions of recorded numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .drawing import figure_file

COLOURS = {
    "meta-trained": "#1f5fbf",
    "random initialisation": "#999999",
    "pretrained": "#2e8b57",
    "oracle": "#c8691e",
}


def adaptation_figure(result: Mapping[str, Any], title: str, path: Path) -> None:
    """Return against gradient steps, mean and 95 % interval over tasks, as a PNG.

    An oracle, which takes no steps, is a line across.
    """
    with figure_file(path, (6, 4), dpi=130) as figure:
        axes = figure.add_subplot()
        for name, colour in COLOURS.items():
            if name not in result:
                continue
            if name == "oracle":
                axes.axhline(result[name]["mean"][0], color=colour, linestyle="--", label=name)
                continue
            mean, ci95 = np.array(result[name]["mean"]), np.array(result[name]["ci95"])
            steps = np.arange(len(mean))
            axes.errorbar(steps, mean, ci95, marker="o", capsize=4, color=colour, label=name)
        for name, group in result.get("groups", {}).items():
            axes.plot(range(len(group["mean"])), group["mean"], ":", color=COLOURS["meta-trained"], linewidth=1)
            last = group["mean"][-1]
            axes.annotate(name, (len(group["mean"]) - 1, last), fontsize=8, ha="right", va="bottom")
        axes.set_xticks(range(len(result["meta-trained"]["mean"])))
        axes.set_xlabel("gradient steps")
        axes.set_ylabel("return (sum of rewards an episode)")
        axes.set_title(f"{title}\n{result['n_tasks']} held-out tasks, mean and 95 % interval", fontsize=10)
        axes.grid(alpha=0.3)
        figure.legend(loc="outside lower center", ncols=2)


def learning_figure(rows: Sequence[Mapping[str, float]], title: str, path: Path) -> None:
    """Return before and after adaptation against environment steps, as a PNG."""
    with figure_file(path, (6, 4), dpi=130) as figure:
        axes = figure.add_subplot()
        steps = np.array([row["env_steps"] for row in rows]) / 1e6
        axes.plot(steps, [row["return_after"] for row in rows], color=COLOURS["meta-trained"], label="after adaptation")
        axes.plot(steps, [row["return_before"] for row in rows], color=COLOURS["random initialisation"], label="before")
        axes.set_xlabel("environment steps (millions)")
        axes.set_ylabel("return (mean over training tasks)")
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend()
