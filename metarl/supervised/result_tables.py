"""Markdown tables of recorded supervised results beside the published ones, each with its source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]
SIZES = ((5, 1), (5, 5), (20, 1), (20, 5))
"""(way, shot) of the columns."""
NOTHING = "No run is recorded yet."
SINUSOID_STEPS = (0, 1, 5, 10)

PUBLISHED: dict[str, tuple[tuple[float | None, float | None, float | None, float | None], str]] = {
    "maml": ((98.7, 99.9, 95.8, 98.9), "MAML (Finn et al. 2017), table 1"),
    "fo-maml": ((98.3, 99.2, 89.4, 97.9), "Reptile (Nichol et al. 2018), table 2"),
    "anil": ((None, None, 96.2, 98.0), "ANIL (Raghu et al. 2020), table 2"),
    "maml++": ((99.47, 99.85, 97.65, 99.33), "MAML++ (Antoniou et al. 2019), as Papers with Code lists it"),
    "reptile": ((95.4, 98.9, 88.1, 96.7), "Reptile (Nichol et al. 2018), table 2, without transduction"),
    "siamese": ((97.3, 98.4, 88.2, 97.0), "quoted in MAML, table 1"),
    "matching": ((98.1, 98.9, 93.8, 98.5), "quoted in MAML, table 1"),
    "prototypical": ((98.8, 99.7, 96.0, 98.9), "Snell et al. 2017, quoted in replications"),
    "relation": ((99.6, 99.8, 97.6, 99.1), "Sung et al. 2018, quoted in replications"),
    "mann": ((82.8, 94.9, None, None), "quoted in MAML, table 1; without convolutions"),
    "snail": ((99.07, 99.78, 97.64, 99.36), "SNAIL (Mishra et al. 2018), quoted in eambutu/snail-pytorch"),
}
"""Accuracies on Omniglot (%) for SIZES, and where they were read."""
PUBLISHED_SINUSOID: dict[str, dict[int, float]] = {
    "maml": {1: 0.67, 5: 0.38, 10: 0.35},
    "fine-tune": {1: 2.41, 5: 2.23, 10: 2.19},
}
"""Mean squared errors with 5 support points: MAML, table 2; fine-tune is its "pretrained on all tasks"."""


PUBLISHED_LAKE = {"people": 4.5, "BPL": 3.3, "siamese": 8.0, "modified Hausdorff": 38.8}
"""Errors (%) on the official runs, as Lake et al. 2015 and 2019 have them."""


def lake_table(record: Record) -> str:
    """A row a method, best first: error on Lake's one-shot task."""
    rows = []
    for found in record["found"]:
        for mode, error in found["methods"].items():
            learner = found.get("learner")
            name = mode if learner is None else learner + ("" if mode == "this run" else f" {mode}")
            trained = "" if learner is None else f"{found['iterations']:,} iterations"
            rows.append((error["mean"], f"| {name} | {error['mean']:.1f} ± {error['interval']:.1f} | {trained} |"))
    lines = ["| method | error (%) | trained for |", "| --- | --- | --- |", *(line for _, line in sorted(rows))]
    published = "; ".join(f"{name} {error:g}" for name, error in PUBLISHED_LAKE.items())
    lines += ["", f"Mean over {record['runs']}; ± 95 % interval. Published, of the official ones: {published}."]
    return "\n".join([*lines, "", f"`{record['command']}`"])


def omniglot_table(records: Sequence[Record], split: str) -> str:
    """A row a run: accuracy by size of the tasks, the published one in brackets, and what training cost.

    Learners whose batch norm can take other statistics have a row for each.
    """
    columns = [*(f"{way}-way {shot}-shot" for way, shot in SIZES), "trained on", "iterations", "CPU time"]
    lines = [_row(["learner", *columns]), _row(["---"] * (len(columns) + 1))]
    chosen = _sorted(records, "omniglot", split)
    if not chosen:
        return NOTHING
    for record in chosen:
        modes = [record["tests"][0]["statistics"], *record["tests"][0]["other_statistics"]]
        for mode in modes:
            first = mode == modes[0]
            cells = [_accuracy(record, mode if not first else None, *size, published=first) for size in SIZES]
            name = record["learner"] + (f", seed {record['seed']}" if record["seed"] else "")
            name = (name if first else "-") + (f" {mode}" if mode else "")
            lines.append(_row([name, *cells, *(_cost(record) if first else ("", "", ""))]))
    return "\n".join([*lines, "", _legend(chosen)])


def compact_table(records: Sequence[Record]) -> str:
    """A row a learner, the first seed's run with the standard split: accuracy, the published one in brackets."""
    columns = [*(f"{way}-way {shot}-shot" for way, shot in SIZES), "CPU time"]
    lines = [_row(["learner", *columns]), _row(["---"] * (len(columns) + 1))]
    by_learner: dict[str, list[Record]] = {}
    chosen = _sorted(records, "omniglot", "characters")
    if not chosen:
        return NOTHING
    for record in chosen:
        by_learner.setdefault(record["learner"], []).append(record)
    for learner, runs in by_learner.items():
        seed = min(run["seed"] for run in runs)
        own = [run for run in runs if run["seed"] == seed]
        cells = []
        for size in SIZES:
            found = [cell for run in own if (cell := _accuracy(run, None, *size, published=True))]
            cells.append(found[0] if found else "")
        cells.append(" + ".join(_cpu(run) for run in own))
        mode = own[0]["tests"][0]["statistics"]
        lines.append(_row([f"{learner} {mode}" if mode else learner, *cells]))
    return "\n".join([*lines, "", _legend(chosen)])


def sinusoid_table(records: Sequence[Record]) -> str:
    """A row for each run and number of support points: mean squared error, the paper's in brackets, the median."""
    columns = ["support points", *(_after(step) for step in SINUSOID_STEPS), "median, last", "iterations", "CPU time"]
    lines = [_row(["learner", "seed", *columns]), _row(["---"] * (len(columns) + 2))]
    chosen = _sorted(records, "sinusoid", "")
    if not chosen:
        return NOTHING
    for record in chosen:
        for test in sorted(record["tests"], key=lambda test: test["shot"]):
            for mode, scores in (("", test), *test["other_statistics"].items()):
                cells = [_error(record["learner"], test, scores, step) for step in SINUSOID_STEPS]
                last = f"{scores['loss'][-1]['median']:.3f}"
                cost = ["", ""] if mode else [f"{record['iterations']:,}", _cpu(record)]
                name = f"- {mode}" if mode else record["learner"]
                lines.append(_row([name, str(record["seed"]), str(test["shot"]), *cells, last, *cost]))
    n = sorted({test["episodes"] for record in chosen for test in record["tests"]})
    counted = " or ".join(map(str, n))
    lines += [
        "",
        f"Mean squared error on 100 new points of each of {counted} test tasks, mean ± 95 % interval over tasks; in "
        "brackets what the paper prints (Finn et al. 2017, table 2, 5 support points). *lost*: tasks whose error is "
        "not finite; they are left out of the mean, not of the median. *guarded*: the same meta-parameters, but a step "
        "that raises a task's support loss is undone, and the task's later steps are half as long; plain steps beyond "
        "those trained for can blow up. A learner without gradient steps has one figure, under 10 steps.",
    ]
    return "\n".join(lines)


def peers_table(record: Mapping[str, Any]) -> str:
    """How many times as long the other ways to a meta-gradient take."""
    ways = [way for way in record["works"][0]["ratio"] if way != "ours"]
    lines = [_row(["CPU time as a multiple of ours", *ways, "ours"]), _row(["---"] * (len(ways) + 2))]
    for work in record["works"]:
        ratios = [f"{work['ratio'][way]:.2f}" for way in ways]
        lines.append(_row([work["work"], *ratios, f"{work['median_ms']['ours']:.1f} ms"]))
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return "\n".join([*lines, "", f"{record['what']}. `{record['command']}`; {versions}; {record['machine']}."])


def sources() -> str:
    """Where the published figures were read, a line a learner."""
    return "\n".join(f"- {learner}: {source}" for learner, (_, source) in PUBLISHED.items())


def commands(records: Sequence[Record]) -> str:
    """What made the records, as a shell block."""
    lines = []
    for record in sorted(records, key=lambda record: (record["on"], record["split"], record["learner"])):
        lines += [record["command"], *(test["command"] for test in record["tests"])]
    return "\n".join(["```", *lines, "```"])


def _sorted(records: Sequence[Record], on: str, split: str) -> list[Record]:
    """Records of a data set: learners in the order in which they are published, sizes and seeds rising."""
    order = list(PUBLISHED)
    chosen = [record for record in records if record["on"] == on and record["split"] == split]
    return sorted(
        chosen,
        key=lambda record: (
            order.index(record["learner"]) if record["learner"] in order else len(order),
            record["learner"],
            record["trained_for"]["way"],
            record["trained_for"]["shot"],
            record["seed"],
        ),
    )


def _accuracy(record: Record, mode: str | None, way: int, shot: int, *, published: bool) -> str:
    for test in record["tests"]:
        if (test["way"], test["shot"]) != (way, shot):
            continue
        scores = test if mode is None else test["other_statistics"].get(mode)
        if scores is None:
            return ""
        paper = PUBLISHED.get(record["learner"], ((None,) * 4, ""))[0][SIZES.index((way, shot))]
        return _percent(scores["accuracy"][-1]) + (f" ({paper:g})" if published and paper is not None else "")
    return ""


def _percent(summary: Mapping[str, Any]) -> str:
    return f"{100 * summary['mean']:.1f} ± {100 * summary['ci95']:.1f}"


def _error(learner: str, test: Mapping[str, Any], scores: Mapping[str, Any], step: int) -> str:
    """The error after so many steps; a learner without steps has its only one under the last."""
    steps = test["steps"]
    if steps == [None]:
        return _interval(scores["loss"][0]) if step == SINUSOID_STEPS[-1] else ""
    if step not in steps:
        return ""
    paper = PUBLISHED_SINUSOID.get(learner, {}).get(step) if test["shot"] == 5 else None
    return _interval(scores["loss"][steps.index(step)]) + (f" ({paper:.2f})" if paper is not None else "")


def _interval(summary: Mapping[str, Any]) -> str:
    lost = f", {summary['n_not_finite']} lost" if summary["n_not_finite"] else ""
    if summary["mean"] >= 1000:
        return f"{summary['mean']:.0e} ± {summary['ci95']:.0e}{lost}"
    return f"{summary['mean']:.2f} ± {summary['ci95']:.2f}{lost}"


def _cost(record: Record) -> tuple[str, str, str]:
    size = record["trained_with"]
    return f"{size['way']}-way {size['shot']}-shot", f"{record['iterations']:,}", _cpu(record)


def _cpu(record: Record) -> str:
    return f"{record['cpu_s'] / 60:.1f} min"


def _after(step: int) -> str:
    return {0: "before", 1: "1 step"}.get(step, f"{step} steps")


def _legend(records: Sequence[Record]) -> str:
    counts = sorted({test["episodes"] for record in records for test in record["tests"]})
    queries = sorted({test["query"] for record in records for test in record["tests"]})
    return (
        f"Accuracy (%) on {' or '.join(map(str, counts))} tasks of characters never seen in training, "
        f"{' or '.join(map(str, queries))} queries of a class, mean ± 95 % interval over tasks; in brackets the "
        "published figure, after the paper's full training. CPU time: of one thread, for all of meta-training."
    )


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
