"""Episodes to a video: before | after side by side, the goal in sight, and a JSON that says what it shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from metarl.envs import Family

from .camera import View, camera_tracks
from .caption import VELOCITY_WINDOW_S, ending, status_fields
from .compose import Caption, compose, with_trail
from .encode import GIF_MAX_FPS, mp4_writer, replacing, shrink, stride_for, write_gif, writing
from .episode import Episode
from .render import Backend, Renderer, make_renderer
from .scene import Scene, build_scene, root_positions

MAX_FPS = 60.0
GIF_MAX_WIDTH_PX = 480

Panel = tuple[str, Episode]
"""A title, such as "after 1 gradient step", and what happened."""
Progress = Callable[[int, int], None]
"""Called with the frames done and the frames in all."""


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
    """The renderer used: "egl" or "raycast"."""


def record(
    family: Family,
    goal: Float[np.ndarray, " goal"],
    panels: Sequence[Panel],
    path: str | Path,
    *,
    width: int = 480,
    height: int = 360,
    gif: str | Path | None = None,
    backend: Backend = "auto",
    metadata: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Recording:
    """Film episodes of one task side by side, in real time.

    goal: (goal,) of the task in the family's units.
    panels: from left to right; an episode that ends earlier stands still, its title saying how it ended.
    path: of the video, ending in .mp4; a .json of the same name is written beside it, and an older pair replaced.
    width, height: of one panel's picture in pixels, without captions.
    gif: also write a GIF here, at most GIF_MAX_WIDTH_PX wide and GIF_MAX_FPS fast.
    backend: see `make_renderer`.
    metadata: what the video is of (checkpoint, seed, ...), for the JSON.
    progress: called after each frame.

    The video has fps = 1 / control_dt, thinned to at most MAX_FPS by whole strides.
    Raises ValueError for no panels or a path that does not end in .mp4, OSError when a file cannot be written,
    EglUnavailableError when backend="egl" does not work.
    """
    path, gif = Path(path), None if gif is None else Path(gif)
    if not panels:
        raise ValueError("there is nothing to record: give at least one (title, episode)")
    if path.suffix.lower() != ".mp4":
        raise ValueError(f"the video's name must end in .mp4, got {path}; for a GIF give `gif` as well")
    goal = np.asarray(goal, dtype=np.float64)
    control_dt_s = family.spec.control_dt_s
    stride = stride_for(1.0 / control_dt_s, MAX_FPS)
    fps = 1.0 / (control_dt_s * stride)
    gif_stride = stride_for(fps, GIF_MAX_FPS)
    times = frame_times(max(episode.steps for _, episode in panels), stride)
    film = _Film(family, goal, panels, width, height)
    gif_frames: list[np.ndarray] = []
    with make_renderer(film.scene.model, width, height, backend) as renderer:
        first = film.frame(renderer, times[0])
        out_height, out_width = first.shape[:2]
        with mp4_writer(path, out_width, out_height, fps) as video:
            for index, t in enumerate(times):
                frame = first if index == 0 else film.frame(renderer, t)
                video.append(frame)
                if gif is not None and index % gif_stride == 0:
                    gif_frames.append(shrink(frame, GIF_MAX_WIDTH_PX))
                if progress is not None:
                    progress(index + 1, len(times))
            # Before the video gets its name, so that a failure here leaves no video without its facts.
            if gif is not None:
                write_gif(gif_frames, gif, fps / gif_stride)
            size = (out_width, out_height)
            recording = Recording(path, path.with_suffix(".json"), gif, len(times), fps, *size, renderer.backend)
            facts = json.dumps(_description(family, goal, panels, recording, metadata), indent=2, default=_plain)
    with replacing(recording.json) as temporary, writing(recording.json):
        temporary.write_text(facts + "\n", encoding="utf-8")
    return recording


def frame_times(steps: int, stride: int) -> list[int]:
    """States to show, as counts of control steps: every stride-th from 0, and the last one in any case."""
    times = list(range(0, steps + 1, stride))
    return times if times[-1] == steps else [*times, steps]


class _Film:
    """The scene, the camera tracks and the captions of one recording."""

    def __init__(self, family: Family, goal: np.ndarray, panels: Sequence[Panel], width: int, height: int) -> None:
        self.scene: Scene = build_scene(family, goal)
        self._panels, self._width, self._height = panels, width, height
        self._control_dt_s = family.spec.control_dt_s
        self._headline = f"Goal: {family.describe(goal)}"
        self._subtitle = f"{family.name}, {family.protocol}"
        self._roots = [root_positions(self.scene, episode.qpos) for _, episode in panels]
        self._tracks = camera_tracks(self.scene, self._roots, self._control_dt_s)

    def frame(self, renderer: Renderer, t: int) -> np.ndarray:
        """The video frame after t control steps; an episode that ended before t shows its last state."""
        pictures, captions = [], []
        for (title, episode), roots, track in zip(self._panels, self._roots, self._tracks, strict=True):
            at = min(t, episode.steps)
            pictures.append(self._picture(renderer, episode, roots, track[at], at))
            fields = status_fields(episode, at, self._control_dt_s, self.scene.marker, roots[at, :2])
            note = ending(episode, self.scene.marker) if at == episode.steps else ""
            captions.append(Caption(title, fields, note))
        return compose(self._headline, self._subtitle, pictures, captions)

    def _picture(self, renderer: Renderer, episode: Episode, roots: np.ndarray, view: View, at: int) -> np.ndarray:
        picture = renderer.render(episode.qpos[at], view, self.scene.mocap_pos(roots[at]))
        if self.scene.kinematic:
            picture = with_trail(picture, view.project(roots[: at + 1], self._width, self._height))
        return picture


def _description(
    family: Family,
    goal: np.ndarray,
    panels: Sequence[Panel],
    recording: Recording,
    metadata: Mapping[str, Any] | None,
) -> dict[str, Any]:
    marker = family.marker(goal)
    return {
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
        "velocity_window_s": VELOCITY_WINDOW_S,
        "panels": [
            {
                "title": title,
                "return": episode.total_return,
                "steps": episode.steps,
                "terminated": episode.terminated,
                "ending": ending(episode, marker),
            }
            for title, episode in panels
        ],
        "metadata": dict(metadata or {}),
    }


def _plain(value: Any) -> Any:
    """Metadata as JSON has it: numpy numbers and arrays as numbers and lists, anything else as text."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
