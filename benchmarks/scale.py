"""How much faster an iteration is with two processes than with one, one thread each, and what an exchange costs.

python benchmarks/scale.py run    measure, into results/scale.json
python benchmarks/scale.py docs   rewrite the table of docs/scale.md

One and two processes train the same run in turn, so that what else the machine does falls on both. On a busy machine
the wall time says little; the CPU time of the busiest process is what an iteration would take on cores of its own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from metarl.distributed import joined, launch_of
from metarl.files import read_json, versions, write_atomic
from metarl.presets import preset
from metarl.train import CPU, first_state, iterations
from metarl.workers import Workers, core_count

RECORD, PAGE = Path("results", "scale.json"), Path("docs", "scale.md")
BEGIN, END = "<!-- made by 'python benchmarks/scale.py docs' -->", "<!-- end of what was made -->"
SIZES = (1, 2)
REPEATS = 1
CONFIG = replace(preset("half-cheetah-dir"), meta_batch=20, trajectories=5, iterations=4)
"""The first iteration warms up and does not count."""
EXCHANGES = 50


def torchrun(size: int) -> dict[str, Any]:
    """What the first of so many processes of this file measures."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*start, __file__, "part"], check=True, env=environment, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def part() -> dict[str, Any] | None:
    """As one of the processes: wall time and largest CPU time (s) of the iterations; None but in the first.

    Also the time of a curvature product's mean over tasks (ms).
    """
    rows, times = [], []
    with joined(launch_of(os.environ)) as group:
        workers, family = Workers(1, group), CONFIG.env.make()
        state = first_state(CONFIG, family, None, workers, CPU)
        with closing(iterations(CONFIG, family, state, workers)) as updates:
            wall, cpu = time.perf_counter(), time.process_time()
            for _, record in updates:
                busiest = group.gather(torch.tensor([time.process_time() - cpu])).max()
                seconds = time.perf_counter() - wall
                rows.append({"wall_s": seconds, "cpu_s": float(busiest), "return_after": record.return_after})
                wall, cpu = time.perf_counter(), time.process_time()
        mine = group.divide(CONFIG.meta_batch)
        products = state.meta.theta.expand(mine.stop - mine.start, -1).clone()
        for _ in range(EXCHANGES):
            start = time.perf_counter()
            group.mean(products)
            times.append(1e3 * (time.perf_counter() - start))
        return {"iterations": rows, "exchange_ms": times} if group.rank == 0 else None


def measure() -> dict[str, Any]:
    """The record."""
    load_before = os.getloadavg()[0]
    rows: dict[int, list[dict[str, float]]] = {size: [] for size in SIZES}
    exchanges: dict[int, list[float]] = {size: [] for size in SIZES}
    curves = []
    for _ in range(REPEATS):
        for size in SIZES:
            measured = torchrun(size)
            rows[size] += measured["iterations"][1:]
            exchanges[size] += measured["exchange_ms"]
            curves.append([row["return_after"] for row in measured["iterations"]])
    median = {
        name: {str(size): statistics.median(row[name] for row in rows[size]) for size in SIZES}
        for name in ("wall_s", "cpu_s")
    }
    return {
        "command": "python benchmarks/scale.py run",
        "setting": f"half-cheetah-dir, {CONFIG.meta_batch} tasks x {CONFIG.trajectories} trajectories, one thread",
        "cores": core_count(),
        "load_average_before": load_before,
        "load_average_after": os.getloadavg()[0],
        "iterations": {str(size): rows[size] for size in SIZES},
        "median": median,
        "speed_up": {name: values["1"] / values["2"] for name, values in median.items()},
        "same_curve": all(curve == curves[0] for curve in curves),
        "exchange_ms": {str(size): statistics.median(exchanges[size]) for size in SIZES},
        "versions": versions(),
    }


def table(record: dict[str, Any]) -> str:
    """Markdown of a record."""
    lines = [
        "| processes | iteration, CPU time of the busiest process | iteration, wall time | one mean over tasks |",
        "| --- | --- | --- | --- |",
    ]
    for size, exchange_ms in record["exchange_ms"].items():
        cpu_s, wall_s = (record["median"][name][size] for name in ("cpu_s", "wall_s"))
        lines.append(f"| {size} | {cpu_s:.2f} s | {wall_s:.2f} s | {exchange_ms:.2f} ms |")
    same = "the same" if record["same_curve"] else "NOT the same"
    times = {name: f"{value:.2f}" for name, value in record["speed_up"].items()}
    return "\n".join(
        [
            *lines,
            "",
            f"{record['setting']} each; medians of trainings in turn, whose returns are",
            f"{same} bit for bit. Two take {times['cpu_s']} times less CPU time each, and here {times['wall_s']} times",
            f"less wall time, on {record['cores']} cores with a load average of {record['load_average_before']:.1f}",
            f"before and {record['load_average_after']:.1f} after: what else runs there makes wall times noisy. The",
            "last column is the mean of a row of parameters a task, with its exchange, as a curvature product has it.",
            "",
            "```",
            record["command"],
            "```",
        ]
    )


def main(argv: Sequence[str]) -> int:
    """Run a subcommand; returns the exit code."""
    if list(argv) == ["run"]:
        write_atomic(RECORD, json.dumps(measure(), indent=1) + "\n")
    elif list(argv) == ["docs"]:
        head, _, rest = PAGE.read_text().partition(BEGIN)
        write_atomic(PAGE, f"{head}{BEGIN}\n{table(read_json(RECORD))}\n{END}{rest.partition(END)[2]}")
    elif list(argv) == ["part"]:
        measured = part()
        if measured is not None:
            print(json.dumps(measured))
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
