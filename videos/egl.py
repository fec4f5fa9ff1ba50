"""Pictures by MuJoCo's OpenGL renderer in an off-screen EGL context.

The context is made directly, so that neither MUJOCO_GL nor the order of imports matters, and a machine without EGL
gives an exception here instead of a failed import of mujoco.
"""

from __future__ import annotations

import os

import mujoco
import numpy as np
from jaxtyping import Float, UInt8

from .camera import View
from .raycast import find_floor
from .scene import MARKER_GROUP

_SHADOW_RGBA = np.array([0.06, 0.08, 0.16, 0.3], dtype=np.float32)
_SAMPLES = 4  # for anti-aliasing; without it edges crawl


class EglUnavailableError(RuntimeError):
    """EGL cannot be used on this machine; the message says why and what to do."""


class EglRenderer:
    """Renders one model with OpenGL. Owns a GL context: use it in the thread that made it, and close it.

    Raises EglUnavailableError when there is no EGL library, driver or context.
    """

    backend = "egl"

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._model = model
        self._data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, self._data)
        self._gl = _make_gl_context(width, height)
        try:
            with self._gl.as_current():
                self._context = _make_mjr_context(model, width, height)
        except Exception as error:
            self._gl.free()
            raise EglUnavailableError(f"OpenGL is too limited here: {error}") from error
        self._scene = mujoco.MjvScene(model, maxgeom=2 * model.ngeom + 100)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        # Shadow maps halve the speed in software OpenGL and speckle a floor without end; see `_add_shadows`.
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self._scene.flags[mujoco.mjtRndFlag.mjRND_HAZE] = False
        self._scene.flags[mujoco.mjtRndFlag.mjRND_FOG] = True
        self._floor = find_floor(model, self._data)
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        self._closed = False

    def render(
        self,
        qpos: Float[np.ndarray, " nq"],
        view: View,
        mocap_pos: Float[np.ndarray, "nmocap 3"] | None = None,
    ) -> UInt8[np.ndarray, "height width 3"]:
        """The scene at qpos, seen from view; mocap_pos moves the mocap bodies (m). ValueError after `close`."""
        if self._closed:
            raise ValueError("this renderer is closed; make another one with make_renderer")
        data = self._data
        data.qpos[:] = qpos
        if mocap_pos is not None:
            data.mocap_pos[:] = mocap_pos
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_comPos(self._model, data)
        mujoco.mj_camlight(self._model, data)
        self._camera.lookat[:] = view.lookat
        self._camera.distance = view.distance_m
        self._camera.azimuth, self._camera.elevation = view.azimuth_deg, view.elevation_deg
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene
        )
        if self._floor is not None and self._model.nlight:
            _add_shadows(self._scene, self._model, float(data.geom_xpos[self._floor][2]), data.light_xdir[0])
        pixels = np.empty((self.height, self.width, 3), dtype=np.uint8)
        viewport = mujoco.MjrRect(0, 0, self.width, self.height)
        with self._gl.as_current():
            mujoco.mjr_render(viewport, self._scene, self._context)
            mujoco.mjr_readPixels(pixels, None, viewport, self._context)
        return np.ascontiguousarray(pixels[::-1])  # OpenGL's first row is the lowest

    def close(self) -> None:
        """Release the GL context; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        with self._gl.as_current():
            self._context.free()
        self._gl.free()

    def __enter__(self) -> EglRenderer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _add_shadows(scene: mujoco.MjvScene, model: mujoco.MjModel, floor_z_m: float, light: np.ndarray) -> None:
    """Add each geom once more, projected to the floor along the light (3,): exact, and almost free.

    The projection x - light (x_z - floor_z) / light_z is a linear map; OpenGL takes any matrix for a geom's frame. A
    thousandth of the height is kept, since a flat matrix has no normals.
    """
    if light[2] > -0.05:
        return
    project = np.eye(3)
    project[:2, 2] = -light[:2] / light[2]
    project[2, 2] = 1e-3
    lift_m = np.array([0.0, 0.0, floor_z_m])
    for index in range(scene.ngeom):
        geom = scene.geoms[index]
        if geom.objtype != mujoco.mjtObj.mjOBJ_GEOM or geom.type == mujoco.mjtGeom.mjGEOM_PLANE:
            continue
        if model.geom_group[geom.objid] == MARKER_GROUP or scene.ngeom >= scene.maxgeom:
            continue
        shadow = scene.geoms[scene.ngeom]
        mujoco.mjv_initGeom(shadow, geom.type, np.ones(3), np.zeros(3), np.eye(3).ravel(), _SHADOW_RGBA)
        shadow.size[:] = geom.size
        shadow.dataid = geom.dataid
        # Each a little higher than the last, so that overlapping shadows do not flicker.
        shadow.pos[:] = project @ (geom.pos - lift_m) + lift_m + (0, 0, 1e-3 + 1e-4 * index)
        shadow.mat[:] = project @ geom.mat
        shadow.specular = shadow.emission = 0.0
        shadow.category = mujoco.mjtCatBit.mjCAT_DECOR
        scene.ngeom += 1


def _make_gl_context(width: int, height: int):  # type: ignore[no-untyped-def]
    """A GL context; its class exists only where EGL does."""
    platform = os.environ.get("PYOPENGL_PLATFORM")
    try:
        # Imported here: importing it sets PYOPENGL_PLATFORM and loads libEGL.
        from mujoco.egl import GLContext

        return GLContext(width, height)
    except Exception as error:  # PyOpenGL fails with ImportError, AttributeError or its own errors
        if platform is None:
            os.environ.pop("PYOPENGL_PLATFORM", None)
        raise EglUnavailableError(f"no EGL context ({type(error).__name__}: {error})") from error


def _make_mjr_context(model: mujoco.MjModel, width: int, height: int) -> mujoco.MjrContext:
    """The GPU resources of a model; the off-screen buffer's size is read from the model, which is left as it was."""
    buffer, quality = model.vis.global_, model.vis.quality
    before = buffer.offwidth, buffer.offheight, quality.offsamples
    buffer.offwidth, buffer.offheight, quality.offsamples = width, height, _SAMPLES
    try:
        context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
    finally:
        buffer.offwidth, buffer.offheight, quality.offsamples = before
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, context)
    if context.currentBuffer != mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value:
        context.free()
        raise RuntimeError("it has no off-screen framebuffer")
    return context
