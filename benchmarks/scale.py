"""How much faster an iteration is with two processes than with one, one thread each, and what an exchange costs.

python benchmarks/scale.py run    measure, into results/scale.json
python benchmarks/scale.py docs   rewrite the table of docs/scale.md

One and two processes train the same run in turn, so that what else the machine does falls on both.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from metarl.distributed import joined, launch_of
from metarl.files import read_json, versions, write_atomic
from metarl.metrics import read_metrics
from metarl.results import readme_text
from metarl.workers import core_count

RECORD, PAGE = Path("results", "scale.json"), Path("docs", "scale.md")
SIZES = (1, 2)
REPEATS = 3
ITERATIONS = 4
"""Of each training; the first warms up and does not count."""
TRAIN = ("train", "half-cheetah-dir", "--threads", "1", "--iterations", str(ITERATIONS), "--quiet")
EXCHANGES, TASKS, N_PARAMS = 200, 20, 12_512
"""What a curvature product of half-cheetah-dir exchanges: a row of parameters a task."""


def torchrun(size: int, *words: str) -> str:
    """Standard output of a command in so many processes."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(start, check=True, env=environment, stdout=subprocess.PIPE, text=True).stdout


def train(size: int) -> tuple[list[float], list[float]]:
    """Iteration times (s) of a training by so many processes, and its returns."""
    with tempfile.TemporaryDirectory() as folder:
        torchrun(size, "-m", "metarl", *TRAIN, "--out", folder)
        rows = read_metrics(Path(folder, "metrics.jsonl"))
    return [row["iteration_s"] for row in rows[1:]], [row["return_after"] for row in rows]


def exchange() -> None:
    """As one of the processes: the time of a mean over all tasks (ms), printed by the first."""
    with joined(launch_of(os.environ)) as group:
        mine = group.divide(TASKS)
        rows = torch.randn(mine.stop - mine.start, N_PARAMS)
        times = []
        for _ in range(EXCHANGES):
            start = time.perf_counter()
            group.mean(rows)
            times.append(1e3 * (time.perf_counter() - start))
        if group.rank == 0:
            print(statistics.median(times))


def measure() -> dict[str, Any]:
    """The record."""
    load_before = os.getloadavg()[0]
    times: dict[int, list[float]] = {size: [] for size in SIZES}
    curves = []
    for _ in range(REPEATS):
        for size in SIZES:
            seconds, returns = train(size)
            times[size] += seconds
            curves.append(returns)
    medians = {str(size): statistics.median(seconds) for size, seconds in times.items()}
    return {
        "command": "python benchmarks/scale.py run",
        "training": "torchrun --standalone --nproc-per-node N -m metarl " + " ".join(TRAIN),
        "cores": core_count(),
        "load_average_before": load_before,
        "load_average_after": os.getloadavg()[0],
        "iteration_s": {str(size): seconds for size, seconds in times.items()},
        "median_iteration_s": medians,
        "speed_up": medians["1"] / medians["2"],
        "same_curve": all(curve == curves[0] for curve in curves),
        "exchange_ms": {str(size): float(torchrun(size, __file__, "exchange")) for size in SIZES},
        "versions": versions(),
    }


def table(record: dict[str, Any]) -> str:
    """Markdown of a record."""
    lines = [
        "| processes, one thread each | iteration | mean over tasks of one vector of parameters |",
        "| --- | --- | --- |",
    ]
    for size, seconds in record["median_iteration_s"].items():
        lines.append(f"| {size} | {seconds:.2f} s | {record['exchange_ms'][size]:.2f} ms |")
    same = "the same" if record["same_curve"] else "NOT the same"
    lines += [
        "",
        f"Speed-up {record['speed_up']:.2f}; returns of all trainings {same} bit for bit. Medians of {REPEATS} "
        f"trainings each, in turn, on {record['cores']} cores that had other work too: load average "
        f"{record['load_average_before']:.1f} before, {record['load_average_after']:.1f} after. With other work on the "
        "cores, two processes also get a larger share of them than one.",
        "",
        "```",
        record["training"],
        record["command"],
        "```",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Run a subcommand; returns the exit code."""
    if list(argv) == ["run"]:
        write_atomic(RECORD, json.dumps(measure(), indent=1) + "\n")
    elif list(argv) == ["docs"]:
        write_atomic(PAGE, readme_text(PAGE.read_text(), {"scale": table(read_json(RECORD))}))
    elif list(argv) == ["exchange"]:
        exchange()
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
