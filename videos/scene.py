"""The model that is filmed: a family's robot on a checker floor, with the goal in sight.

It is compiled from the family's own spec and used for pictures only; the episode was simulated with `family.model`.
The marker hangs on a mocap body without collisions, so qpos keeps its meaning and length.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float

from metarl.envs import Family, Marker
from metarl.envs.dynamics import show_task

FLOOR_RGB = (0.87, 0.89, 0.92), (0.70, 0.74, 0.80)
SKY_RGB = (0.30, 0.50, 0.78)  # zenith
HORIZON_RGB = (0.86, 0.91, 0.96)
ROOT_RGB = (0.13, 0.27, 0.52)
TIP_RGB = (0.33, 0.66, 0.86)
FIELD_OF_VIEW_DEG = 45.0  # vertical
GOAL_RGB = (0.94, 0.27, 0.16)
GOAL_PALE_RGB = (1.0, 0.97, 0.93)
LIGHT_DIRECTION = (0.35, 0.45, -1.0)

SKY_RISE = 0.6  # sine of the elevation at which the horizon's colour has become the zenith's
MARKER_GROUP = 1  # geom group of markers, which renderers draw without shadows

_POINT_SCALE = 1.6
_SKY_PIXELS = 64  # width of the sky box
_MARKER_BODY = "metarl_goal"
_SEGMENTS = 24  # of the arrow's cone


@dataclass(frozen=True)
class Scene:
    """What a renderer needs to film one family with one goal."""

    model: mujoco.MjModel
    """Same nq as the family's model; the marker is its last mocap body."""
    marker: Marker | None
    root_body: int
    """The first body that moves; the camera follows it."""
    size_m: float
    """Distance from the root body to the farthest point of the robot, in the model's initial pose."""
    planar: bool
    """Whether the robot moves in the x-z plane only (its root has no free joint)."""
    kinematic: bool
    """Whether it is a point that moves in the x-y plane, to be seen from above."""
    arrow_z_m: float
    """Height of a heading's arrow."""

    def mocap_pos(self, root_pos: Float[np.ndarray, 3]) -> Float[np.ndarray, "nmocap 3"]:
        """Positions (m) of the mocap bodies when the root body is at root_pos (m): a heading follows the robot."""
        pos = np.array(self.model.body_pos[self.model.body_mocapid >= 0])
        if self.marker is not None and self.marker.kind == "heading":
            pos[-1] = (root_pos[0], root_pos[1], self.arrow_z_m)
        return pos


def build_scene(family: Family, goal: Float[np.ndarray, " goal"], *, with_marker: bool = True) -> Scene:
    """Compile the picture model of a family with its goal.

    goal: (goal,) in the family's units.
    Raises ValueError when the family's model has no body that moves.
    """
    spec = family.model_spec().copy()
    original = family.model
    root = _root_body(original)
    size_m = _robot_size_m(original, root)
    _restyle(spec, root, size_m, family.kinematic)
    planar = int(original.jnt_type[original.body_jntadr[root]]) != mujoco.mjtJoint.mjJNT_FREE and not family.kinematic
    marker = family.marker(np.asarray(goal, dtype=np.float64)) if with_marker else None
    if marker is not None:
        _add_marker(spec, marker, size_m, planar, family.kinematic)
    model = family.compile(spec)
    show_task(model, family, np.asarray(goal, dtype=np.float64))
    if model.nq != original.nq:
        raise RuntimeError(f"the goal marker changed nq of {family.name} from {original.nq} to {model.nq}")
    # Seen from the side an arrow floats above the robot; seen from above it lies on the floor, ahead of the robot,
    # where every heading is equally clear.
    arrow_z_m = float(original.body_pos[root][2]) + 0.75 * size_m if planar else 0.02 * size_m
    return Scene(model, marker, root, size_m, planar, family.kinematic, arrow_z_m)


def root_positions(scene: Scene, qpos: Float[np.ndarray, "time nq"]) -> Float[np.ndarray, "time 3"]:
    """World positions (m) of the root body along a trajectory."""
    data = mujoco.MjData(scene.model)
    positions = np.empty((len(qpos), 3))
    for t, row in enumerate(qpos):
        data.qpos[:] = row
        mujoco.mj_kinematics(scene.model, data)
        positions[t] = data.xpos[scene.root_body]
    return positions


def _root_body(model: mujoco.MjModel) -> int:
    moving = np.flatnonzero(model.body_weldid != 0)
    if len(moving) == 0:
        raise ValueError("the model has no body with a joint, so there is nothing to film; check Family.model_spec")
    return int(moving[0])


def _robot_size_m(model: mujoco.MjModel, root: int) -> float:
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    geoms = model.body_weldid[model.geom_bodyid] != 0
    reach = np.linalg.norm(data.geom_xpos[geoms] - data.xpos[root], axis=1) + model.geom_rbound[geoms]
    return float(reach.max(initial=0.05))


# -- look ------------------------------------------------------------------------------------------------------------


def _restyle(spec: mujoco.MjSpec, root: int, size_m: float, kinematic: bool) -> None:
    """Sky, light, floor and robot colours that read well in a small video; nothing that physics reads matters here."""
    for texture in list(spec.textures):
        if texture.type == mujoco.mjtTexture.mjTEXTURE_SKYBOX:
            spec.delete(texture)
    spec.add_texture(
        name="metarl_sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        width=_SKY_PIXELS,
        height=6 * _SKY_PIXELS,
        nchannel=3,
        data=_sky_box().ravel().tolist(),
    )
    for light in list(spec.lights):
        spec.delete(light)
    # On the robot, so that it is lit alike wherever it goes.
    spec.bodies[root].add_light(
        name="metarl_sun",
        mode=mujoco.mjtCamLight.mjCAMLIGHT_TRACK,
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=(-1.4, -1.8, 4.0),
        dir=LIGHT_DIRECTION,
        diffuse=(0.62, 0.61, 0.58),
        ambient=(0.0, 0.0, 0.0),
        specular=(0.25, 0.25, 0.25),
    )
    headlight = spec.visual.headlight
    headlight.ambient, headlight.diffuse, headlight.specular = (0.44, 0.45, 0.48), (0.08, 0.08, 0.08), (0.0, 0.0, 0.0)
    spec.visual.rgba.haze = (*HORIZON_RGB, 1.0)
    spec.visual.rgba.fog = (*HORIZON_RGB, 1.0)
    spec.visual.map.fogstart, spec.visual.map.fogend = 2.0, 12.0  # in units of the extent below
    spec.visual.global_.fovy = FIELD_OF_VIEW_DEG
    spec.stat.extent = max(3.0 * size_m, 2.0)  # scales clipping planes, haze and the area that shadows cover
    _restyle_floor(spec, cell_m=0.25 if kinematic else 0.5)
    if kinematic:
        _enlarge(spec.bodies[root])
    else:
        _colour_robot(spec)


def _sky_box() -> np.ndarray:
    """The six faces (6 n, n, 3) uint8 of a sky that has its horizon at eye level.

    MuJoCo's own gradient spends half of its range below the horizon.
    """
    up, across = np.meshgrid(*(np.linspace(1, -1, _SKY_PIXELS) for _ in range(2)), indexing="ij")
    norm = np.sqrt(1.0 + up**2 + across**2)
    side, zenith, nadir = up / norm, 1.0 / norm, -1.0 / norm
    sine = np.stack([side, side, zenith, nadir, side, side])  # right, left, up, down, front, back
    rise = np.clip(sine / SKY_RISE, 0.0, 1.0)[..., None]
    colour = np.array(HORIZON_RGB) + rise * rise * (3 - 2 * rise) * (np.array(SKY_RGB) - np.array(HORIZON_RGB))
    return np.round(255 * colour).astype(np.uint8).reshape(6 * _SKY_PIXELS, _SKY_PIXELS, 3)


def _restyle_floor(spec: mujoco.MjSpec, cell_m: float) -> None:
    spec.add_texture(
        name="metarl_floor",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=FLOOR_RGB[0],
        rgb2=FLOOR_RGB[1],
        width=256,
        height=256,
    )
    floor = spec.add_material(name="metarl_floor", texrepeat=(1.0 / cell_m, 1.0 / cell_m), texuniform=True)
    floor.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "metarl_floor"
    floor.reflectance, floor.specular, floor.shininess = 0.0, 0.0, 0.0
    for geom in spec.worldbody.geoms:
        if geom.type == mujoco.mjtGeom.mjGEOM_PLANE:
            geom.material = "metarl_floor"
            geom.rgba = (1.0, 1.0, 1.0, 1.0)
            geom.size[:2] = 0.0  # without end, so that its edge never comes into view


def _colour_robot(spec: mujoco.MjSpec) -> None:
    """Shade limbs from root to tip, unless the model colours its parts itself (more than two colours)."""
    geoms = [(geom, depth) for body in spec.worldbody.bodies for geom, depth in _with_depth(body, 0)]
    if len({tuple(np.round(geom.rgba, 2)) for geom, _ in geoms}) > 2:
        return
    deepest = max((depth for _, depth in geoms), default=0) or 1
    for geom, depth in geoms:
        share = depth / deepest
        geom.material = ""
        geom.rgba = (*((1 - share) * np.array(ROOT_RGB) + share * np.array(TIP_RGB)), 1.0)


def _enlarge(body: mujoco.MjsBody) -> None:
    """A point drawn to scale is a few pixels in the view of the whole arena."""
    for geom in body.geoms:
        geom.size = _POINT_SCALE * geom.size
        geom.pos = _POINT_SCALE * geom.pos


def _with_depth(body: mujoco.MjsBody, depth: int) -> list[tuple[mujoco.MjsGeom, int]]:
    found = [(geom, depth) for geom in body.geoms]
    for child in body.bodies:
        found += _with_depth(child, depth + 1)
    return found


# -- goal marker -----------------------------------------------------------------------------------------------------


def _add_marker(spec: mujoco.MjSpec, marker: Marker, size_m: float, planar: bool, kinematic: bool) -> None:
    body = spec.worldbody.add_body(name=_MARKER_BODY, mocap=True, pos=marker.xyz)
    if marker.kind == "place":
        _add_target(body, radius_m=0.11 if kinematic else 0.35, pole_m=0.0 if kinematic else 1.2)
    else:
        body.pos = (0.0, 0.0, 0.0)
        body.quat = _quat_from_x_axis(np.array(marker.xyz))
        if planar:
            _add_arrow(spec, body, length_m=0.9 * size_m)
        else:
            _add_floor_arrow(spec, body, start_m=1.1 * size_m, length_m=0.75 * size_m)


def _add_target(body: mujoco.MjsBody, radius_m: float, pole_m: float) -> None:
    """A bull's-eye on the floor, with a flag pole where robots could hide it."""
    for ring, (share, rgb) in enumerate(((1.0, GOAL_RGB), (0.68, GOAL_PALE_RGB), (0.36, GOAL_RGB))):
        half_height_m = 0.012 * radius_m * (ring + 1)
        _add_visual(
            body, mujoco.mjtGeom.mjGEOM_CYLINDER, (share * radius_m, half_height_m, 0.0), (0.0, 0.0, half_height_m), rgb
        )
    if pole_m:
        _add_visual(body, mujoco.mjtGeom.mjGEOM_CAPSULE, (0.022, pole_m / 2, 0.0), (0.0, 0.0, pole_m / 2), GOAL_RGB)
        _add_visual(body, mujoco.mjtGeom.mjGEOM_SPHERE, (0.08, 0.0, 0.0), (0.0, 0.0, pole_m), GOAL_RGB)


def _add_arrow(spec: mujoco.MjSpec, body: mujoco.MjsBody, length_m: float) -> None:
    """An arrow along the body's x axis, centred at its origin."""
    radius_m, head_m = 0.055 * length_m, 0.36 * length_m
    angle = np.linspace(0.0, 2 * np.pi, _SEGMENTS, endpoint=False)
    rim = np.stack([np.zeros(_SEGMENTS), np.cos(angle), np.sin(angle)], axis=1) * (3.0 * radius_m)
    cone = np.concatenate([rim, [[head_m, 0.0, 0.0]]])
    spec.add_mesh(name="metarl_arrow_head", uservert=cone.ravel())
    shaft_m = length_m - head_m
    shaft = _add_visual(
        body,
        mujoco.mjtGeom.mjGEOM_CYLINDER,
        (radius_m, shaft_m / 2, 0.0),
        (-length_m / 2 + shaft_m / 2, 0.0, 0.0),
        GOAL_RGB,
    )
    shaft.quat = (np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0)  # a cylinder lies along z
    head = _add_visual(body, mujoco.mjtGeom.mjGEOM_MESH, (0.0, 0.0, 0.0), (length_m / 2 - head_m, 0.0, 0.0), GOAL_RGB)
    head.meshname = "metarl_arrow_head"


def _add_floor_arrow(spec: mujoco.MjSpec, body: mujoco.MjsBody, start_m: float, length_m: float) -> None:
    """A flat arrow along the body's x axis, from start_m on."""
    head_m, thick_m = 0.45 * length_m, 0.012 * length_m
    corner = np.array([[0.0, 0.3 * length_m], [0.0, -0.3 * length_m], [head_m, 0.0]])
    prism = np.concatenate([np.column_stack([corner, np.full(3, z)]) for z in (-thick_m, thick_m)])
    spec.add_mesh(name="metarl_arrow_head", uservert=prism.ravel())
    half_m = (length_m - head_m) / 2
    shaft = (half_m, 0.11 * length_m, thick_m)
    _add_visual(body, mujoco.mjtGeom.mjGEOM_BOX, shaft, (start_m + half_m, 0.0, 0.0), GOAL_RGB)
    head = _add_visual(
        body, mujoco.mjtGeom.mjGEOM_MESH, (0.0, 0.0, 0.0), (start_m + length_m - head_m, 0.0, 0.0), GOAL_RGB
    )
    head.meshname = "metarl_arrow_head"


def _add_visual(
    body: mujoco.MjsBody,
    geom_type: mujoco.mjtGeom,
    size: tuple[float, float, float],
    pos: tuple[float, float, float],
    rgb: tuple[float, float, float],
) -> mujoco.MjsGeom:
    return body.add_geom(
        type=geom_type, size=size, pos=pos, rgba=(*rgb, 1.0), contype=0, conaffinity=0, mass=0.0, group=MARKER_GROUP
    )


def _quat_from_x_axis(direction: np.ndarray) -> np.ndarray:
    """Quaternion (w, x, y, z) that turns the x axis to a direction, by yaw and pitch."""
    x, y, z = direction / max(float(np.linalg.norm(direction)), 1e-9)
    yaw, pitch = np.arctan2(y, x), -np.arctan2(z, np.hypot(x, y))
    about_z, about_y, quat = np.zeros(4), np.zeros(4), np.zeros(4)
    mujoco.mju_axisAngle2Quat(about_z, np.array([0.0, 0.0, 1.0]), yaw)
    mujoco.mju_axisAngle2Quat(about_y, np.array([0.0, 1.0, 0.0]), pitch)
    mujoco.mju_mulQuat(quat, about_z, about_y)
    return quat
