"""Pictures without any graphics library: rays cast by MuJoCo on the CPU, shaded in numpy.

The floor and the sky are computed in closed form; rays are cast only where a geom's bounding sphere can be seen. The
floor is a checker filtered over each pixel's footprint, so that it does not flicker; silhouettes get four more rays a
pixel; the shadow is cast on a grid of the floor and blurred.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float, UInt8

from .camera import View
from .scene import MARKER_GROUP, SKY_RISE

_FLOOR_GROUP = 5  # the floor is moved to this geom group, which no ray tests
_SEEN = np.array([1, 1, 1, 1, 1, 0], dtype=np.uint8)
_CASTING = np.array([1, 0, 1, 1, 1, 0], dtype=np.uint8)
_SUN_DISTANCE_M = 60.0  # all rays of mj_multiRay start at one point, so the sun is a far one
_SUBPIXELS = ((-0.375, -0.125), (0.125, -0.375), (0.375, 0.125), (-0.125, 0.375))
_SHADOW_CELLS = 72  # across the robot's shadow
_MAX_SHADOW_CELLS = 160
_SHADOW = 0.42  # light that the sun's shadow takes from the floor
_OCCLUSION = 0.22  # light that the sky's shadow takes, straight below the robot
_ZENITH = np.array([0.0, 0.0, 1.0])
_DEFAULT_SKY = np.array([0.35, 0.52, 0.75], dtype=np.float32)


@dataclass(frozen=True)
class _Backdrop:
    """What depends on the camera's angle and height only; kept while the camera tracks the robot."""

    rays: np.ndarray
    """Unit directions (h, w, 3) float64, world."""
    sky: np.ndarray
    """Sky colours in [0, 1], (h, w, 3) float32."""
    horizon_row: int
    """The floor fills the rows from here on (r rows), since the camera does not roll; h when it is not seen."""
    floor_distance_m: np.ndarray
    """Along the ray, (h, w), infinite where it does not meet the floor."""
    offset_m: np.ndarray
    """Floor point less the eye's x and y, (2, r, w) float32."""
    footprint_m: np.ndarray
    """Width of the pixel on the floor along x and y, (2, r, w) float32."""
    light: np.ndarray
    """Colour of the light cells after haze, (r, w, 3) float32."""
    light_to_dark: np.ndarray
    """What to add to it for the dark cells, (r, w, 3) float32."""


class RaycastRenderer:
    """Renders one model by ray casting. Owns a copy of the model; one thread may use it at a time.

    Draws what a scene of `build_scene` contains: geoms in plain colours on one horizontal checker floor. Textures of
    other geoms and transparency are ignored.
    """

    backend = "raycast"

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._model = copy.copy(model)
        self._model.geom_group[self._model.geom_group >= _FLOOR_GROUP] = _FLOOR_GROUP - 1
        self._data = mujoco.MjData(self._model)
        mujoco.mj_kinematics(self._model, self._data)
        self._floor_geom = find_floor(self._model, self._data)
        self._floor_z_m = 0.0
        if self._floor_geom is not None:
            self._floor_z_m = float(self._data.geom_xpos[self._floor_geom][2])
            self._model.geom_group[self._floor_geom] = _FLOOR_GROUP
        self._checker = _checker(self._model, self._floor_geom)
        self._colour = _geom_colours(self._model)
        self._sky, self._horizon = _sky_colours(self._model)
        self._is_marker = self._model.geom_group == MARKER_GROUP
        seen = np.ones(self._model.ngeom, dtype=bool)
        if self._floor_geom is not None:
            seen[self._floor_geom] = False
        self._solid = np.flatnonzero(seen)
        self._casters = np.flatnonzero(seen & ~self._is_marker)
        self._shadow_cell_m: float | None = None
        self._backdrop_key: tuple[float, ...] = ()
        self._backdrop: _Backdrop | None = None

    def render(
        self,
        qpos: Float[np.ndarray, " nq"],
        view: View,
        mocap_pos: Float[np.ndarray, "nmocap 3"] | None = None,
    ) -> UInt8[np.ndarray, "height width 3"]:
        """The scene at qpos, seen from view; mocap_pos moves the mocap bodies (m)."""
        data = self._data
        data.qpos[:] = qpos
        if mocap_pos is not None:
            data.mocap_pos[:] = mocap_pos
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_comPos(self._model, data)
        mujoco.mj_camlight(self._model, data)
        eye, *axes = view.basis()
        sun = _unit(-data.light_xdir[0]) if self._model.nlight else _unit(np.array([-0.35, -0.45, 1.0]))
        backdrop = self._backdrop_for(view, eye)
        image = self._paint_backdrop(backdrop, eye, sun)
        self._paint_solids(image, backdrop, eye, np.stack(axes), sun)
        return (np.clip(image, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)

    def close(self) -> None:
        """Nothing to release; here so that both renderers are used alike."""

    def __enter__(self) -> RaycastRenderer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- floor and sky ----------------------------------------------------------------------------------------------

    def _backdrop_for(self, view: View, eye: np.ndarray) -> _Backdrop:
        key = (view.azimuth_deg, view.elevation_deg, view.distance_m, round(float(eye[2]), 9))
        if self._backdrop is None or key != self._backdrop_key:
            self._backdrop_key = key
            self._backdrop = self._make_backdrop(view, eye)
        return self._backdrop

    def _pixel_rays(self, axes: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Unit directions (n, 3) through image points given in pixels; axes (3, 3): forward, right, up."""
        scale = 2.0 * np.tan(np.radians(float(self._model.vis.global_.fovy)) / 2) / self.height
        right = (column + 0.5 - self.width / 2) * scale
        up = (self.height / 2 - row - 0.5) * scale
        rays = axes[0] + right[..., None] * axes[1] + up[..., None] * axes[2]
        return rays / np.linalg.norm(rays, axis=-1, keepdims=True)

    def _make_backdrop(self, view: View, eye: np.ndarray) -> _Backdrop:
        row, column = np.mgrid[0 : self.height, 0 : self.width].astype(np.float64)
        rays = self._pixel_rays(np.stack(view.basis()[1:]), row, column)
        rise = np.clip(rays[..., 2:] / SKY_RISE, 0.0, 1.0).astype(np.float32)
        sky = self._horizon + rise * rise * (3.0 - 2.0 * rise) * (self._sky - self._horizon)
        height_m = float(eye[2]) - self._floor_z_m
        sees_floor = self._floor_geom is not None and height_m > 0
        down = np.flatnonzero((rays[..., 2] < -1e-4).all(axis=1)) if sees_floor else np.array([], dtype=int)
        first = int(down[0]) if len(down) else self.height
        distance_m = np.full((self.height, self.width), np.inf)
        distance_m[first:] = height_m / -rays[first:, :, 2]
        offset_m = rays[first:, :, :2] * np.minimum(distance_m[first:], 1e4)[..., None]
        if len(offset_m) > 1:
            footprint_m = np.abs(np.gradient(offset_m, axis=0)) + np.abs(np.gradient(offset_m, axis=1))
        else:
            footprint_m = np.full_like(offset_m, 1e4)  # the horizon itself: every cell averages out
        clear = np.exp(-((distance_m[first:, :, None] / (5.0 * view.distance_m)) ** 2)).astype(np.float32)
        light_rgb, dark_rgb, _ = self._checker
        return _Backdrop(
            rays=rays,
            sky=sky,
            horizon_row=first,
            floor_distance_m=distance_m,
            offset_m=np.ascontiguousarray(np.moveaxis(offset_m, -1, 0), dtype=np.float32),
            footprint_m=np.maximum(np.moveaxis(footprint_m, -1, 0), 1e-5).astype(np.float32),
            light=self._horizon + clear * (light_rgb - self._horizon),
            light_to_dark=clear * (dark_rgb - light_rgb),
        )

    def _paint_backdrop(self, backdrop: _Backdrop, eye: np.ndarray, sun: np.ndarray) -> np.ndarray:
        """Sky, and the floor with the robot's shadow, (h, w, 3) float32."""
        image = backdrop.sky.copy()
        if backdrop.horizon_row == self.height:
            return image
        cell_m = self._checker[2]
        point_m = backdrop.offset_m + eye[:2, None, None].astype(np.float32)
        dark = _filtered_checker(point_m / cell_m, backdrop.footprint_m / cell_m)
        floor = image[backdrop.horizon_row :]
        np.multiply(backdrop.light_to_dark, dark[..., None], out=floor)
        floor += backdrop.light
        if len(self._casters):
            flat_floor, flat_point_m = floor.reshape(-1, 3), point_m.reshape(2, -1)
            self._cast_shadow(flat_floor, flat_point_m, sun, _SHADOW, blur_cells=2)
            self._cast_shadow(flat_floor, flat_point_m, _ZENITH, _OCCLUSION, blur_cells=6)
        return image

    def _cast_shadow(
        self, floor: np.ndarray, point_m: np.ndarray, sun: np.ndarray, strength: float, blur_cells: int
    ) -> None:
        """Darken floor colours (n, 3) at points (2, n), in place, where the casting geoms hide the light."""
        if sun[2] < 0.05:
            return
        centre = self._data.geom_xpos[self._casters]
        reach = self._model.geom_rbound[self._casters, None] / sun[2]
        below = centre[:, :2] - sun[:2] * ((centre[:, 2:] - self._floor_z_m) / sun[2])
        low, high = (below - reach).min(axis=0), (below + reach).max(axis=0)
        if self._shadow_cell_m is None:
            # Fixed from the first picture on, and the grid snapped to it, so that the shadow does not shimmer.
            self._shadow_cell_m = float((high - low).max()) / _SHADOW_CELLS
        cell_m = max(self._shadow_cell_m, float((high - low).max()) / _MAX_SHADOW_CELLS)
        margin = 2 * blur_cells + 1
        first = np.floor(low / cell_m).astype(int) - margin
        count = np.ceil(high / cell_m).astype(int) + margin - first
        x, y = np.meshgrid(*(cell_m * (first[i] + np.arange(count[i])) for i in (0, 1)), indexing="ij")
        target = np.stack([x.ravel(), y.ravel(), np.full(x.size, self._floor_z_m)], axis=1)
        shade = _blur(self._hidden(target, sun).reshape(x.shape).astype(np.float32), blur_cells)
        at_x, at_y = ((point_m[i] - np.float32(first[i] * cell_m)) * np.float32(1.0 / cell_m) for i in (0, 1))
        inside = np.flatnonzero((at_x >= 0) & (at_x < count[0] - 1) & (at_y >= 0) & (at_y < count[1] - 1))
        floor[inside] *= 1.0 - strength * _bilinear(shade, at_x[inside], at_y[inside])[:, None]

    def _hidden(self, target: np.ndarray, sun: np.ndarray, slack_m: float = 0.0) -> np.ndarray:
        """Whether each point (n, 3) has a casting geom between it and the light in direction sun, (n,)."""
        source = target.mean(axis=0) + _SUN_DISTANCE_M * sun
        ray = target - source
        length = np.linalg.norm(ray, axis=1)
        _, distance, _ = self._cast(source, ray / length[:, None], _CASTING)
        return (distance >= 0) & (distance < length - slack_m)

    # -- robot and marker -------------------------------------------------------------------------------------------

    def _paint_solids(
        self, image: np.ndarray, backdrop: _Backdrop, eye: np.ndarray, axes: np.ndarray, sun: np.ndarray
    ) -> None:
        mask = self._candidate_pixels(eye, axes)
        if not mask.any():
            return
        pixels = np.flatnonzero(mask)
        rays = backdrop.rays.reshape(-1, 3)[pixels]
        limit = backdrop.floor_distance_m.ravel()
        hit, colour = self._shade(eye, rays, limit[pixels], sun)
        ids = np.full(self.height * self.width, -1, dtype=np.int32)
        ids[pixels] = hit
        flat = image.reshape(-1, 3)
        behind = flat.copy()
        flat[pixels[hit >= 0]] = colour
        edges = np.flatnonzero(_edges(ids.reshape(self.height, self.width)))
        if len(edges) == 0:
            return
        row, column = np.divmod(edges, self.width)
        dy, dx = np.array(_SUBPIXELS).T
        rays = self._pixel_rays(axes, row[:, None] + dy, column[:, None] + dx)  # (n, 4, 3)
        samples = np.repeat(behind[edges][:, None], len(_SUBPIXELS), axis=1).reshape(-1, 3)
        hit, colour = self._shade(eye, rays.reshape(-1, 3), np.repeat(limit[edges], len(_SUBPIXELS)), sun)
        samples[hit >= 0] = colour
        flat[edges] = samples.reshape(len(edges), len(_SUBPIXELS), 3).mean(axis=1)

    def _candidate_pixels(self, eye: np.ndarray, axes: np.ndarray) -> np.ndarray:
        """Pixels (h, w) in the screen box of some geom's bounding sphere."""
        mask = np.zeros((self.height, self.width), dtype=bool)
        focal = self.height / (2.0 * np.tan(np.radians(float(self._model.vis.global_.fovy)) / 2))
        for geom in self._solid:
            depth, right, up = axes @ (self._data.geom_xpos[geom] - eye)
            radius = float(self._model.geom_rbound[geom])
            if radius <= 0.0 or depth < 1.05 * radius:  # a plane has radius 0: it may be anywhere
                if radius <= 0.0 or depth > -radius:
                    mask[:] = True
                continue
            reach = focal * radius / (depth - radius) * 1.1 + 2.0
            column, row = self.width / 2 + focal * right / depth, self.height / 2 - focal * up / depth
            top, bottom = (int(np.clip(row + s * reach, 0, self.height)) for s in (-1, 1))
            left, end = (int(np.clip(column + s * reach, 0, self.width)) for s in (-1, 1))
            mask[top:bottom, left:end] = True
        return mask

    def _shade(
        self, eye: np.ndarray, rays: np.ndarray, limit_m: np.ndarray, sun: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Geom ids (n,), -1 for none before limit_m, and the colours (n_hit, 3) of the rays that hit."""
        ids, distance, normal = self._cast(eye, rays, _SEEN)
        ids[(distance < 0) | (distance >= limit_m)] = -1
        struck = ids >= 0
        geom, ray, normal = ids[struck], rays[struck], normal[struck]
        if len(geom) == 0:
            return ids, np.zeros((0, 3), dtype=np.float32)
        point = eye + distance[struck, None] * ray
        normal = np.where((normal * ray).sum(axis=1, keepdims=True) > 0, -normal, normal)
        lit = np.clip(normal @ sun, 0.0, 1.0)
        sharp = _specular(normal, ray, sun)
        marker = self._is_marker[geom]
        dark = np.zeros(len(geom), dtype=bool)
        # Behind the terminator nothing is left to hide; slack keeps a curved geom from shadowing its own rim.
        turned = (lit > 0.02) & ~marker
        if turned.any():
            dark[turned] = self._hidden(point[turned] + 0.01 * normal[turned], sun, slack_m=0.02)
        lit, sharp = np.where(dark, 0.25 * lit, lit), np.where(dark, 0.0, sharp)
        ambient = 0.46 + 0.16 * normal[:, 2]
        ambient = np.where(marker, ambient + 0.2, ambient)
        rim = 0.10 * (1.0 - np.clip(-(normal * ray).sum(axis=1), 0.0, 1.0)) ** 3
        colour = self._colour[geom] * np.minimum(ambient + 0.68 * lit, 1.06)[:, None] + (0.22 * sharp + rim)[:, None]
        return ids, colour.astype(np.float32)

    def _cast(self, source: np.ndarray, rays: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, ...]:
        """Geom id (n,), distance (n,) in m, -1 for none, and surface normal (n, 3) for rays (n, 3) from a point."""
        n = len(rays)
        ids, distance, normal = np.empty(n, dtype=np.int32), np.empty(n), np.zeros((n, 3))
        mujoco.mj_multiRay(
            self._model,
            self._data,
            source[:, None],
            np.ascontiguousarray(rays).reshape(-1, 1),
            groups,
            True,
            -1,
            ids[:, None],
            distance[:, None],
            normal.reshape(-1, 1),
            n,
            1e6,
        )
        return ids, distance, normal


def _specular(normal: np.ndarray, ray: np.ndarray, sun: np.ndarray) -> np.ndarray:
    """Blinn-Phong highlight (n,) in [0, 1]."""
    half = sun - ray
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    return np.clip((normal * half).sum(axis=1), 0.0, 1.0) ** 40


def _filtered_checker(cell: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Share of dark cells (...) in [0, 1] in a box of the given width around each point, both (2, ...) in cells.

    The integral of a square wave of period 2 is a triangle wave; its difference over the box is the wave's mean s in
    [-1, 1] per axis, and the checker's mean is (1 - s_x s_y) / 2.
    """

    def triangle(x: np.ndarray) -> np.ndarray:
        half = 0.5 * x
        return np.abs(half - np.floor(half) - 0.5)

    mean = 2.0 * (triangle(cell - 0.5 * width) - triangle(cell + 0.5 * width)) / width
    return 0.5 - 0.5 * mean[0] * mean[1]


def _blur(image: np.ndarray, radius: int) -> np.ndarray:
    """Two box averages of the given radius along each axis, with zeros outside."""
    size = 2 * radius + 1
    for axis in (0, 1, 0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (radius + 1, radius)
        total = np.cumsum(np.pad(image, pad), axis=axis, dtype=np.float32)
        length = image.shape[axis]
        image = (
            np.take(total, np.arange(size, size + length), axis=axis) - np.take(total, np.arange(length), axis=axis)
        ) / size
    return image


def _bilinear(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Values (n,) of image (a, b) at fractional indices x, y (n,), which lie inside."""
    i, j = x.astype(np.intp), y.astype(np.intp)
    fx, fy = x - i, y - j
    low = image[i, j] * (1 - fy) + image[i, j + 1] * fy
    high = image[i + 1, j] * (1 - fy) + image[i + 1, j + 1] * fy
    return low * (1 - fx) + high * fx


def _edges(ids: np.ndarray) -> np.ndarray:
    """Pixels (h, w) whose id differs from a neighbour's below or beside."""
    edge = np.zeros(ids.shape, dtype=bool)
    down, across = ids[1:] != ids[:-1], ids[:, 1:] != ids[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    return edge


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def find_floor(model: mujoco.MjModel, data: mujoco.MjData) -> int | None:
    """The first plane that is fixed and level, drawn without end."""
    for geom in np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE):
        if model.body_weldid[model.geom_bodyid[geom]] == 0 and data.geom_xmat[geom][8] > 0.999:
            return int(geom)
    return None


def _geom_colours(model: mujoco.MjModel) -> np.ndarray:
    """(ngeom, 3): a geom's own colour, or its material's where it has none (MuJoCo's default grey)."""
    colour = model.geom_rgba[:, :3].astype(np.float64)
    from_material = (model.geom_matid >= 0) & (model.geom_rgba == 0.5).any(axis=1)
    colour[from_material] = model.mat_rgba[model.geom_matid[from_material], :3]
    return colour


def _checker(model: mujoco.MjModel, floor: int | None) -> tuple[np.ndarray, np.ndarray, np.float32]:
    """The floor's two colours (3,) and the cell width (m), from the texture of its material."""
    plain = model.geom_rgba[floor, :3].astype(np.float32) if floor is not None else np.zeros(3, dtype=np.float32)
    material = int(model.geom_matid[floor]) if floor is not None else -1
    texture = int(model.mat_texid[material, mujoco.mjtTextureRole.mjTEXROLE_RGB]) if material >= 0 else -1
    if texture < 0:
        return plain, plain, np.float32(1.0)
    start, channels = int(model.tex_adr[texture]), int(model.tex_nchannel[texture])
    height, width = int(model.tex_height[texture]), int(model.tex_width[texture])
    pixels = model.tex_data[start : start + height * width * channels].reshape(height, width, channels)[..., :3]
    first = pixels[height // 4, width // 4] / np.float32(255)
    second = pixels[height // 4, 3 * width // 4] / np.float32(255)
    repeat = max(float(model.mat_texrepeat[material, 0]), 1e-6)
    # A repeat is two cells. texuniform: MuJoCo repeats per 2 m; otherwise over the plane's whole width.
    half_width_m = 1.0 if model.mat_texuniform[material] else float(model.geom_size[floor, 0]) or 1.0
    cell_m = half_width_m / repeat
    return second.astype(np.float32), first.astype(np.float32), np.float32(cell_m)


def _sky_colours(model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    """Zenith and horizon colours (3,): the skybox's first row and the haze colour."""
    horizon = np.array(model.vis.rgba.haze[:3], dtype=np.float32)
    skyboxes = np.flatnonzero(model.tex_type == mujoco.mjtTexture.mjTEXTURE_SKYBOX)
    if len(skyboxes) == 0:
        return _DEFAULT_SKY, horizon
    face, width = int(model.tex_adr[skyboxes[0]]), int(model.tex_width[skyboxes[0]])
    channels = int(model.tex_nchannel[skyboxes[0]])
    up = face + 2 * width * width * channels  # faces are stacked right, left, up, down, front, back
    centre = up + (width // 2 * width + width // 2) * channels
    return (model.tex_data[centre : centre + 3] / 255.0).astype(np.float32), horizon
