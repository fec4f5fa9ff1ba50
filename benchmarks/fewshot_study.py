"""Every supervised learner on the papers' tasks: trained, evaluated and recorded by the command line.

python benchmarks/fewshot_study.py list                       names of the experiments
python benchmarks/fewshot_study.py run [NAME...] [OPTION...]  train, evaluate and record what has no record yet
python benchmarks/fewshot_study.py pictures                   copy the pictures of docs/fewshot.md from the runs

Runs lie in runs/fewshot, records in results/supervised. An interrupted run is continued. OPTIONs, such as
`--iterations 300` or `--data FOLDER`, are added to every training command. Then `python -m metarl.results readme`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metarl.supervised.datasets import ProblemName
from metarl.supervised.learners import LEARNERS, LearnerName

RUNS, DOCS = Path("runs", "fewshot"), Path("docs")
PICTURES = {
    "sinusoid.png": "sinusoid-maml-seed0/evaluation-5shot-tasks.png",
    "sinusoid-steps.png": "sinusoid-maml-seed0/evaluation-5shot-steps.png",
    "omniglot.png": "characters-prototypical/evaluation-tasks.png",
}
"""Of docs/fewshot.md, each named docs/fewshot-..., and the runs they come from."""


@dataclass(frozen=True)
class Experiment:
    """A run."""

    problem: ProblemName
    options: str
    """Of its training command."""
    tests: tuple[str, ...]
    """Options of its evaluations."""


def experiments() -> dict[str, Experiment]:
    """All by name. Learners of any number of classes are trained once, the others for 5 and for 20 ways."""
    found = {}
    for seed in range(3):
        options = f"sinusoid --preset paper --seed {seed}"
        found[f"sinusoid-maml-seed{seed}"] = Experiment("regression", options, ("--shot 5", "--shot 10"))
    for learner, entry in LEARNERS.items():
        if entry.regression and learner != "maml":
            tests = ("--shot 10",) if learner == "snail" else ("--shot 5", "--shot 10")
            found[f"sinusoid-{learner}"] = Experiment("regression", f"sinusoid --learner {learner}", tests)
    for split in ("characters", "alphabets"):
        for learner, entry in LEARNERS.items():
            if entry.classification:
                found |= _omniglot(split, learner)
    return found


def _omniglot(split: str, learner: LearnerName) -> dict[str, Experiment]:
    options = f"omniglot --learner {learner} --dataset.split {split}"
    if LEARNERS[learner].any_way:
        tests = tuple(f"--way {way} --shot {shot}" for way in (5, 20) for shot in (1, 5))
        return {f"{split}-{learner}": Experiment("fewshot", options, tests)}
    shots = (1,) if learner == "snail" else (1, 5)  # SNAIL's sequence has a fixed length
    tests = tuple(f"--shot {shot}" for shot in shots)
    return {f"{split}-{learner}-{way}way": Experiment("fewshot", f"{options} --way {way}", tests) for way in (5, 20)}


def run(name: str, experiment: Experiment, options: Sequence[str]) -> None:
    """Train or continue, evaluate, record. CalledProcessError if a command fails."""
    path = RUNS / name
    if (path / "recorded").exists():
        return
    if (path / "checkpoint.pt").exists():
        _metarl(experiment.problem, "train", "--resume", str(path))
    else:
        _metarl(experiment.problem, "train", *experiment.options.split(), *options, "--out", str(path))
    for test in experiment.tests:
        _metarl(experiment.problem, "evaluate", str(path), *test.split())
    subprocess.run([sys.executable, "-m", "metarl.results", "record", str(path)], check=True)
    (path / "recorded").touch()


def _metarl(*argv: str) -> None:
    print("metarl", *argv, flush=True)
    subprocess.run([sys.executable, "-m", "metarl", *argv], check=True)


def main(argv: Sequence[str]) -> int:
    """Run a subcommand; returns the exit code."""
    known = experiments()
    if list(argv) == ["list"]:
        print("\n".join(known))
        return 0
    if list(argv) == ["pictures"]:
        for name, source in PICTURES.items():
            shutil.copyfile(RUNS / source, DOCS / f"fewshot-{name}")
        return 0
    if argv and argv[0] == "run":
        first = next((i for i, word in enumerate(argv) if word.startswith("--")), len(argv))
        names = argv[1:first] or list(known)
        unknown = [name for name in names if name not in known]
        if unknown:
            print(f"unknown experiment {unknown[0]!r}; 'list' names them", file=sys.stderr)
            return 2
        for name in names:
            run(name, known[name], argv[first:])
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
