"""One interface to both renderers: EGL where it works, ray casting everywhere."""

from __future__ import annotations

import logging
from typing import Literal, Protocol, get_args, runtime_checkable

import mujoco
import numpy as np
from jaxtyping import Float, UInt8

from .camera import View
from .egl import EglRenderer, EglUnavailableError
from .raycast import RaycastRenderer

_logger = logging.getLogger(__name__)

Backend = Literal["auto", "egl", "raycast"]


@runtime_checkable
class Renderer(Protocol):
    """Turns a state into a picture. Owns a resource: use it as a context manager or call `close`."""

    width: int
    height: int

    @property
    def backend(self) -> str:
        """Which one it is: "egl" or "raycast"."""
        ...

    def render(
        self,
        qpos: Float[np.ndarray, " nq"],
        view: View,
        mocap_pos: Float[np.ndarray, "nmocap 3"] | None = None,
    ) -> UInt8[np.ndarray, "height width 3"]:
        """RGB picture of the model at qpos (m, rad) from view, with the mocap bodies at mocap_pos (m)."""
        ...

    def close(self) -> None:
        """Release the resource; harmless twice."""
        ...

    def __enter__(self) -> Renderer: ...

    def __exit__(self, *exc: object) -> None: ...


def make_renderer(model: mujoco.MjModel, width: int, height: int, backend: Backend = "auto") -> Renderer:
    """A renderer for one model.

    width, height: picture size in pixels, at least 16.
    backend: "egl" (OpenGL off screen, needs libEGL), "raycast" (CPU, needs nothing), "auto" (EGL when it works).

    Raises ValueError for a size or backend that does not exist, EglUnavailableError when "egl" was asked for and does
    not work here.
    """
    if width < 16 or height < 16:
        raise ValueError(f"pictures of {width} x {height} pixels are too small; give at least 16 x 16")
    if backend not in get_args(Backend):
        raise ValueError(f"unknown renderer {backend!r}; allowed: {', '.join(get_args(Backend))}")
    if backend == "raycast":
        return RaycastRenderer(model, width, height)
    try:
        return EglRenderer(model, width, height)
    except EglUnavailableError as error:
        if backend == "egl":
            raise EglUnavailableError(
                f"cannot render with EGL: {error}. Install the libraries (Debian, Ubuntu: apt-get install libegl1 "
                "libgl1 libgl1-mesa-dri; NVIDIA containers: NVIDIA_DRIVER_CAPABILITIES=graphics), or use "
                'backend="raycast", which needs none'
            ) from error
        _logger.info("rendering by ray casting, since EGL does not work here: %s", error)
        return RaycastRenderer(model, width, height)
