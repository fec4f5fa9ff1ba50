"""Supervised runs small enough for a test: tiny images, a tiny network, two iterations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from omniglot_files import omniglot_files, png, write_files

from metarl.cli import main

SIZES = ("--iterations", "2", "--meta-batch", "2", "--log-every", "1", "--validate-every", "2")
IMAGES = ("--dataset.size", "16", "--dataset.channels", "1", "--network.filters", "4", "--network.no-pool")
TASKS = ("--way", "3", "--shot", "1", "--query", "2", "--train-query", "2", "--train-way", "0", "--train-shot", "1")


def class_folders(folder: Path, n_classes: int = 12, n_images: int = 4) -> Path:
    """Grey pictures of 16 x 16, each class with a brightness of its own, in train, val and test folders."""
    rng = np.random.default_rng(0)
    files = {}
    for c in range(n_classes):
        split = ("train", "val", "test")[c % 3]
        for i in range(n_images):
            pixels = np.clip(rng.normal(20 * c, 10, (16, 16)), 0, 255).astype(np.uint8)
            files[f"{split}/class{c:02d}/{i}.png"] = png(pixels, "L")
    return write_files(folder, files)


def small_omniglot(folder: Path) -> Path:
    """Three alphabets to train on, two to test on, of five characters and six drawers."""
    parts = (("images_background", {"A": 5, "B": 5, "C": 5}, 1), ("images_evaluation", {"D": 5, "E": 5}, 100))
    for part, alphabets, first in parts:
        files = omniglot_files(alphabets, drawers=6, first=first)
        write_files(folder / part, {name: a_stroke(i) for i, name in enumerate(files)})
    return folder


def a_stroke(place: int) -> bytes:
    """Black on white, somewhere."""
    pixels = np.full((105, 105), 255, dtype=np.uint8)
    pixels[20 + place % 60 : 30 + place % 60, 20:24] = 0
    return png(pixels)


def train_images(out: Path, data: Path, learner: str, *options: object) -> Path:
    """A finished few-shot run."""
    argv = ("fewshot", "train", "folder", "--learner", learner, "--data", data, *SIZES, *IMAGES, *TASKS)
    assert main([str(a) for a in (*argv, "--validation-episodes", 2, "--quiet", "--out", out, *options)]) == 0
    return out


def train_waves(out: Path, learner: str = "maml", *options: object) -> Path:
    """A finished regression run."""
    argv = ("regression", "train", "sinusoid", "--learner", learner, *SIZES, "--shot", 5, "--query", 6)
    assert main([str(a) for a in (*argv, "--validation-episodes", 2, "--quiet", "--out", out, *options)]) == 0
    return out
