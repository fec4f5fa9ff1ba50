"""New runs of Lake's one-shot task, made from Omniglot's evaluation alphabets in the layout of the official ones."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from .image_source import Classes, Source, listed, open_source
from .lake import LABELS
from .omniglot import Part, by_drawer, find_part, part_classes

PART: Part = "images_evaluation"


def make_runs(omniglot: Path, out: Path, n_runs: int = 20, seed: int = 0, way: int = 20) -> Path:
    """Write runs into a new folder: out/run01/{training/class01.png, test/item01.png, ..., class_labels.txt}.

    Each run draws an alphabet with enough characters, its characters, and two people: one drew the training images,
    another the test images. Each alphabet is used once before any is used again. The files are copied unchanged.
    Differs: the official runs were chosen by hand, from 10 alphabets; these are random, so errors differ somewhat.

    omniglot: as in `omniglot.read_part`. Returns out. Raises ValueError if out exists or no alphabet is large enough,
    and leaves no unfinished folder.
    """
    if n_runs < 1 or way < 2:
        raise ValueError(f"{n_runs} runs of {way} classes cannot be made; there must be at least 1 run and 2 classes")
    if out.exists():
        raise ValueError(f"{out} exists already; choose a new folder for the runs")
    rng = np.random.default_rng(seed)
    with open_source(find_part(omniglot, PART)) as source:
        alphabets = _alphabets(part_classes(source, PART), way, source)
        order = np.concatenate([rng.permutation(len(alphabets)) for _ in range(-(-n_runs // len(alphabets)))])
        out.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        try:
            for i in range(n_runs):
                _write_run(building, f"run{i + 1:02d}", alphabets[order[i]], source, way, rng)
            building.chmod(0o755)
            os.rename(building, out)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
    return out


def _alphabets(classes: Classes, way: int, source: Source) -> list[list[list[str]]]:
    """Files of each character of each alphabet with at least `way` characters, in the order of names."""
    alphabets: dict[str, list[list[str]]] = {}
    for name in sorted(classes):
        alphabets.setdefault(name.split("/")[0], []).append(classes[name])
    large = [characters for characters in alphabets.values() if len(characters) >= way]
    if not large:
        sizes = [f"{name} ({len(characters)})" for name, characters in alphabets.items()]
        raise ValueError(f"no alphabet in {source.path} has {way} characters: {listed(sizes)}; choose fewer classes")
    return large


def _write_run(
    folder: Path, run: str, characters: list[list[str]], source: Source, way: int, rng: np.random.Generator
) -> None:
    chosen = [by_drawer(characters[i]) for i in rng.choice(len(characters), way, replace=False)]
    drawers = sorted(set.intersection(*(set(files) for files in chosen)))
    if len(drawers) < 2:
        raise ValueError(
            f"the characters of {characters[0][0].split('/')[-3]} in {source.path} share fewer than 2 drawers"
        )
    teacher, pupil = rng.choice(drawers, 2, replace=False)
    test_order = rng.permutation(way)
    for kind in ("training", "test"):
        (folder / run / kind).mkdir(parents=True)
    lines = []
    for item, c in enumerate(test_order, start=1):
        training, test = f"{run}/training/class{c + 1:02d}.png", f"{run}/test/item{item:02d}.png"
        (folder / training).write_bytes(source.read(chosen[c][teacher]))
        (folder / test).write_bytes(source.read(chosen[c][pupil]))
        lines.append(f"{test} {training}\n")
    (folder / run / LABELS).write_text("".join(lines))
