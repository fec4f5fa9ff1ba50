"""`metarl adapt` and `metarl record`: for every family, and the errors of tasks and renderers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_runs import call, fails, train_small

from metarl import load_policy
from metarl.commands.adapt_command import task_slug
from metarl.envs import family_names, make_family
from metarl.videos import EglUnavailableError

TASKS = {
    "half-cheetah-dir": ("forward", [1.0]),
    "half-cheetah-vel": ("1.5", [1.5]),
    "ant-dir": ("backward", [-1.0]),
    "ant-dir-2d": ("0,1", [0.0, 1.0]),
    "ant-vel": ("1.25", [1.25]),
    "ant-goal": ("0.5 -0.5", [0.5, -0.5]),
    "ant-crippled": ("back-left", [2.0]),
    "half-cheetah-params": ("nominal", [0.0] * 29),
    "walker-params": ("nominal", [0.0] * 28),
    "hopper-params": ("nominal", [0.0] * 16),
    "humanoid-dir": ("0,1", [0.0, 1.0]),
    "point-nav": ("-0.3,0.2", [-0.3, 0.2]),
    "point-nav-sparse": None,
}


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on point-nav."""
    return train_small(tmp_path_factory.mktemp("points") / "run")


@pytest.mark.parametrize("env", family_names())
def test_an_adapted_policy_steps_its_environment(env: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train_small(tmp_path / "run", env=env)
    if TASKS[env] is None:
        goal = make_family(env).tasks.sample(1, np.random.default_rng(0), "test").goal[0].tolist()
        text = ",".join(map(repr, goal))
    else:
        text, goal = TASKS[env]
    code, out, err = call(capsys, "adapt", run, "--task", text, "--steps", "2", "--threads", "1")
    assert (code, err) == (0, "")
    folder = run / f"adapted-{task_slug(text)}"
    assert out.splitlines()[-1] == f"policy: {folder}"
    assert "return after 0 to 2 gradient steps" in out

    policy = load_policy(folder)
    with policy.make_env() as environment:
        obs, _ = environment.reset(seed=0)
        action = policy.act(obs)
        obs, reward, *_ = environment.step(action)
        np.testing.assert_allclose(environment.unwrapped.task, goal)
    assert np.isfinite(obs).all()
    assert np.isfinite(reward)
    assert environment.action_space.contains(action)
    assert policy.record["gradient_steps"] == 2
    assert len(policy.record["return_after_steps"]) == 3
    assert policy.record["kind"] == "adapted policy"
    np.testing.assert_array_equal(policy.task, goal)
    if env != "point-nav-sparse":  # five steps find no reward to learn from
        assert not np.array_equal(policy.theta, load_policy(run).theta)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("1,2,3", "task has shape (3,), expected (2,)"),
        ("100,0", "outside the distribution"),
        ("nan,0", "not finite"),
        ("forward", "not a list of numbers; give 2"),
        ("", "shape"),
    ],
)
@pytest.mark.parametrize("command", ["adapt", "record"])
def test_a_wrong_task(command: str, task: str, said: str, points: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(points.rglob("*"))
    error = fails(capsys, command, points, "--task", task)
    assert said in error
    assert error.startswith("metarl: point-nav: ")
    assert sorted(points.rglob("*")) == before


def test_a_direction_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train_small(tmp_path / "run", env="half-cheetah-dir")
    for task in ("sideways", "0.5", "1,1"):
        assert "allowed: forward (1), backward (-1)" in fails(capsys, "adapt", run, "--task", task)


def test_adapting_is_a_function_of_the_seed(points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    thetas = []
    for i, options in enumerate((("--threads", "1"), ("--threads", "2"), ("--seed", "1"))):
        out = tmp_path / str(i)
        assert call(capsys, "adapt", points, "--task", "0.1,0.1", "--out", out, *options)[0] == 0
        thetas.append(load_policy(out).theta)
    assert np.array_equal(thetas[0], thetas[1])
    assert not np.array_equal(thetas[0], thetas[2])


def test_unwritable_places(points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    argv = ["--task", "0,0", "--out"]
    assert "cannot write to" in fails(capsys, "adapt", points, *argv, tmp_path / "file" / "x", code=1)
    assert "cannot write to" in fails(capsys, "record", points, *argv, tmp_path / "file" / "x.mp4", code=1)


@pytest.mark.parametrize("backend", ["auto", "raycast"])
def test_a_video_and_what_it_shows(backend: str, points: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["record", points, "--task", "0.3,0.2", "--gif", "--width", "64", "--height", "48", "--backend", backend]
    code, out, err = call(capsys, *argv)
    assert (code, err) == (0, "")
    video = points / "videos" / "0.3_0.2.mp4"
    assert out == f"video: {video}\ngif: {video.with_suffix('.gif')}\n"
    assert video.read_bytes()[4:8] == b"ftyp"
    with Image.open(video.with_suffix(".gif")) as gif:
        assert gif.n_frames > 1
    facts = json.loads(video.with_suffix(".json").read_text())
    assert facts["env"] == "point-nav"
    assert list(facts["goal"].values()) == [0.3, 0.2]
    assert [panel["title"] for panel in facts["panels"]] == ["before adaptation", "after 1 gradient step"]
    assert facts["metadata"]["run"] == str(points)
    assert facts["metadata"]["seed"] == 0
    if backend == "raycast":
        assert facts["backend"] == "raycast"


def test_without_egl_a_video_is_cast_and_asking_for_egl_is_an_error(
    points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*args: object) -> None:
        raise EglUnavailableError("libEGL.so.1 is missing")

    monkeypatch.setattr("metarl.videos.render.EglRenderer", unavailable)
    argv = ["record", points, "--task", "0,0", "--width", "32", "--height", "32", "--out", tmp_path / "v.mp4"]
    error = fails(capsys, *argv, "--backend", "egl", code=1)
    assert re.search(r"libEGL.so.1 is missing.*or use --backend raycast", error)
    assert not (tmp_path / "v.mp4").exists()
    code, _, err = call(capsys, *argv)
    assert (code, err) == (0, "")
    assert json.loads((tmp_path / "v.json").read_text())["backend"] == "raycast"
