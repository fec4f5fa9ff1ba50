"""Tables of meta-trained policies, from the records in results/: all of them, and a summary by environment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from .algorithms.registry import DEFAULT_ALGORITHM

# Returns printed or stored by Finn et al. 2017 (cbfinn/maml_rl, icml/*.pkl), after 0, 1, 2, 3 gradient steps.
PAPER_MAML: dict[str, tuple[float, ...]] = {
    "half-cheetah-dir": (-50.7, 293.2, 313.5, 315.7),
    "half-cheetah-vel": (-129.5, -78.6, -66.6, -60.8),
    "ant-vel": (30.6, 96.7, 100.1, 101.4),
    "ant-dir": (8.7, 499.1, 500.7, 499.1),
    "point-nav": (-40.4, -11.7, -3.3, -3.2),
}


def results_table(records: Sequence[dict[str, Any]]) -> str:
    """Markdown: held-out returns after 0 to 3 gradient steps beside the paper's after one, and what they cost.

    A run on named tasks (directions) has a row for each below its own.
    """
    compared = any("score" in r for r in records)
    columns = ["environment", "algorithm", "protocol", "seed", "before", "1 step", "2 steps", "3 steps"]
    columns += ["paper, 1 step", *(["oracle", "score, 1 step"] if compared else []), "steps", "wall time"]
    lines = [_row(columns), _row(["---"] * len(columns))]
    for r in sorted(records, key=lambda r: (r["env"], r["algorithm"], r["protocol"], r["preset"], r["seed"])):
        paper = f"{PAPER_MAML[r['env']][1]:g}" if r["protocol"] == "finn2017" and r["env"] in PAPER_MAML else ""
        algorithm = r["algorithm"] if r["preset"] == "default" else f"{r['algorithm']} ({r['preset']})"
        cells = [r["env"], algorithm, r["protocol"], str(r["seed"]), *_held_out_cells(r["heldout"]), paper]
        cells += [
            *(_oracle_cells(r) if compared else ()),
            f"{_whole(r, 'env_steps') / 1e6:.1f} M",
            f"{_whole(r, 'wall_s') / 60:.1f} min",
        ]
        lines.append(_row(cells))
        for name, group in r["heldout"]["groups"].items():
            named = [f"- {name}", "", "", "", *_held_out_cells(group)]
            lines.append(_row(named + [""] * (len(columns) - len(named))))
    counts = {(r["heldout"]["n_tasks"], r["heldout"]["trajectories"]) for r in records}
    lines.append("")
    lines.append(
        "Return an episode on held-out tasks, mean ± 95 % interval over tasks ("
        + "; ".join(f"{n} tasks, {t} trajectories each" for n, t in sorted(counts))
        + f"); wall time of training on {max(r['cores'] for r in records)} cores, or one of them, beside other "
        "work, where the command says `--threads 1`."
    )
    # Several seeds may have the same baselines, which are made once.
    commands = dict.fromkeys(command for r in records for command in _commands(r))
    return "\n".join([*lines, *_folded("Commands", commands)])


def _whole(record: dict[str, Any], key: str) -> float:
    """Of a run and of the baseline that it started from."""
    return float(record[key] + record.get("start", {}).get(key, 0))


def _commands(record: dict[str, Any]) -> list[str]:
    """The command lines that lead to a record; of what was continued, one after the other."""
    made = [record["start"]] if "start" in record else []
    made += record.get("baselines_made", {}).values()
    baselines = dict.fromkeys(baseline["command"] for baseline in made)  # the oracle is often the start too
    lines = [*baselines, record["command"], record["evaluate_command"]]
    return [command for line in lines for command in line.split(" && ")]


def _folded(title: str, commands: Iterable[str]) -> list[str]:
    """Lines of commands that a click unfolds; the empty ones make Markdown of what is folded away."""
    return ["", f"<details markdown><summary>{title}</summary>", "", "```sh", *commands, "```", "", "</details>"]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _held_out_cells(summary: dict[str, Any]) -> list[str]:
    return [f"{m:.1f} ± {c:.1f}" for m, c in zip(summary["mean"], summary["ci95"], strict=True)]


def _oracle_cells(record: dict[str, Any]) -> tuple[str, str]:
    """The oracle's return and the score after one step; empty for a record made without baselines."""
    score = record.get("score") or []
    oracle = record["baselines"].get("oracle")
    return (
        "" if oracle is None else f"{oracle:.1f}",
        f"{score[1]:.2f}" if len(score) > 1 and score[1] is not None else "",
    )


def summary_table(records: Sequence[dict[str, Any]]) -> str:
    """Markdown: a row for all seeds of MAML-TRPO in an environment with a preset; commands of the first seed."""

    def kind(record: dict[str, Any]) -> tuple[str, str, str]:
        return record["env"], record["protocol"], record["preset"]

    columns = ["environment", "protocol", "preset", "seeds", "before", "1 step", "3 steps", "paper: 1 step", "3 steps"]
    columns += ["pretrained, 1 step", "oracle", "score, 1 step", "steps"]
    lines = [_row(columns), _row(["---"] * len(columns))]
    commands: dict[str, None] = {}
    of_default = [r for r in records if r["algorithm"] == DEFAULT_ALGORITHM]
    for (env, protocol, preset), group in groupby(sorted(of_default, key=lambda r: (*kind(r), r["seed"])), kind):
        seeds = list(group)
        commands |= dict.fromkeys(_commands(seeds[0]))
        pretrained = seeds[0]["baselines"].get("pretrained")
        of_paper = PAPER_MAML.get(env, ()) if protocol == "finn2017" else ()
        steps = np.mean([_whole(r, "env_steps") for r in seeds]) / 1e6
        lines.append(
            _row(
                [
                    *(env, protocol, preset, str(len(seeds))),
                    *(_over_seeds(seeds, step) for step in (0, 1, 3)),
                    *(f"{of_paper[step]:g}" if of_paper else "" for step in (1, 3)),
                    f"{pretrained[1]:.1f}" if pretrained else "",
                    *_oracle_cells(seeds[0]),
                    f"{steps:.1f} M",
                ]
            )
        )
    lines.append("")
    lines.append(
        "Return an episode on 40 held-out tasks after 0, 1 and 3 gradient steps: mean ± 95 % interval over tasks; of "
        "several seeds their mean and, in brackets, the lowest and the highest. pretrained: one policy for all tasks, "
        "adapted; score: 0 is an untrained policy, 1 an oracle that is told the goal (of the first seed, where there "
        "are several). steps: environment steps of training, with those of the oracle that a guided run starts from."
    )
    return "\n".join([*lines, *_folded("Commands, of the first seed", commands)])


def _over_seeds(records: Sequence[dict[str, Any]], step: int) -> str:
    """Held-out returns after so many gradient steps."""
    means = [r["heldout"]["mean"][step] for r in records]
    if len(means) == 1:
        return f"{means[0]:.1f} ± {records[0]['heldout']['ci95'][step]:.1f}"
    return f"{np.mean(means):.1f} ({min(means):.1f} to {max(means):.1f})"
