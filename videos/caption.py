"""What to write beside a picture: time, motion and return so far, and how an episode ended."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from metarl.envs import Marker

from .episode import Episode

VELOCITY_WINDOW_S = 0.5
"""Velocities are shown as the mean over this time, since a gait makes the momentary ones unreadable."""


def status_fields(
    episode: Episode, t: int, control_dt_s: float, marker: Marker | None, root_xy_m: Float[np.ndarray, " 2"]
) -> tuple[tuple[str, str], ...]:
    """(label, value) pairs for the state after t control steps, 0 <= t <= steps.

    root_xy_m: where the robot is (m), for the distance to a place.
    """
    return (
        ("time", f"{t * control_dt_s:.2f} s"),
        ("step", str(t)),
        *motion_fields(episode, t, control_dt_s, marker, root_xy_m),
        ("return", f"{episode.reward[:t].sum():.1f}"),
    )


def motion_fields(
    episode: Episode, t: int, control_dt_s: float, marker: Marker | None, root_xy_m: Float[np.ndarray, " 2"]
) -> tuple[tuple[str, str], ...]:
    """How the robot does at its goal: distance to a place, speed and heading, or velocity along x."""
    if marker is not None and marker.kind == "place":
        distance_m = float(np.linalg.norm(np.asarray(root_xy_m) - np.array(marker.xyz[:2])))
        return (("distance", f"{distance_m:.2f} m"),)
    if "x_velocity" not in episode.info:
        return ()
    window = max(1, round(VELOCITY_WINDOW_S / control_dt_s))

    def recent(name: str) -> float:
        return float(episode.info[name][max(0, t - window) : t].mean()) if t else 0.0

    x = recent("x_velocity")
    if marker is None or "y_velocity" not in episode.info:
        return (("velocity", f"{x:.2f} m/s"),)
    y = recent("y_velocity")
    heading = f"{np.degrees(np.arctan2(y, x)):.0f} deg" if t else "-"
    return (("speed", f"{np.hypot(x, y):.2f} m/s"), ("heading", heading))


def ending(episode: Episode, marker: Marker | None) -> str:
    """One word for an episode that ended before its horizon, "" for one that did not."""
    if episode.diverged:
        return "diverged"
    if not episode.terminated:
        return ""
    return "arrived" if marker is not None and marker.kind == "place" else "fell"
