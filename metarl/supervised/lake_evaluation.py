"""A trained learner under Lake's one-shot protocol, beside nearest neighbours by pixels and by shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .datasets import FolderConfig, OmniglotConfig, dataset_name
from .episodes import Examples
from .evaluation import description
from .image_files import ImageFormat
from .lake import FILE_SIZE, LakeRun, PredictClass, lake_error, modified_hausdorff, pixel_nearest, read_runs
from .learner import Learner
from .learners import steps_at_test
from .trained import Trained
from .training import torch_threads


def evaluate_lake(
    trained: Trained | None,
    runs: Path,
    *,
    baselines: bool = False,
    threads: int = 1,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Error (%) over runs as plain values for JSON: "methods" by name, each with by_run, mean and interval.

    trained: None for the baselines alone. Errors as in `lake.read_runs`; ValueError if the run knows other images, or
    has a fixed number of outputs and the runs' is another.
    """
    with torch_threads(threads):
        methods: dict[str, dict[str, Any]] = {}
        if trained is not None:
            own_size = read_runs(runs, format_of(trained))
            trained.size(way=len(own_size[0].training))
            for mode, learner in trained.by_statistics().items():
                methods[mode or "this run"] = _error(
                    mode or "this run", predictor(trained, learner), own_size, progress
                )
        if baselines or trained is None:
            # At the files' own size: a shape has its thickness.
            full_size = read_runs(runs, FILE_SIZE)
            for name, method in (("pixels", pixel_nearest), ("modified Hausdorff", modified_hausdorff)):
                methods[name] = _error(name, method, full_size, progress)
    head = description(trained) if trained is not None else {}
    return {
        **head,
        "protocol": "lake",
        "runs": str(runs),
        "unit": "error (%), mean over runs +- 1.96 standard errors",
        "methods": methods,
    }


def format_of(trained: Trained) -> ImageFormat:
    """What the learner takes images as. ValueError if they are not of a kind with Omniglot's."""
    dataset = trained.config.dataset
    if isinstance(dataset, OmniglotConfig | FolderConfig):
        return dataset.image_format
    raise ValueError(
        f"{trained.run.path} was trained on {dataset_name(dataset)}; the protocol of Lake takes learners of omniglot "
        "or of a folder of characters"
    )


def predictor(trained: Trained, learner: Learner) -> PredictClass:
    """The learner as a function of one run's images."""

    def predict_class(training: Tensor, test: Tensor) -> Tensor:
        support = Examples(training.unsqueeze(0), torch.arange(len(training)).unsqueeze(0))
        with torch.no_grad():
            adapted = learner.adapt(trained.params, support, steps_at_test(trained.config.algo))
            return learner.predict(adapted, test.unsqueeze(0))[0].argmax(1)

    return predict_class


def _error(
    name: str, method: PredictClass, runs: Sequence[LakeRun], progress: Callable[[str], None] | None
) -> dict[str, Any]:
    if progress is not None:
        progress(name)
    error = dataclasses.asdict(lake_error(method, runs))
    return {**error, "by_run": list(error["by_run"])}
