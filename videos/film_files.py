"""Frames of a film to its files: the video, a GIF if wanted, and a JSON that says what it shows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from metarl.envs import TaskFamily

from .encode import GIF_MAX_FPS, mp4_writer, replacing, shrink, stride_for, write_gif, writing

MAX_FPS = 60.0
GIF_MAX_WIDTH_PX = 480


@dataclass(frozen=True)
class Recording:
    """Files that were written, and how."""

    mp4: Path
    json: Path
    gif: Path | None
    frames: int
    fps: float
    """Real time: frames a second of simulated time."""
    width: int
    height: int
    backend: str
    """The renderer used: "egl" or "raycast"; "environment" for pictures that environments make themselves."""


@dataclass(frozen=True)
class PanelFacts:
    """What a panel shows, for the JSON."""

    title: str
    total_return: float
    steps: int
    terminated: bool
    ending: str
    """How the episode ended before its horizon, in a word; "" if it did not."""


def check_film(path: Path, panels: Sequence[Any]) -> None:
    """ValueError for no panels or a path that does not end in .mp4."""
    if not panels:
        raise ValueError("there is nothing to record: give at least one panel")
    if path.suffix.lower() != ".mp4":
        raise ValueError(f"the video's name must end in .mp4, got {path}; for a GIF give `gif` as well")


def film_stride(control_dt_s: float) -> int:
    """Every how many control steps a frame is shown: as many as possible, at most MAX_FPS a second."""
    return stride_for(1.0 / control_dt_s, MAX_FPS)


def write_frames(
    frames: Iterable[UInt8[np.ndarray, "height width 3"]],
    path: Path,
    gif: Path | None,
    control_dt_s: float,
    backend: str,
) -> Recording:
    """Write the MP4 and the GIF (at most GIF_MAX_WIDTH_PX wide and GIF_MAX_FPS fast), in real time.

    frames: one every `film_stride` control steps, all of one even size; at least one.
    Returns the recording, whose JSON is still to be written. Raises OSError when a file cannot be written.
    """
    fps = 1.0 / (control_dt_s * film_stride(control_dt_s))
    gif_stride = stride_for(fps, GIF_MAX_FPS)
    gif_frames: list[np.ndarray] = []
    arriving = iter(frames)
    first = next(arriving)
    height, width = first.shape[:2]
    with mp4_writer(path, width, height, fps) as video:
        for frame in chain([first], arriving):
            if gif is not None and video.count % gif_stride == 0:
                gif_frames.append(shrink(frame, GIF_MAX_WIDTH_PX))
            video.append(frame)
        # Before the video gets its name, so that a failure here leaves no video without its facts.
        if gif is not None:
            write_gif(gif_frames, gif, fps / gif_stride)
    return Recording(path, path.with_suffix(".json"), gif, video.count, fps, width, height, backend)


def write_facts(
    recording: Recording,
    family: TaskFamily,
    goal: Float[np.ndarray, " goal"],
    panels: Sequence[PanelFacts],
    metadata: Mapping[str, Any] | None,
    extra: Mapping[str, Any],
) -> None:
    """Write the JSON beside a video."""
    facts = {
        "env": family.name,
        "protocol": family.protocol,
        "goal": dict(zip(family.tasks.names, goal.tolist(), strict=True)),
        "description": family.describe(goal),
        "control_dt_s": family.spec.control_dt_s,
        "fps": recording.fps,
        "frames": recording.frames,
        "width": recording.width,
        "height": recording.height,
        "backend": recording.backend,
        **extra,
        "panels": [
            {
                "title": panel.title,
                "return": panel.total_return,
                "steps": panel.steps,
                "terminated": panel.terminated,
                "ending": panel.ending,
            }
            for panel in panels
        ],
        "metadata": dict(metadata or {}),
    }
    text = json.dumps(facts, indent=2, default=_plain)
    with replacing(recording.json) as temporary, writing(recording.json):
        temporary.write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """Metadata as JSON has it: numpy numbers and arrays as numbers and lists, anything else as text."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
