"""Where the camera stands: views of a scene, and a smooth track along an episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .scene import FIELD_OF_VIEW_DEG, Scene

SMOOTHING_S = 0.35
ARENA_M = 1.3  # half the height of the view from above; goals lie within 1
ARENA_MAX_M = 3.0


@dataclass(frozen=True)
class View:
    """One camera pose, in the terms of MuJoCo's free camera."""

    lookat: tuple[float, float, float]
    """Point at the image centre (m, world)."""
    distance_m: float
    azimuth_deg: float
    """Heading of the line of sight; 90 looks along +y, with +x to the right."""
    elevation_deg: float
    """Pitch of the line of sight; -90 looks straight down."""

    def basis(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Eye position (3,) in m and the unit vectors forward, right and up, each (3,), world."""
        azimuth, elevation = np.radians(self.azimuth_deg), np.radians(self.elevation_deg)
        forward = np.array(
            [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
        )
        right = np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])
        return np.array(self.lookat) - self.distance_m * forward, forward, right, np.cross(right, forward)

    def project(self, points: Float[np.ndarray, "n 3"], width: int, height: int) -> Float[np.ndarray, "n 2"]:
        """Column and row in pixels of world points (m) in front of the camera, in a scene's field of view."""
        eye, forward, right, up = self.basis()
        focal = height / (2.0 * np.tan(np.radians(FIELD_OF_VIEW_DEG / 2)))
        offset = points - eye
        depth = offset @ forward
        return np.stack([width / 2 + focal * (offset @ right) / depth, height / 2 - focal * (offset @ up) / depth], 1)


def camera_tracks(scene: Scene, roots: Sequence[Float[np.ndarray, "_ 3"]], control_dt_s: float) -> list[list[View]]:
    """A view for every state of every episode, with one zoom for all, so that panels can be compared.

    roots: per episode the root body's positions (time, 3) in m, as `scene.root_positions` gives them.

    Points are seen from above by a camera that stands still; planar robots from the side; others from a raised
    three-quarter view. A robot with a place to reach is framed together with it.
    """
    if scene.kinematic:
        farthest = max(float(np.abs(root[:, :2]).max()) for root in roots)
        half_height_m = float(np.clip(1.1 * farthest, ARENA_M, ARENA_MAX_M))
        distance_m = half_height_m / np.tan(np.radians(FIELD_OF_VIEW_DEG / 2))
        still = View((0.0, 0.0, 0.0), distance_m, azimuth_deg=90.0, elevation_deg=-90.0)
        return [[still] * len(root) for root in roots]
    if scene.planar:
        zoom, lookat_z_m, azimuth_deg, elevation_deg = 4.2, 0.55 * scene.size_m, 90.0, -10.0
    else:
        zoom, lookat_z_m, azimuth_deg, elevation_deg = 4.1, 0.2 * scene.size_m, 96.0, -44.0
    centres = [_centre(scene, root) for root in roots]
    apart_m = max(float(np.linalg.norm(c[0] - root[0, :2])) for c, root in zip(centres, roots, strict=True))
    place = scene.marker is not None and scene.marker.kind == "place"
    distance_m = zoom * scene.size_m + (1.8 if place else 0.6) * apart_m
    return [
        [
            View((float(x), float(y), lookat_z_m), distance_m, azimuth_deg, elevation_deg)
            for x, y in smooth_track(centre, control_dt_s)
        ]
        for centre in centres
    ]


def _centre(scene: Scene, root: Float[np.ndarray, "time 3"]) -> Float[np.ndarray, "time 2"]:
    """Middle (m) of what is to be seen: the robot and its place, or the robot and the arrow ahead of it."""
    xy = root[:, :2]
    if scene.marker is None or scene.planar:
        return xy
    marker_xy = np.array(scene.marker.xyz[:2])
    return (xy + marker_xy) / 2 if scene.marker.kind == "place" else xy + 0.45 * scene.size_m * marker_xy


def smooth_track(xy: Float[np.ndarray, "time 2"], control_dt_s: float) -> Float[np.ndarray, "time 2"]:
    """Gaussian average over SMOOTHING_S, without lag since it looks ahead too; the ends are held."""
    sigma = SMOOTHING_S / control_dt_s
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(xy, ((reach, reach), (0, 0)), mode="edge")
    return np.stack([np.convolve(padded[:, axis], kernel, mode="valid") for axis in range(2)], axis=1)
