"""Gymnasium environments on film: the episodes are those of the simulator, the pictures the environment's own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gymnasium
import imageio_ffmpeg
import numpy as np
import pytest
from gymnasium_families import LineFamily, Painted, PaintedFamily, PoleFamily, TroubleFamily
from small_runs import call, fails

from metarl.envs import Tasks, import_family
from metarl.videos import EglUnavailableError, record_environments
from metarl.videos.compose import BAR_RGB
from metarl.videos.environment_recorder import boxed

# imageio-ffmpeg's reader leaves its pipes to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("nothing_stays"),
]

HERE = Path(__file__).parent
TRAIN = ("--meta-batch", "2", "--trajectories", "2", "--env.horizon", "8", "--iterations", "1", "--threads", "1")


def constant(action: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda obs: np.array([action])


def frames_of(path: Path) -> np.ndarray:
    """(frame, height, width, 3)"""
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    frames = np.stack([np.frombuffer(data, np.uint8).reshape(height, width, 3) for data in reader])
    reader.close()
    return frames.astype(int)


def test_episodes_are_the_simulators(tmp_path: Path) -> None:
    """Return, length and ending of each panel; one leaves the line early, and then stands still."""
    family, goal = PaintedFamily(), np.array([0.5])
    panels = [("before", constant(-0.1)), ("after", constant(1.0))]
    recording = record_environments(family, goal, panels, 7, tmp_path / "v.mp4", width=64, height=48)
    facts = json.loads(recording.json.read_text())
    assert facts["backend"] == "environment"
    assert facts["description"] == family.describe(goal)
    for panel, action in zip(facts["panels"], (-0.1, 1.0), strict=True):
        env = Painted(0.5)
        env.reset(seed=7)
        rewards, over = [], False
        while not over and len(rewards) < family.horizon:
            _, reward, terminated, truncated, _ = env.step(np.array([2.0 * action], np.float32))
            rewards.append(reward)
            over = terminated or truncated
        assert panel["return"] == pytest.approx(sum(rewards), abs=1e-12)
        assert panel["steps"] == len(rewards)
    assert [panel["ending"] for panel in facts["panels"]] == ["", "ended"]
    frames = frames_of(recording.mp4)
    assert len(frames) == recording.frames == 21
    assert frames.shape[1:3] == (recording.height, recording.width)
    right = frames[:, :, recording.width // 2 + 4 :]
    assert np.abs(right[-1] - right[12]).max() < 40  # it stands still, up to the codec's noise
    assert np.abs(right[6] - right[0]).max() > 120  # after it moved


def test_a_policy_sees_what_training_shows_it(tmp_path: Path) -> None:
    seen: dict[bool, list[np.ndarray]] = {False: [], True: []}
    for oracle in seen:
        family = PaintedFamily(oracle=oracle)

        def act(obs: np.ndarray, oracle: bool = oracle) -> np.ndarray:
            seen[oracle].append(obs)
            return np.array([0.3])

        record_environments(family, np.array([0.5]), [("only", act)], 3, tmp_path / "v.mp4", width=32, height=32)
        simulator = family.simulator(1, 1)
        rng = np.random.default_rng(0)
        first = int(np.random.default_rng(0).integers(2**31))
        obs = simulator.reset(Tasks(np.array([[0.5]])), [rng])
        simulator.close()
        seen[oracle].clear()
        record_environments(family, np.array([0.5]), [("only", act)], first, tmp_path / "v.mp4", width=32, height=32)
        np.testing.assert_array_equal(seen[oracle][0], obs[0, 0])
    assert seen[True][0].tolist() == [*seen[False][0].tolist(), 0.5]


def test_a_picture_is_fitted_into_its_box() -> None:
    red = np.full((30, 60, 3), (200, 0, 0), dtype=np.uint8)
    image = boxed(red, 40, 40)
    assert image.shape == (40, 40, 3)
    assert (image[20] == (200, 0, 0)).all()
    assert (image[2] == BAR_RGB).all()


class NotAPicture(PaintedFamily):
    def make_env(self, task: np.ndarray, render_mode: str | None = None) -> gymnasium.Env:
        return Painted(float(task[0]), render_mode, picture="[ x  ]")


class FallsOver(TroubleFamily):
    what = "raises"

    def make_env(self, task: np.ndarray, render_mode: str | None = None) -> gymnasium.Env:
        env = super().make_env(task)
        env.render_mode = render_mode
        env.render = lambda: np.zeros((4, 4, 3), np.uint8)
        return env


@pytest.mark.parametrize(
    ("family", "error", "said"),
    [
        (LineFamily, ValueError, r"render_mode is None.*LineFamily.make_env\(self, task, render_mode=None\)"),
        (NotAPicture, ValueError, r"returned str \(\).*not a picture"),
        (FallsOver, ChildProcessError, "step of the environment raised RuntimeError: the robot fell over"),
    ],
)
def test_what_cannot_be_filmed_is_said(
    family: type[LineFamily], error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        record_environments(family(), np.array([0.9]), [("only", constant(0.1))], 0, tmp_path / "v.mp4")
    assert list(tmp_path.iterdir()) == []


def test_the_command_films_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.chdir(tmp_path)
    assert call(capsys, "train", "gymnasium_families:PaintedFamily", *TRAIN, "--out", "run")[0] == 0
    again = ("--import", "gymnasium_families:PaintedFamily", "--width", "48", "--height", "32")
    code, out, err = call(capsys, "record", "run", "--task", "0.5", "--gif", *again)
    assert (code, err) == (0, "")
    assert out == "video: run/videos/0.5.mp4\ngif: run/videos/0.5.gif\n"
    facts = json.loads(Path("run/videos/0.5.json").read_text())
    assert [panel["title"] for panel in facts["panels"]] == ["before adaptation", "after 1 gradient step"]
    assert facts["panels"][0]["steps"] == 8
    said = fails(capsys, "record", "run", "--task", "0.5", "--backend", "egl", *again)
    assert "make their own pictures" in said


def test_without_render_mode_nothing_is_adapted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.chdir(tmp_path)
    assert call(capsys, "train", "gymnasium_families:LineFamily", *TRAIN, "--out", "run")[0] == 0
    said = fails(capsys, "record", "run", "--task", "0.5", "--import", "gymnasium_families:LineFamily")
    assert "cannot be filmed" in said
    assert "render_mode" in said


@pytest.mark.skipif(importlib.util.find_spec("pygame") is not None, reason="pygame is installed")
def test_a_missing_pygame_is_named(tmp_path: Path) -> None:
    family = import_family(f"{HERE.parent / 'examples' / 'heavy_pendulum.py'}:PendulumGravity")()
    with pytest.raises(ChildProcessError, match=r"render of the environment raised.*gymnasium\[classic-control\]"):
        record_environments(family, np.array([9.0]), [("only", constant(0.0))], 0, tmp_path / "v.mp4")


def test_gymnasiums_own_mujoco_environment(tmp_path: Path) -> None:
    """In a process of its own: which OpenGL Gymnasium takes is settled when MuJoCo is imported."""
    try:
        from metarl.videos.egl import EglRenderer

        family_model = gymnasium.make("InvertedPendulum-v5").unwrapped.model
        EglRenderer(family_model, 32, 32).close()
    except EglUnavailableError as error:
        pytest.skip(f"no OpenGL: {error}")
    code = (
        "import numpy as np; from gymnasium_families import PoleFamily; from metarl.videos import record_environments; "
        "record_environments(PoleFamily(), np.array([9.0]), "
        "[('only', lambda obs: np.zeros(1))], 0, 'v.mp4', width=96, height=64)"
    )
    environment = {**os.environ, "MUJOCO_GL": "egl", "PYTHONPATH": str(HERE)}
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, env=environment, check=True)
    facts = json.loads((tmp_path / "v.json").read_text())
    assert facts["panels"][0]["steps"] == PoleFamily.horizon
    frames = frames_of(tmp_path / "v.mp4")
    assert frames[0].std() > 20  # a picture, not a plain ground
