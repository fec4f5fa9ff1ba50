"""What limits learning: half-cheetah-dir in the paper's environment, one setting changed at a time.

python benchmarks/learning_study.py run [NAME...]   train what has no record yet, into runs/study and results/study
python benchmarks/learning_study.py docs            rewrite the table and the figures of docs/learning.md

Each experiment is a command line of `metarl train` with a budget of environment steps; an interrupted one is continued.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from metarl.drawing import figure_file
from metarl.learning_table import WINDOW, steps_to
from metarl.metrics import read_metrics
from metarl.results import readme_text
from metarl.runs import open_run, read_json, write_atomic

RUNS, RECORDS, DOCS = Path("runs", "study"), Path("results", "study"), Path("docs")
MAKER = "python benchmarks/learning_study.py docs"
ITERATIONS = 50
"""Of 10 tasks x 20 trajectories x 200 steps, before and after adaptation: 4 million environment steps."""


@dataclass(frozen=True)
class Experiment:
    """One setting against the default preset's."""

    name: str
    text: str
    """What differs, for the table; the same of several seeds of a setting."""
    options: str = ""
    """Of `metarl train half-cheetah-dir --env.protocol finn2017`."""
    iterations: int = ITERATIONS
    """Fewer where an iteration takes more steps: the budget of steps is the same for all."""


def three_seeds(experiment: Experiment) -> list[Experiment]:
    """The experiment, which has seed 0, and the same with seeds 1 and 2."""
    others = [
        replace(experiment, name=f"{experiment.name}-seed{seed}", options=f"{experiment.options} --seed {seed}")
        for seed in (1, 2)
    ]
    return [experiment, *others]


GROUPS: dict[str, tuple[Experiment, ...]] = {
    "the paper's settings": (
        *three_seeds(Experiment("default", "default preset")),
        Experiment("paper", "paper preset", "--preset paper", ITERATIONS // 4),
        Experiment(
            "paper-normalised",
            "paper preset, observations normalised",
            "--preset paper --policy.normalise-obs",
            ITERATIONS // 4,
        ),
    ),
    "policy": (
        Experiment("raw-obs", "observations not normalised", "--policy.no-normalise-obs"),
        Experiment("relu", "ReLU instead of tanh", "--policy.activation relu"),
        Experiment("std-0.6", "initial std 0.6 instead of 1", "--policy.init-std 0.6"),
        Experiment("std-floor-0.5", "floor of the std at 0.5", "--policy.min-std 0.5"),
        Experiment("output-scale-0.1", "last layer starts a tenth as large", "--policy.output-scale 0.1"),
    ),
    "advantages": (
        Experiment("lambda-1", "lambda 1 instead of 0.95", "--algo.gae-lambda 1"),
        Experiment("lambda-0.9", "lambda 0.9", "--algo.gae-lambda 0.9"),
        Experiment("lambda-0.98", "lambda 0.98", "--algo.gae-lambda 0.98"),
        Experiment("centred", "advantages centred, not standardised", "--algo.advantages centred"),
    ),
    "adaptation": (
        Experiment("ratio", "likelihood-ratio (low-variance curvature) surrogate", "--algo.surrogate ratio"),
        Experiment("inner-0.03", "inner step size 0.03 instead of 0.1", "--algo.inner-lr 0.03"),
        Experiment("inner-0.3", "inner step size 0.3", "--algo.inner-lr 0.3"),
        Experiment("meta-sgd", "step size per parameter, meta-learned", "--algo.learn-inner-lr per-parameter"),
        Experiment("first-order", "first-order MAML", "--algo.first-order"),
    ),
    "outer loop": (
        Experiment("kl-0.01", "trust region 0.01 instead of 0.03", "--algo.max-kl 0.01"),
        Experiment("kl-0.06", "trust region 0.06", "--algo.max-kl 0.06"),
        Experiment("maml-ppo", "PPO instead of TRPO", "--algorithm maml-ppo"),
        Experiment("promp", "ProMP", "--algorithm promp"),
    ),
    "tasks and trajectories": (
        Experiment("20x10", "20 tasks x 10 trajectories", "--meta-batch 20 --trajectories 10"),
        Experiment("5x40", "5 tasks x 40 trajectories", "--meta-batch 5 --trajectories 40"),
        *three_seeds(
            Experiment("20x20", "20 tasks x 20 trajectories, half the iterations", "--meta-batch 20", ITERATIONS // 2)
        ),
        Experiment(
            "40x20", "40 tasks x 20 trajectories, a quarter of the iterations", "--meta-batch 40", ITERATIONS // 4
        ),
        Experiment("5x20", "5 tasks x 20 trajectories, twice the iterations", "--meta-batch 5", 2 * ITERATIONS),
    ),
}
EXPERIMENTS = {e.name: e for group in GROUPS.values() for e in group}


def train(experiment: Experiment, threads: int) -> dict[str, Any]:
    """Train, or continue, one experiment and return its record."""
    out = RUNS / experiment.name
    common = ["--iterations", str(experiment.iterations), "--threads", str(threads)]
    start = ["half-cheetah-dir", "--env.protocol", "finn2017", *experiment.options.split(), "--out", str(out)]
    go_on = ["--resume", str(out)]
    words = ["train", *(go_on if (out / "config.json").exists() else start), *common]
    subprocess.run([sys.executable, "-m", "metarl", *words], check=True)
    made = read_json(open_run(out)[0].config)
    rows = read_metrics(out / "metrics.jsonl")
    keys = ("iteration", "env_steps", "wall_s", "return_before", "return_after", "mean_std", "kl")
    return {
        "name": experiment.name,
        "command": made["command"],
        "versions": made["versions"],
        "config": made["config"],
        "curve": [{key: row[key] for key in keys} for row in rows],
    }


def final_score(record: dict[str, Any], key: str = "return_after") -> float:
    """Return on training tasks, averaged over the last iterations."""
    return float(np.mean([row[key] for row in record["curve"][-WINDOW:]]))


def by_setting(records: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The records of each setting, one a seed, by its text."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name in (name for name in EXPERIMENTS if name in records):
        found.setdefault(EXPERIMENTS[name].text, []).append(records[name])
    return found


def table(records: dict[str, dict[str, Any]], level: float = 293.2) -> str:
    """Markdown, best seed 0 first; level: the paper's return after one step."""
    lines = [
        f"| setting | return after one step: seed 0 | seeds 1, 2 | env steps to the paper's {level:g} |",
        "| --- | --- | --- | --- |",
    ]
    settings = by_setting(records)
    scores = {text: [f"{final_score(record):.0f}" for record in seeds] for text, seeds in settings.items()}
    for text in sorted(settings, key=lambda text: -int(scores[text][0])):
        found = [steps_to(record["curve"], level) for record in settings[text]]
        reached = ", ".join("not reached" if f is None else f"{f[0] / 1e6:.1f} M" for f in found)
        lines.append(f"| {text} | {scores[text][0]} | {', '.join(scores[text][1:])} | {reached} |")
    budget = {round(record["curve"][-1]["env_steps"] / 1e6, 1) for record in records.values()}
    lines.append("")
    lines.append(
        f"Training tasks, mean of the last {WINDOW} iterations, after {_span(budget)} million environment steps. "
        "Commands:"
    )
    lines += ["", "```", *(records[e].get("command", "") for e in EXPERIMENTS if e in records), "```"]
    return "\n".join(lines)


def _span(values: set[float]) -> str:
    return f"{min(values):g}" if len(values) == 1 else f"{min(values):g} to {max(values):g}"


def figure(group: str, records: dict[str, dict[str, Any]], path: Path) -> None:
    """Learning curves of one group beside the default preset's, as a PNG."""
    colours = iter(("#c8691e", "#2e8b57", "#8b3fa8", "#b02030", "#777777", "#b8a000", "#00909a", "#d070a0"))
    default = EXPERIMENTS["default"].text
    members = {e.text for e in GROUPS[group]} | {default}
    with figure_file(path, (7, 4)) as drawing:
        axes = drawing.add_subplot()
        for text, seeds in by_setting(records).items():
            if text not in members:
                continue
            colour = "#1f5fbf" if text == default else next(colours)
            for i, record in enumerate(seeds):
                label = text + (", each seed" if len(seeds) > 1 else "") if i == 0 else None
                axes.plot(*_curve(record), color=colour, linewidth=1.2, label=label)
        axes.axhline(293.2, color="#444444", linestyle=":", linewidth=1)
        axes.annotate("Finn et al. 2017, one step", (0, 293.2), fontsize=8, va="bottom")
        axes.set_xlim(left=0)
        axes.set_xlabel("environment steps (millions)")
        axes.set_ylabel("return after one gradient step")
        axes.set_title(f"half-cheetah-dir, the paper's environment: {group}", fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower right")


def _curve(record: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    rows = record["curve"]
    return np.array([r["env_steps"] for r in rows]) / 1e6, np.array([r["return_after"] for r in rows])


def main(argv: Sequence[str]) -> int:
    """Run a subcommand; returns the exit code."""
    if argv and argv[0] == "run":
        names = argv[1:] or list(EXPERIMENTS)
        unknown = [name for name in names if name not in EXPERIMENTS]
        if unknown:
            print(f"unknown experiment {unknown[0]!r}; there are: {', '.join(EXPERIMENTS)}", file=sys.stderr)
            return 2
        RECORDS.mkdir(parents=True, exist_ok=True)
        for name in names:
            path = RECORDS / f"{name}.json"
            if not path.exists():
                write_atomic(path, json.dumps(train(EXPERIMENTS[name], threads=1), indent=1) + "\n")
        return 0
    if list(argv) == ["docs"]:
        found = {name: RECORDS / f"{name}.json" for name in EXPERIMENTS}
        records = {name: read_json(path) for name, path in found.items() if path.exists()}
        for i, (group, members) in enumerate(GROUPS.items()):
            if any(m.name in records for m in members if not m.name.startswith("default")):
                figure(group, records, DOCS / f"learning-{i + 1}.png")
        page = DOCS / "learning.md"
        write_atomic(page, readme_text(page.read_text(), {"study": table(records)}, page.name, MAKER))
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
