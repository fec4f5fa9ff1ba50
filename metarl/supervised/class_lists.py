"""Which classes a run was trained on: kept beside it, so that none of them is met again as a new one."""

from __future__ import annotations

from typing import get_args

from metarl.files import json_text, read_json, write_atomic
from metarl.run_folder import RunFolder

from .task_source import ImageTasks, Split, TaskSource

FILE = "classes.json"
"""In a run folder: names of classes by split. Runs of older versions, and of functions, have none."""


def class_names(tasks: TaskSource) -> dict[str, list[str]]:
    """Names of the classes by split; none of tasks that are not drawn from images."""
    if not isinstance(tasks, ImageTasks):
        return {}
    parts = {split: getattr(tasks.data, split) for split in get_args(Split)}
    return {split: list(part.names) for split, part in parts.items() if part is not None}


def write_classes(run: RunFolder, tasks: TaskSource) -> None:
    """Write the names of a new run's classes."""
    names = class_names(tasks)
    if names:
        write_atomic(run.path / FILE, json_text(names))


def check_classes(run: RunFolder, tasks: TaskSource, *, to_train: bool) -> None:
    """ValueError if classes that a run was trained on are now classes to validate or test on.

    to_train: also if those to train on are others now. Data in which classes came or went are split anew.
    """
    file = run.path / FILE
    if not file.exists():
        return
    before, now = read_json(file), class_names(tasks)
    if not isinstance(before, dict) or not isinstance(before.get("train"), list):
        raise ValueError(f"{file} does not list the classes of each split; restore it, or remove it to do without")
    trained = set(before["train"])
    for split in ("validation", "test"):
        known = sorted(trained.intersection(now.get(split, ())))
        if known:
            raise ValueError(
                f"{len(known)} of the {len(now[split])} {split} classes, such as {known[0]!r}, are classes that "
                f"{run.path} was trained on ({file.name} there lists them): the data have changed since; give those "
                "it was trained with by --data, put the classes into folders train, val and test, or train anew"
            )
    if to_train and now.get("train") != before["train"]:
        raise ValueError(
            f"{run.path} was trained on {len(trained)} classes that {FILE} there lists, the data have "
            f"{len(now.get('train', ()))} to train on, which are not the same; give the data it was trained with by "
            "--data, or train anew"
        )
