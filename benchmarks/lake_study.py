"""Lake's one-shot task with trained learners: error on new runs in the layout of the official ones.

python benchmarks/lake_study.py OMNIGLOT RUN...   OMNIGLOT: folder or zips; RUN: trained on the split by alphabets

Makes 20 runs of 20 characters from the evaluation alphabets (runs/lake, seed 0), evaluates each RUN and the two plain
methods by `metarl fewshot evaluate --protocol lake`, and writes results/lake.json. Then `python -m metarl.results
readme`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metarl.files import versions
from metarl.runs import read_json, write_atomic
from metarl.supervised.lake_runs import make_runs

TASKS, RECORD = Path("runs", "lake"), Path("results", "lake.json")
EVALUATE = ("metarl", "fewshot", "evaluate")
PLAIN = Path("runs", "lake-plain")


def error_of(run: Path | None) -> dict[str, Any]:
    """What the command line finds for a run; None for the plain methods."""
    which = ["--out", str(PLAIN), "--baselines"] if run is None else [str(run)]
    (run or PLAIN).mkdir(parents=True, exist_ok=True)
    words = [*EVALUATE, *which, "--protocol", "lake", "--runs", str(TASKS)]
    subprocess.run([sys.executable, "-m", *words], check=True)
    found = read_json((run or PLAIN) / "lake.json")
    keys = ("learner", "iterations", "train_cpu_s", "data", "methods")
    return {"command": " ".join(words), **{key: found[key] for key in keys if key in found}}


def main(argv: Sequence[str]) -> int:
    """Evaluate and record; returns the exit code."""
    if not argv or argv[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    if not TASKS.exists():
        make_runs(Path(argv[0]), TASKS)
    record = {
        "command": f"python benchmarks/lake_study.py {' '.join(argv)}",
        "runs": "20 runs of 20 characters, made by metarl.supervised.lake_runs.make_runs (seed 0)",
        "found": [error_of(run) for run in (*map(Path, argv[1:]), None)],
        "versions": versions(),
    }
    write_atomic(RECORD, json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
