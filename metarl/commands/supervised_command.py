"""What `metarl fewshot` and `metarl regression` share: the subcommand is found, and help says what there is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from metarl.settings import nearest
from metarl.supervised.datasets import DATASETS, ProblemName
from metarl.supervised.learners import LEARNERS
from metarl.supervised.presets import PRESETS

SUBCOMMANDS = ("train", "evaluate")


def run(problem: ProblemName, argv: Sequence[str]) -> int:
    """Run `metarl PROBLEM train | evaluate ...`; returns the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print(usage(problem), end="")
        return 0 if argv else 2
    name, rest = argv[0], argv[1:]
    if name == "train":
        from metarl.commands.supervised_train import train

        return train(problem, rest)
    if name == "evaluate":
        from metarl.commands.supervised_evaluate import evaluate_command

        return evaluate_command(problem, rest)
    raise ValueError(f"unknown command {name!r} of metarl {problem}; {nearest(name, SUBCOMMANDS)}")


def usage(problem: ProblemName) -> str:
    """Help of the command as a whole."""
    datasets = {name: entry.text for name, entry in DATASETS.items() if entry.problem == problem}
    can = {
        name: entry.text
        for name, entry in LEARNERS.items()
        if (entry.regression if problem == "regression" else entry.classification)
    }
    parts = [
        f"usage: metarl {problem} train DATASET [options]\n       metarl {problem} evaluate RUN [options]\n",
        f"data sets (DATASET)\n{_rows(datasets.items())}",
        f"learners (--learner)\n{_rows(can.items())}",
        f"presets (--preset)\n{_rows(PRESETS.items())}",
        f"'metarl {problem} train DATASET --learner LEARNER --help' explains the options, with their defaults.\n",
    ]
    return "\n".join(parts)


def _rows(texts: Iterable[tuple[str, str]]) -> str:
    rows = list(texts)
    width = max(len(name) for name, _ in rows)
    return "".join(f"  {name:<{width}}  {text}\n" for name, text in rows)
