"""Memory of a training run over time: trains for so long, samples what the process holds, fits a trend.

python benchmarks/memory.py run NAME MINUTES OPTION...   train with these options, write results/memory-NAME.json
python benchmarks/memory.py docs                         rewrite docs/memory.png and the text on it in docs/faults.md

The options are those of `metarl train`; the run folder is runs/memory-NAME. The process is ended by SIGTERM.
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metarl.drawing import figure_file
from metarl.files import read_json, versions, write_atomic
from metarl.results import readme_text

RESULTS, PAGE, FIGURE = Path("results"), Path("docs", "faults.md"), Path("docs", "memory.png")
MAKER = "python benchmarks/memory.py docs"
EVERY_S = 5.0
STARTED_IN_S = 300.0
"""How soon the process must have made its run folder (s)."""


def memory_mb(pid: int) -> tuple[float, float]:
    """(resident, of which anonymous: heap and stacks, without mapped files) memory of a process (MB), from /proc."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    resident, anonymous = (int(fields[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "RssAnon"))
    return resident, anonymous


def measure(name: str, minutes: float, options: Sequence[str]) -> dict[str, Any]:
    """Train for so many minutes and return the record of what the process held.

    Raises RuntimeError if the training ends by itself or not with the exit code of an interrupted run.
    """
    out = Path("runs", f"memory-{name}")
    words = ["train", *options, "--iterations", "100000000", "--quiet", "--out", str(out)]
    rows, samples, start = out / "metrics.jsonl", [], time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "metarl", *words])
    try:
        n_iterations, read_to, next_s = 0, 0, 0.0
        while (elapsed := time.monotonic() - start) < 60 * minutes:
            if process.poll() is not None:
                raise RuntimeError(
                    f"the training ended by itself after {elapsed:.0f} s, exit code {process.returncode}"
                )
            if rows.exists():
                with open(rows, "rb") as file:
                    file.seek(read_to)
                    new = file.read()
                n_iterations, read_to = n_iterations + new.count(b"\n"), read_to + len(new)
                resident, anonymous = memory_mb(process.pid)
                samples.append((round(elapsed, 1), n_iterations, round(resident, 2), round(anonymous, 2)))
            elif elapsed > STARTED_IN_S:
                raise RuntimeError(f"there is no {rows} after {elapsed:.0f} s")
            next_s += EVERY_S
            time.sleep(max(0.0, start + next_s - time.monotonic()))
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    if code != 130:
        raise RuntimeError(f"the training ended with exit code {code} on SIGTERM, not with 130")
    columns = dict(
        zip(("elapsed_s", "iterations", "resident_mb", "anonymous_mb"), zip(*samples, strict=True), strict=True)
    )
    return {
        "name": name,
        "command": shlex.join(["metarl", *words]),
        "minutes": minutes,
        "versions": versions(),
        "trend": trend(columns),
        "samples": columns,
    }


def trend(samples: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """What the process held after a tenth of warming up: median of the first and of the last tenth, peak (MB), slopes.

    The slopes (MB/hour) are of least-squares lines, through all resident memory and through the anonymous part: the
    system takes back pages of mapped files, a leak shows in the heap.
    """
    skipped = len(samples["elapsed_s"]) // 10
    hours = np.array(samples["elapsed_s"][skipped:]) / 3600
    resident, anonymous = (np.array(samples[f"{part}_mb"][skipped:]) for part in ("resident", "anonymous"))
    tenth = max(1, len(resident) // 10)
    return {
        "first_mb": round(float(np.median(resident[:tenth])), 2),
        "last_mb": round(float(np.median(resident[-tenth:])), 2),
        "peak_mb": round(float(resident.max()), 2),
        "slope_mb_per_hour": round(float(np.polyfit(hours, resident, 1)[0]), 2),
        "heap_slope_mb_per_hour": round(float(np.polyfit(hours, anonymous, 1)[0]), 2),
    }


def figure(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Resident memory against time, a line a run, as a PNG."""
    with figure_file(path, (7, 3.5)) as drawing:
        axes = drawing.add_subplot()
        for record in records:
            samples, found = record["samples"], trend(record["samples"])
            name, slope, n = record["name"], found["slope_mb_per_hour"], samples["iterations"][-1]
            label = f"{name}: {slope:+.1f} MB/hour over {n:,} iterations"
            axes.plot(np.array(samples["elapsed_s"]) / 60, samples["resident_mb"], linewidth=1.2, label=label)
        axes.set_ylim(0, 1.2 * max(max(record["samples"]["resident_mb"]) for record in records))
        axes.set_xlabel("time since the start (min)")
        axes.set_ylabel("resident memory (MB)")
        axes.set_title("memory of the training process", fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower right")


def text(records: Sequence[Mapping[str, Any]]) -> str:
    """What was measured, in Markdown."""
    rows = [
        "| command | minutes | iterations | first (MB) | last (MB) | slope (MB/h) | heap (MB/h) |",
        "|---" * 7 + "|",
    ]
    for record in records:
        found, n = trend(record["samples"]), record["samples"]["iterations"][-1]
        numbers = (found[key] for key in ("first_mb", "last_mb", "slope_mb_per_hour", "heap_slope_mb_per_hour"))
        cells = (f"`{record['command']}`", f"{record['minutes']:g}", f"{n:,}", *(f"{value:.1f}" for value in numbers))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(
        [
            f"What the training process held, every {EVERY_S:g} s: medians of the first and last tenth, after a tenth",
            "of warming up, and the slopes of least-squares lines through all of it and through the heap:",
            "",
            *rows,
            "",
            f"![Resident memory against time]({FIGURE.name})",
        ]
    )


def main(argv: Sequence[str]) -> int:
    """Run a subcommand; returns the exit code."""
    if len(argv) >= 3 and argv[0] == "run":
        record = measure(argv[1], float(argv[2]), argv[3:])
        write_atomic(RESULTS / f"memory-{argv[1]}.json", json.dumps(record) + "\n")
        print(record["trend"])
        return 0
    if list(argv) == ["docs"]:
        records = [read_json(path) for path in sorted(RESULTS.glob("memory-*.json"))]
        figure(records, FIGURE)
        write_atomic(PAGE, readme_text(PAGE.read_text(), {"memory": text(records)}, PAGE.name, MAKER))
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
