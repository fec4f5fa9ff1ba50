"""How many environment steps learning takes, from the records in results/, beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

WINDOW = 5
"""Iterations that a return is averaged over."""
SHARE = 0.9
"""Of the way from the first iteration's return to the last ones'."""

# Environment steps behind the figures of Finn et al. 2017: tasks x trajectories x horizon, before and after
# adaptation, times the iteration that the figure is of (cbfinn/maml_rl, the names of its result files).
PAPER_STEPS: dict[str, int] = {
    "half-cheetah-dir": 40 * 20 * 200 * 2 * 100,
    "half-cheetah-vel": 40 * 10 * 200 * 2 * 475,
    "ant-vel": 40 * 20 * 200 * 2 * 375,
    "ant-dir": 40 * 40 * 200 * 2 * 575,
    "point-nav": 20 * 20 * 100 * 2 * 100,
}


def steps_to(curve: Sequence[dict[str, Any]], level: float) -> tuple[float, float] | None:
    """Environment steps and wall time (s) until the return after adaptation reaches a level; None if it does not.

    The return is averaged over WINDOW iterations, fewer at the start.
    """
    reached = np.flatnonzero(_averaged(curve) >= level)
    if not len(reached):
        return None
    row = curve[int(reached[0])]
    return float(row["env_steps"]), float(row["wall_s"])


def steps_to_share(curve: Sequence[dict[str, Any]], share: float = SHARE) -> tuple[float, float]:
    """The same until it has come a share of its way, from the first iteration to the last average."""
    first, last = float(curve[0]["return_after"]), float(_averaged(curve)[-1])
    found = steps_to(curve, min(first, last) + share * max(last - first, 0.0))
    assert found is not None  # the last average is above that
    return found


def _averaged(curve: Sequence[dict[str, Any]]) -> np.ndarray:
    after = np.array([row["return_after"] for row in curve])
    return np.array([after[max(0, i + 1 - WINDOW) : i + 1].mean() for i in range(len(after))])


def learning_table(records: Sequence[dict[str, Any]], paper_returns: Mapping[str, Sequence[float]]) -> str:
    """Markdown: steps and time to 90 % of the final return and to the paper's, in its environments.

    paper_returns: after 0, 1, ... gradient steps.
    """
    columns = ["environment", "preset", "seed", "steps to 90 %", "time to 90 %"]
    columns += ["steps to the paper's return", "time", "paper's steps", "fewer"]
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    of_paper = [r for r in records if r["protocol"] == "finn2017" and r["env"] in PAPER_STEPS]
    for r in sorted(of_paper, key=lambda r: (r["env"], r["preset"], r["seed"])):
        start = r.get("start", {"env_steps": 0, "wall_s": 0.0})

        def cells(found: tuple[float, float] | None, start: dict[str, Any] = start) -> list[str]:
            if found is None:
                return ["not reached", ""]
            steps, wall_s = found[0] + start["env_steps"], found[1] + start["wall_s"]
            return [f"{steps / 1e6:.1f} M", f"{wall_s / 60:.1f} min"]

        paper_steps, paper_return = PAPER_STEPS[r["env"]], paper_returns[r["env"]][1]
        reached = steps_to(r["curve"], paper_return)
        fewer = "" if reached is None else f"{paper_steps / (reached[0] + start['env_steps']):.0f} x"
        row = [r["env"], r["preset"], str(r["seed"]), *cells(steps_to_share(r["curve"])), *cells(reached)]
        lines.append(f"| {' | '.join([*row, f'{paper_steps / 1e6:.0f} M', fewer])} |")
    lines.append("")
    lines.append(
        "Of the return after one step on training tasks, averaged over "
        f"{WINDOW} iterations: to 90 % of its way, and to the paper's held-out return. A guided run's steps and time "
        "include those of the oracle that it starts from; the paper's steps are all that led to its figures. One "
        "machine of 2 cores, beside other work."
    )
    return "\n".join(lines)


def guided_starts_table(record: Mapping[str, Any]) -> str:
    """Markdown: returns after gradient steps from an oracle whose goal is a context, a row for each setting of it."""
    columns = ["environment", "protocol", "oracle's steps", "std of its actions", "guesses", "weight", "context scale"]
    columns += ["inner step size", "lambda", "before", "1 step", "2 steps", "3 steps"]
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    rows = record["rows"]

    def order(r: dict[str, Any]) -> tuple[Any, ...]:
        guesses = r.get("guess_weight", 0.0), r.get("guess_std", 0.0)
        return (r["env"], r["protocol"], *guesses, r["std"], r["inner_lr"], r["context_scale"])

    for r in sorted(rows, key=order):
        std = f"{r['std']:.2f}" + (" (raised)" if r["std_replaced"] else "")
        row = [r["env"], r["protocol"], f"{r['oracle']['env_steps'] / 1e6:.1f} M", std]
        row += [f"{r[name]:g}" if r.get(name) else "" for name in ("guess_std", "guess_weight")]
        row += [f"{r['context_scale']:g}", f"{r['inner_lr']:g}"]
        row.append(f"{r['gae_lambda']:g}" if "gae_lambda" in r else "")
        row += [f"{m:.1f} ± {c:.1f}" for m, c in zip(r["mean"], r["ci95"], strict=True)]
        lines.append(f"| {' | '.join(row)} |")
    counts = {(r["n_tasks"], r["trajectories"], r["seed"]) for r in rows}
    said = "; ".join(f"{n} tasks, {t} trajectories each, seed {s}" for n, t, s in sorted(counts))
    lines += [
        "",
        f"No meta-training: {said}, mean ± 95 % interval over tasks. guesses: their standard deviation; "
        "with guesses, std is that of the actions before adaptation. weight: of the guesses' likelihood. "
        "lambda: of the advantages; empty: that of the default preset. `python benchmarks/guided_starts.py`",
    ]
    return "\n".join(lines)
