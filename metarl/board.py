"""Evaluations and videos in a run's TensorBoard, beside the metrics of training.

Each has a folder of its own below RUN/tensorboard, which TensorBoard shows as a run: it follows one file a folder, so
that a file beside those of training could hide what a training in progress writes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image


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
    return {"step": step, "value": {"tag": tag, "simple_value": float(value)}}


def _image(tag: str, step: int, path: Path) -> dict[str, Any]:
    with Image.open(path) as image:
        width, height = image.size
    picture = {"width": width, "height": height, "colorspace": 3, "encoded_image_string": path.read_bytes()}
    return {"step": step, "value": {"tag": tag, "image": picture}}


def _write(folder: Path, events: list[dict[str, Any]]) -> None:
    """Append to a folder's events; OSError names it."""
    import time

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # protobuf and tensorboard deprecations that a user cannot act on
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        try:
            folder.mkdir(parents=True, exist_ok=True)
            writer = EventFileWriter(str(folder))
            for event in events:
                summary = Summary(value=[Summary.Value(**event["value"])])
                writer.add_event(Event(wall_time=time.time(), step=event["step"], summary=summary))
            writer.close()
        except OSError as error:
            raise OSError(f"cannot write {folder}: {error.strerror or error}") from error
