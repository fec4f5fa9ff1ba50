"""Evaluations and videos in a run's TensorBoard, beside the metrics of training.

Each has a folder of its own below RUN/tensorboard, which TensorBoard shows as a run: it follows one file a folder, so
that a file beside those of training could hide what a training in progress writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from .event_file import EventFile


def add_evaluation(run: Path, result: Mapping[str, Any], figure: Path) -> None:
    """Adaptation curves of an evaluation, and its figure.

    adaptation/POLICY: return against gradient steps of the newest evaluation. evaluation: the return after 0, 1, ...
    gradient steps against training iterations, which grows with each evaluation.
    """
    board = run / "tensorboard"
    step = _last_iteration(result["iterations"])
    for name in ("meta-trained", "random initialisation", "pretrained", "oracle"):
        if name in result:
            curve = board / "adaptation" / name.replace(" ", "_")
            for old in curve.glob("events.out.tfevents.*"):  # two curves on one axis would be joined
                old.unlink()
            _write(curve, [_scalar("return_by_gradient_steps", k, v) for k, v in enumerate(result[name]["mean"])])
    after = [_scalar(f"return_after_{k}_steps", step, v) for k, v in enumerate(result["meta-trained"]["mean"])]
    _write(board / "evaluation", [*after, _image("adaptation", step, figure)])


def add_video(run: Path, tag: str, gif: Path, iterations: int) -> None:
    """A GIF, which TensorBoard's image panel plays. tag: the task."""
    _write(run / "tensorboard" / "videos", [_image(tag, _last_iteration(iterations), gif)])


def _last_iteration(iterations: int) -> int:
    """Rows of metrics count iterations from 0."""
    return max(0, iterations - 1)


def _scalar(tag: str, step: int, value: float) -> dict[str, Any]:
    return {"step": step, "tag": tag, "simple_value": float(value)}


def _image(tag: str, step: int, path: Path) -> dict[str, Any]:
    with Image.open(path) as image:
        width, height = image.size
    picture = {"width": width, "height": height, "colorspace": 3, "encoded_image_string": path.read_bytes()}
    return {"step": step, "tag": tag, "image": picture}


def _write(folder: Path, events: list[dict[str, Any]]) -> None:
    """Append to a folder's events; OSError names it."""
    try:
        with EventFile(folder) as file:
            for event in events:
                file.add(**event)
    except OSError as error:
        raise OSError(f"cannot write {folder}: {error.strerror or error}") from error
