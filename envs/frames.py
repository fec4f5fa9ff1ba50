"""Pictures of running episodes, for `render()` of the Gymnasium environments.

This is the one place where envs uses another package of ours, and only when a frame is asked for: `metarl.videos` needs
no system library (Gymnasium's own renderer needs OpenGL) and draws the goal. Stepping stays free of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from .family import Family


class Frames:
    """Owns one renderer per environment, made at its first frame and again when its goal changes.

    Args:
      family: whose robot is drawn.
      width, height: size of a frame in pixels.
    """

    def __init__(self, family: Family, width: int, height: int) -> None:
        self._family = family
        self._size = (width, height)
        self._filming: dict[int, _Filming] = {}

    def frame(
        self, row: int, qpos: Float[np.ndarray, " nq"], goal: Float[np.ndarray, " goal"]
    ) -> UInt8[np.ndarray, "height width 3"]:
        """RGB picture of environment `row` at qpos (m, rad) with its goal."""
        filming = self._filming.get(row)
        if filming is None or not np.array_equal(filming.goal, goal):
            self._drop(row)
            filming = self._filming[row] = _Filming(self._family, qpos, goal, *self._size)
        return filming.frame(qpos)

    def close(self) -> None:
        """Release the renderers; harmless twice."""
        for row in list(self._filming):
            self._drop(row)

    def _drop(self, row: int) -> None:
        if row in self._filming:
            self._filming.pop(row).renderer.close()


class _Filming:
    """One environment's scene, renderer and first camera position."""

    def __init__(self, family: Family, qpos: np.ndarray, goal: np.ndarray, width: int, height: int) -> None:
        from metarl.videos.render import make_renderer
        from metarl.videos.scene import build_scene, root_positions

        self.goal = goal.copy()
        self._control_dt_s = family.spec.control_dt_s
        self._scene: Any = build_scene(family, goal)
        self._start = root_positions(self._scene, qpos[None])
        self.renderer: Any = make_renderer(self._scene.model, width, height)

    def frame(self, qpos: np.ndarray) -> np.ndarray:
        from metarl.videos.camera import camera_tracks
        from metarl.videos.scene import root_positions

        root = root_positions(self._scene, qpos[None])
        # With the start among the positions to frame, the zoom holds still while the robot nears its goal.
        view = camera_tracks(self._scene, [self._start, root], self._control_dt_s)[1][0]
        return self.renderer.render(qpos, view, self._scene.mocap_pos(root[0]))
