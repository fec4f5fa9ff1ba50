"""Episodes to a video: before | after side by side, the goal in sight, and a JSON that says what it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from metarl.envs import Family

from .camera import View, camera_tracks
from .caption import VELOCITY_WINDOW_S, ending, status_fields
from .compose import Caption, compose, with_trail
from .episode import Episode
from .film_files import PanelFacts, Recording, check_film, film_stride, write_facts, write_frames
from .render import Backend, Renderer, make_renderer
from .scene import Scene, build_scene, root_positions

Panel = tuple[str, Episode]
"""A title, such as "after 1 gradient step", and what happened."""
Progress = Callable[[int, int], None]
"""Called with the frames done and the frames in all."""


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
    gif: also write a GIF here, see `film_files.write_frames`.
    backend: see `make_renderer`.
    metadata: what the video is of (checkpoint, seed, ...), for the JSON.
    progress: called after each frame.

    The video has fps = 1 / control_dt, thinned to at most `film_files.MAX_FPS` by whole strides.
    Raises ValueError for no panels or a path that does not end in .mp4, OSError when a file cannot be written,
    EglUnavailableError when backend="egl" does not work.
    """
    path, gif = Path(path), None if gif is None else Path(gif)
    check_film(path, panels)
    goal = np.asarray(goal, dtype=np.float64)
    control_dt_s = family.spec.control_dt_s
    times = frame_times(max(episode.steps for _, episode in panels), film_stride(control_dt_s))
    film = _Film(family, goal, panels, width, height)

    def frames() -> Iterator[np.ndarray]:
        for index, t in enumerate(times):
            yield film.frame(renderer, t)
            if progress is not None:
                progress(index + 1, len(times))

    with make_renderer(film.scene.model, width, height, backend) as renderer:
        recording = write_frames(frames(), path, gif, control_dt_s, renderer.backend)
    marker = family.marker(goal)
    shown = [
        PanelFacts(title, episode.total_return, episode.steps, episode.terminated, ending(episode, marker))
        for title, episode in panels
    ]
    write_facts(recording, family, goal, shown, metadata, {"velocity_window_s": VELOCITY_WINDOW_S})
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
