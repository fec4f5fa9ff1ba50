"""Both renderers over every family: the robot, the goal and its motion are to be seen."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys

import mujoco
import numpy as np
import pytest

from metarl.envs import Family, family_class, family_names, make_family, task_model
from metarl.videos import EglUnavailableError, build_scene, camera_tracks, make_renderer, root_positions
from metarl.videos.camera import smooth_track
from metarl.videos.raycast import _bilinear, _blur, _filtered_checker

SIZE = (96, 72)


def _egl_problem() -> str:
    try:
        make_renderer(make_family("point-nav").model, 16, 16, "egl").close()
    except EglUnavailableError as error:
        return str(error)
    return ""


EGL_PROBLEM = _egl_problem()
NEEDS_EGL = pytest.mark.skipif(bool(EGL_PROBLEM), reason=f"no EGL here: {EGL_PROBLEM}")
BACKENDS = ["raycast", pytest.param("egl", marks=NEEDS_EGL)]
ALL_FAMILIES = [(name, protocol) for name in family_names() for protocol in family_class(name).protocols]


def _goal(family: Family) -> np.ndarray:
    return family.tasks.sample(1, np.random.default_rng(0)).goal[0]


def _picture(family: Family, backend: str, qpos: np.ndarray, *, with_marker: bool = True) -> np.ndarray:
    """One frame with the camera where the marked scene's camera is."""
    scene = build_scene(family, _goal(family), with_marker=with_marker)
    root = root_positions(scene, qpos[None])
    view = camera_tracks(build_scene(family, _goal(family)), [root], family.spec.control_dt_s)[0][0]
    with make_renderer(scene.model, *SIZE, backend) as renderer:
        return renderer.render(qpos, view, scene.mocap_pos(root[0]))


def _changed(a: np.ndarray, b: np.ndarray) -> int:
    return int((np.abs(a.astype(int) - b.astype(int)).max(axis=-1) > 40).sum())


@pytest.mark.parametrize(
    ("name", "protocol", "backend"),
    [(*both, "raycast") for both in ALL_FAMILIES]
    # A software EGL context takes half a second to make, and the protocols look alike.
    + [pytest.param(name, "modern", "egl", marks=NEEDS_EGL) for name in family_names()],
)
def test_robot_and_goal_are_visible(name: str, protocol: str, backend: str) -> None:
    family = make_family(name, protocol)
    qpos = family.reset(np.random.default_rng(1))[0]
    picture = _picture(family, backend, qpos)
    assert picture.shape == (72, 96, 3)
    assert picture.dtype == np.uint8
    blue = (picture[..., 2].astype(int) - picture[..., 0]) > 60  # robots are blue, floor and sky are pale
    assert blue.sum() >= 6
    difference = _changed(picture, _picture(family, backend, qpos, with_marker=False))
    if family.marker(_goal(family)) is None:
        assert difference == 0
    else:
        assert difference >= 12


@pytest.mark.parametrize(("name", "protocol"), ALL_FAMILIES)
def test_scene_keeps_the_robot_as_it_is(name: str, protocol: str) -> None:
    family = make_family(name, protocol)
    model = build_scene(family, _goal(family)).model
    simulated = task_model(family, _goal(family))
    bodies = slice(0, family.model.nbody)
    assert model.nq == family.model.nq
    np.testing.assert_array_equal(model.qpos0, family.model.qpos0)
    np.testing.assert_array_equal(model.body_pos[bodies], family.model.body_pos)
    if not family.kinematic:  # a point is drawn larger than it is
        np.testing.assert_allclose(model.body_mass[bodies], simulated.body_mass, rtol=1e-12)
        moving = family.model.body_weldid[family.model.geom_bodyid] != 0
        np.testing.assert_array_equal(model.geom_size[: family.model.ngeom][moving], family.model.geom_size[moving])
    markers = model.geom_bodyid >= family.model.nbody
    assert not model.geom_contype[markers].any()
    assert not model.geom_conaffinity[markers].any()


@NEEDS_EGL
@pytest.mark.parametrize("name", ["half-cheetah-dir", "ant-dir-2d", "ant-goal", "point-nav"])
def test_backends_agree(name: str) -> None:
    family = make_family(name)
    qpos = family.reset(np.random.default_rng(1))[0]
    cast, drawn = (_picture(family, backend, qpos).astype(float) for backend in ("raycast", "egl"))
    assert np.abs(cast - drawn).mean() < 14  # of 255; mirrored or shifted pictures are beyond 16

    places = [np.argwhere(picture[..., 0] - picture[..., 2] > 50) for picture in (cast, drawn)]  # the red marker
    np.testing.assert_allclose(places[0].mean(axis=0), places[1].mean(axis=0), atol=1.5)
    assert 0.5 < len(places[0]) / len(places[1]) < 2.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_floor_shows_motion_under_a_tracking_camera(backend: str) -> None:
    family = make_family("half-cheetah-vel")
    qpos = np.zeros((2, family.model.nq))
    qpos[1, 0] = 0.3
    pictures = [_picture(family, backend, row) for row in qpos]
    assert _changed(pictures[0][-12:], pictures[1][-12:]) > 50  # the lowest rows hold floor only
    blue = [picture[..., 2].astype(int) - picture[..., 0] > 60 for picture in pictures]
    np.testing.assert_allclose(np.argwhere(blue[0]).mean(axis=0), np.argwhere(blue[1]).mean(axis=0), atol=1.5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_projection_is_where_the_point_is_drawn(backend: str) -> None:
    family = make_family("point-nav")
    scene = build_scene(family, np.array([-0.4, -0.4]))
    qpos = np.array([0.6, 0.3])
    root = root_positions(scene, qpos[None])
    view = camera_tracks(scene, [root], 0.05)[0][0]
    with make_renderer(scene.model, 320, 240, backend) as renderer:
        picture = renderer.render(qpos, view).astype(int)
    rows, columns = np.nonzero(picture[..., 2] - picture[..., 0] > 90)
    column, row = view.project(root, 320, 240)[0]
    np.testing.assert_allclose([columns.mean() + 0.5, rows.mean() + 0.5], [column, row], atol=2.5)
    assert column > 160
    assert row < 120  # x is to the right and y upwards


def test_view_from_above_holds_every_goal() -> None:
    scene = build_scene(make_family("point-nav-sparse"), np.array([1.0, 0.0]))
    view = camera_tracks(scene, [np.zeros((1, 3))], 0.05)[0][0]
    angle = np.linspace(0, 2 * np.pi, 32)
    goals = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    pixels = view.project(goals, 480, 360)
    assert (pixels > 15).all()
    assert (pixels < (465, 345)).all()


def test_heading_arrow_points_along_the_goal_and_follows() -> None:
    family = make_family("ant-dir-2d")
    goal = np.array([np.cos(2.0), np.sin(2.0)])
    scene = build_scene(family, goal)
    data = mujoco.MjData(scene.model)
    data.mocap_pos[:] = scene.mocap_pos(np.array([5.0, -2.0, 0.5]))
    mujoco.mj_kinematics(scene.model, data)
    np.testing.assert_allclose(data.xmat[-1].reshape(3, 3)[:, 0], [*goal, 0.0], atol=1e-9)
    np.testing.assert_allclose(data.xpos[-1][:2], [5.0, -2.0])
    head = data.geom_xpos[-1][:2] - [5.0, -2.0]
    assert np.dot(head, goal) > scene.size_m  # ahead of the feet
    np.testing.assert_allclose(head / np.linalg.norm(head), goal, atol=0.02)


@pytest.mark.parametrize("name", ["half-cheetah-dir", "ant-dir-2d", "ant-goal"])
@pytest.mark.parametrize("angle", np.linspace(0, 2 * np.pi, 8, endpoint=False))
def test_robot_and_marker_fit_the_picture(name: str, angle: float) -> None:
    family = make_family(name)
    goal = 3.0 * np.array([np.cos(angle), np.sin(angle)]) if name == "ant-goal" else np.array([1.0, 0.0])
    goal = {"half-cheetah-dir": np.sign(goal[:1]), "ant-dir-2d": np.array([np.cos(angle), np.sin(angle)])}.get(
        name, goal
    )
    scene = build_scene(family, goal)
    root = root_positions(scene, scene.model.qpos0[None])
    view = camera_tracks(scene, [root], family.spec.control_dt_s)[0][0]
    data = mujoco.MjData(scene.model)
    data.mocap_pos[:] = scene.mocap_pos(root[0])
    mujoco.mj_kinematics(scene.model, data)
    solid = scene.model.geom_bodyid > 0
    for sign in (-1.0, 1.0):
        reach = sign * scene.model.geom_rbound[solid, None] * view.basis()[2]
        pixels = view.project(data.geom_xpos[solid] + reach, 480, 360)
        assert (pixels > 0).all()
        assert (pixels < (480, 360)).all()


def test_tracking_camera_is_smooth_without_lag() -> None:
    line = np.stack([np.linspace(0, 4, 80), np.zeros(80)], axis=1)
    np.testing.assert_allclose(smooth_track(line, 0.05)[25:-25], line[25:-25], atol=1e-9)
    shaking = line + 0.1 * (np.arange(80)[:, None] % 2)
    assert np.abs(np.diff(smooth_track(shaking, 0.05)[25:-25, 1])).max() < 1e-3


def test_filtered_checker_is_the_mean_over_the_pixel() -> None:
    rng = np.random.default_rng(0)
    cell, width = rng.uniform(-3, 3, (2, 20)), rng.uniform(0.05, 2.5, (2, 20))
    step = (np.arange(400) + 0.5) / 400 - 0.5
    x, y = (cell[i, :, None] + width[i, :, None] * step for i in (0, 1))
    dark = (np.floor(x)[:, :, None] + np.floor(y)[:, None, :]) % 2
    np.testing.assert_allclose(_filtered_checker(cell, width), dark.mean(axis=(1, 2)), atol=0.01)


def test_blur_and_bilinear() -> None:
    image = np.zeros((21, 21), dtype=np.float32)
    image[10, 10] = 1.0
    blurred = _blur(image, 2)
    np.testing.assert_allclose(blurred.sum(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(blurred, blurred[::-1, ::-1].T, atol=1e-6)
    plane = np.add.outer(2.0 * np.arange(5), np.arange(5))
    np.testing.assert_allclose(_bilinear(plane, np.array([1.25]), np.array([2.5])), [2 * 1.25 + 2.5])


def test_wrong_requests_are_explained() -> None:
    model = make_family("point-nav").model
    with pytest.raises(ValueError, match="too small"):
        make_renderer(model, 4, 4, "raycast")
    with pytest.raises(ValueError, match="allowed: auto, egl, raycast"):
        inspect.unwrap(make_renderer)(model, 64, 64, "osmesa")  # past the tests' own type checker


@NEEDS_EGL
def test_egl_closes_once_and_leaves_the_model_alone() -> None:
    family = make_family("point-nav")
    scene = build_scene(family, np.zeros(2))
    before = scene.model.vis.global_.offwidth, scene.model.vis.quality.offsamples
    first, second = (make_renderer(scene.model, 64, 48, "egl") for _ in range(2))
    view = camera_tracks(scene, [np.zeros((1, 3))], 0.05)[0][0]
    expected = first.render(np.zeros(2), view)
    np.testing.assert_array_equal(second.render(np.zeros(2), view), expected)
    first.close()
    first.close()
    np.testing.assert_array_equal(second.render(np.zeros(2), view), expected)
    second.close()
    with pytest.raises(ValueError, match="closed"):
        second.render(np.zeros(2), view)
    assert (scene.model.vis.global_.offwidth, scene.model.vis.quality.offsamples) == before


WITHOUT_EGL = """
import os, sys
import numpy as np
from metarl.envs import make_family
from metarl.videos import EglUnavailableError, build_scene, camera_tracks, make_renderer
assert "torch" not in sys.modules
scene = build_scene(make_family("point-nav"), np.zeros(2))
view = camera_tracks(scene, [np.zeros((1, 3))], 0.05)[0][0]
with make_renderer(scene.model, 64, 48) as renderer:
    assert renderer.backend == "raycast", renderer.backend
    assert renderer.render(np.zeros(2), view).std() > 5
try:
    make_renderer(scene.model, 64, 48, "egl")
except EglUnavailableError as error:
    assert "libegl1" in str(error) and "raycast" in str(error), error
else:
    raise AssertionError("EGL worked without OpenGL")
assert "PYOPENGL_PLATFORM" not in os.environ and "MUJOCO_GL" not in os.environ
"""


# Importing PyOpenGL fails; and PyOpenGL is there but the dynamic loader finds no libEGL.
NO_PYOPENGL = "import sys; sys.modules['OpenGL'] = None"
NO_LIBEGL = """
import ctypes, ctypes.util
load, find = ctypes.CDLL, ctypes.util.find_library
class Loader(load):
    def __init__(self, name, *args, **kwargs):
        if name and ("EGL" in str(name) or "libGL" in str(name)):
            raise OSError(f"{name}: cannot open shared object file")
        super().__init__(name, *args, **kwargs)
ctypes.CDLL = ctypes.cdll._dlltype = Loader
ctypes.util.find_library = lambda name: None if name in ("EGL", "GL", "OpenGL") else find(name)
"""


@pytest.fixture
def bare_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in ("PYOPENGL_PLATFORM", "MUJOCO_GL")}


@pytest.mark.parametrize("missing", [NO_PYOPENGL, NO_LIBEGL], ids=["pyopengl", "libegl"])
def test_works_without_egl(missing: str, bare_environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", missing + WITHOUT_EGL], env=bare_environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
