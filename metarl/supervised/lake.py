"""The one-shot classification of Lake et al. 2015: 20 runs of 20 characters of one alphabet, by two drawers.

In each run one person drew the training images, one of each class, and another the test images. A run's error is the
share of test images put into the wrong class (%), a method's the mean over runs.
Source: Lake, Salakhutdinov, Tenenbaum 2015, Science 350:1332; files and scores of brendenlake/omniglot, folder
python/one-shot-classification, whose modified Hausdorff distance has 38.8 % on the official runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from .episodes import Episodes, Examples
from .image_files import ImageFormat, decode
from .image_source import Source, listed, open_source

LABELS = "class_labels.txt"
# The files' own size; inverted, so that ink is large.
FILE_SIZE = ImageFormat(105, 1, invert=True)

PredictClass = Callable[
    [Float[Tensor, "way channel height width"], Float[Tensor, "test channel height width"]], Int[Tensor, " test"]
]
"""From one image of each class and the test images, all in [0, 1], to the class of each test image."""


@dataclass(frozen=True, eq=False)
class LakeRun:
    """One task."""

    name: str
    training: UInt8[Tensor, "way channel height width"]
    """One image of each class."""
    test: UInt8[Tensor, "test channel height width"]
    answer: Int[Tensor, " test"]
    """Row of training that has a test image's class."""


@dataclass(frozen=True)
class LakeError:
    """How often a method was wrong."""

    by_run: tuple[float, ...]
    """Error of each run (%)."""
    mean: float
    """Mean over runs (%)."""
    interval: float
    """Half width of the 95 % interval of the mean over runs, 1.96 standard errors (%); NaN for one run."""


def read_runs(path: Path, form: ImageFormat = FILE_SIZE) -> tuple[LakeRun, ...]:
    """Read runs from a folder or zip such as all_runs.zip, in the order of their names.

    Layout: RUN/training/*.png, RUN/test/*.png, and RUN/class_labels.txt with a line "RUN/test/A.png RUN/training/B.png"
    for each test image, B being of A's class.
    Raises FileNotFoundError or ValueError for what is missing or damaged, naming the file.
    """
    with open_source(path) as source:
        tables = [name for name in source.names if name.rsplit("/", 1)[-1] == LABELS]
        if not tables:
            raise ValueError(
                f"there are no runs in {path}; each must be a folder with training, test and {LABELS} in it"
            )
        return tuple(_read_run(source, table, form) for table in tables)


def run_episodes(runs: Sequence[LakeRun]) -> Episodes:
    """The runs as one batch of tasks, for any learner; the query set are the test images, in file order.

    Raises ValueError if runs differ in size.
    """
    sizes = {(tuple(run.training.shape), tuple(run.test.shape)) for run in runs}
    if len(sizes) != 1:
        raise ValueError(f"runs of different sizes cannot be one batch: {sorted(sizes)}; give runs of one size")
    way = len(runs[0].training)
    support = Examples(
        torch.stack([_unit(run.training) for run in runs]), torch.arange(way).expand(len(runs), way).contiguous()
    )
    return Episodes(
        support, Examples(torch.stack([_unit(run.test) for run in runs]), torch.stack([run.answer for run in runs]))
    )


def lake_error(predict_class: PredictClass, runs: Sequence[LakeRun]) -> LakeError:
    """Error of a method over runs."""
    if not runs:
        raise ValueError("there are no runs; read some with read_runs")
    wrong = [predict_class(_unit(run.training), _unit(run.test)) != run.answer for run in runs]
    return summarise([100 * w.double().mean().item() for w in wrong])


def summarise(by_run: Sequence[float]) -> LakeError:
    """Mean and 95 % interval of the errors of runs (%)."""
    n = len(by_run)
    interval = 1.96 * float(np.std(by_run, ddof=1)) / n**0.5 if n > 1 else float("nan")
    return LakeError(tuple(by_run), float(np.mean(by_run)), interval)


def pixel_nearest(
    training: Float[Tensor, "way channel height width"], test: Float[Tensor, "test channel height width"]
) -> Int[Tensor, " test"]:
    """Class of the nearest training image by Euclidean distance of the pixels."""
    return torch.cdist(test.flatten(1), training.flatten(1)).argmin(1)


def modified_hausdorff(
    training: Float[Tensor, "way channel height width"], test: Float[Tensor, "test channel height width"]
) -> Int[Tensor, " test"]:
    """Class of the nearest training image by the modified Hausdorff distance of the sets A, B of inked pixels.

        d(A, B) = max(mean over a in A of min over b of |a - b|, mean over b in B of min over a of |a - b|)

    Each set is centred on its mean first. Inked are pixels above one half. ValueError for an image without ink.
    Source: Dubuisson and Jain 1994, ICPR, pages 566-568; centred as in brendenlake/omniglot's demo_classification.py.
    """
    known, asked = ([_ink(image) for image in images] for images in (training, test))
    distances = [[modified_hausdorff_distance(a, b) for b in known] for a in asked]
    return torch.tensor(distances).argmin(1)


def modified_hausdorff_distance(a: Float[Tensor, "n 2"], b: Float[Tensor, "m 2"]) -> float:
    """The distance of two sets of points, as they lie (pixels)."""
    # Roots of the smallest only: several times as fast as torch.cdist, whose fast form is inexact for near points.
    squared = (a[:, None, 0] - b[:, 0]).square_().add_((a[:, None, 1] - b[:, 1]).square_())
    nearest = [squared.amin(dim).sqrt().mean().item() for dim in (1, 0)]
    return max(nearest)


def _ink(image: Float[Tensor, "channel height width"]) -> Float[Tensor, "n 2"]:
    points = (image.mean(0) > 0.5).nonzero().float()
    if not len(points):
        raise ValueError("an image has no ink: no pixel is above one half; inverted images have ink near 1")
    return points - points.mean(0)


def _read_run(source: Source, table: str, form: ImageFormat) -> LakeRun:
    where = f"{table} in {source.path}"
    folder = table.rpartition("/")[0]
    name = folder.rpartition("/")[2]
    lines = source.read(table).decode(errors="replace").splitlines()
    pairs = [line.split() for line in lines if line.strip()]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"{where} must have lines of two file names, of a test image and of its class; restore it")
    # Names begin with the run's own folder, wherever that stands.
    above = folder.removesuffix(name)
    test = sorted(above + pair[0] for pair in pairs)
    answers = {above + pair[0]: above + pair[1] for pair in pairs}
    training = sorted(set(answers.values()))
    missing = [file for file in (*training, *test) if file not in set(source.names)]
    if missing:
        raise ValueError(f"{where} names files that are not there: {listed(missing)}; restore them")
    return LakeRun(
        name,
        _stack(source, training, form),
        _stack(source, test, form),
        torch.tensor([training.index(answers[file]) for file in test]),
    )


def _stack(source: Source, names: Sequence[str], form: ImageFormat) -> Tensor:
    images = [decode(source.read(name), f"{name} in {source.path}", form) for name in names]
    return torch.from_numpy(np.stack(images))


def _unit(images: UInt8[Tensor, "*image"]) -> Float[Tensor, "*image"]:
    return images.to(torch.float32) / 255
