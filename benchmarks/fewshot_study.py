"""Every supervised learner on the papers' tasks: trained, evaluated and recorded by the command line.

python benchmarks/fewshot_study.py list                       names of the experiments
python benchmarks/fewshot_study.py run [NAME...] [OPTION...]  train, evaluate and record what has no record yet
python benchmarks/fewshot_study.py pictures                   copy the pictures of docs/fewshot.md from the runs

Runs lie in runs/fewshot, records in results/supervised. An interrupted run is continued. On Omniglot a training takes
two minutes to an hour of one core; OPTIONs, such as `--iterations 30000` or `--data FOLDER`, are added to every
training command and go before that. Then `python -m metarl.results readme`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
SCARCE = "--outer.schedule cosine --validation-episodes 40 --checkpoint-every 100"
"""For trainings of minutes: smaller batches of tasks, larger steps that fall, few validations."""
MINUTES: dict[LearnerName, str] = {
    "maml": "--iterations 72000 --validate-every 6000",
    "fo-maml": "--iterations 5000",
    "anil": "--meta-batch 8 --outer.lr 0.002 --iterations 8000 --validate-every 1000",
    "meta-sgd": "--iterations 2500 --validate-every 500",
    "maml++": "--meta-batch 2 --train-query 3 --algo.steps 2 --algo.step-size 1 --outer.lr 0.003 --iterations 1500 "
    "--validate-every 500",
    "prototypical": "--iterations 12000 --validate-every 2000",
    "matching": "--train-way 20 --train-query 3 --meta-batch 1 --outer.lr 0.003 --iterations 8000 --validate-every 800",
    "siamese": "--train-way 20 --train-query 3 --meta-batch 1 --outer.lr 0.003 --iterations 6000 --validate-every 1000",
    "relation": "--iterations 20000 --validate-every 1000",
    "lstm": "--meta-batch 16 --iterations 1000 --validate-every 250",
    "mann": "--meta-batch 16 --iterations 4000 --validate-every 200",
    "snail": "--iterations 2000 --validate-every 500",
    "lstm-optimizer": "--network.filters 64 --iterations 300 --validate-every 150",
    "meta-lstm": "--network.filters 64 --iterations 500 --validate-every 250",
    "fine-tune": "--validate-every 1000",
    "reptile": "--iterations 1500 --validate-every 500",
}
"""About three minutes on Omniglot, more where it is known to help; 5 ways where the number of classes counts."""
MANY: dict[LearnerName, str] = {
    "maml": "--iterations 48000",
    "fo-maml": "--iterations 5000",
    "anil": "--meta-batch 2 --outer.lr 0.002 --iterations 20000 --validate-every 2000",
    "meta-sgd": "--iterations 2500 --validate-every 500",
    "maml++": "--meta-batch 2 --algo.steps 2 --algo.step-size 1 --outer.lr 0.003 --iterations 700 --validate-every 350",
    "lstm": "--meta-batch 4 --iterations 600 --validate-every 300",
    "mann": "--meta-batch 4 --iterations 500 --validate-every 250",
    "snail": "--meta-batch 4 --iterations 2000 --validate-every 500",
    "lstm-optimizer": "--network.filters 64 --meta-batch 1 --iterations 400 --validate-every 200",
    "meta-lstm": "--network.filters 64 --iterations 500 --validate-every 250",
    "reptile": "--iterations 800 --validate-every 400",
}
"""The same with 20 ways."""
SINGLE = {
    "characters-fo-maml-5way": "--iterations 20000",
    "characters-meta-sgd-5way": "--iterations 10000",
    "characters-maml++-5way": "--iterations 10000",
    "characters-lstm-5way": "--iterations 6000",
    "characters-siamese": "--iterations 12000",
    "characters-relation": "--iterations 40000",
    "alphabets-maml-5way": "--iterations 8000 --validate-every 1000",
    "alphabets-maml-20way": "--iterations 5000",
    "sinusoid-mann": "--iterations 2000",
    "sinusoid-snail": "--iterations 3000",
    "sinusoid-lstm-optimizer": "--iterations 2000",
}
"""Options of single experiments, after the others: more time, or less."""
SEEDED: tuple[LearnerName, ...] = ("anil", "matching", "snail", "meta-lstm", "fine-tune")
"""One of each family, trained on characters with seeds 1 and 2 too (5 ways), to see what a seed changes."""


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
    for learner in SEEDED:
        first = f"characters-{learner}" + ("" if LEARNERS[learner].any_way else "-5way")
        for seed in (1, 2):
            given = f"{found[first].options} --seed {seed}"
            found[f"{first}-seed{seed}"] = Experiment("fewshot", given, found[first].tests)
    for name, more in SINGLE.items():
        found[name] = replace(found[name], options=f"{found[name].options} {more}")
    return found


def _omniglot(split: str, learner: LearnerName) -> dict[str, Experiment]:
    options = f"omniglot --learner {learner} --dataset.split {split}"
    trains = LEARNERS[learner].trains
    if LEARNERS[learner].any_way:
        if trains:
            options += f" {SCARCE} {MINUTES[learner]}"
        tests = tuple(_test(way, shot) for way in (5, 20) for shot in (1, 5))
        return {f"{split}-{learner}": Experiment("fewshot", options, tests)}
    found = {}
    for way, settings in ((5, MINUTES), (20, MANY)):
        given = f"{options} --way {way} {SCARCE} {settings[learner]}" if trains else f"{options} --way {way}"
        name = f"{split}-{learner}-{way}way"
        # A hundred steps of Adam on 100 images, 600 times, take an hour.
        shots = (1,) if learner == "snail" or (learner, way) == ("scratch", 20) else (1, 5)
        found[name] = Experiment("fewshot", given, tuple(_test(way, shot) for shot in shots))
        if learner == "snail":  # whose sequence has a fixed length
            found[f"{name}-5shot"] = Experiment("fewshot", f"{given} --shot 5", (_test(way, 5),))
    return found


def _test(way: int, shot: int) -> str:
    """The same number of queries for all learners: transductive ones depend on it."""
    return f"--way {way} --shot {shot} --query {5 if way == 5 else 2}"


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
