"""`metarl evaluate`: what it measures, prints and writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_runs import call, fails, train_small

from metarl.envs import make_family


@pytest.fixture(scope="module")
def directions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on half-cheetah-dir."""
    return train_small(tmp_path_factory.mktemp("directions") / "run", env="half-cheetah-dir")


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on point-nav."""
    return train_small(tmp_path_factory.mktemp("points") / "run")


def test_the_json_holds_everything(directions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["evaluate", directions, "--tasks", "6", "--trajectories", "3", "--steps", "2", "--out", tmp_path / "e"]
    code, out, err = call(capsys, *argv, "--json")
    assert (code, err) == (0, "")
    result = json.loads(out, parse_constant=pytest.fail)
    assert result == json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert (result["env"], result["protocol"], result["iterations"]) == ("half-cheetah-dir", "modern", 2)
    assert (result["n_tasks"], result["trajectories"], result["seed"]) == (6, 3, 1000)
    assert result["command"].startswith(f"metarl evaluate {directions} --tasks 6 --trajectories 3")
    assert "torch" in result["versions"]
    assert np.shape(result["goals"]) == (6, 1)
    for name in ("meta-trained", "random initialisation"):
        returns = np.array(result[name]["returns"])
        assert returns.shape == (3, 6)
        np.testing.assert_allclose(result[name]["mean"], returns.mean(1))
        np.testing.assert_allclose(result[name]["ci95"], 1.96 * returns.std(1, ddof=1) / np.sqrt(6))
        assert result[name]["n_diverged"] == 0
    family = make_family("half-cheetah-dir")
    labels = {family.describe(np.array([sign])): sign for sign in (1.0, -1.0)}
    assert set(result["groups"]) == set(labels)
    returns, goals = np.array(result["meta-trained"]["returns"]), np.array(result["goals"])[:, 0]
    for label, sign in labels.items():
        assert result["groups"][label]["n_tasks"] == 3
        np.testing.assert_allclose(result["groups"][label]["mean"], returns[:, goals == sign].mean(1))


def test_the_table_and_the_figure(directions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "evaluate", directions, "--tasks", "4", "--steps", "1", "--out", tmp_path)
    assert (code, err) == (0, "")
    result = json.loads((tmp_path / "evaluation.json").read_text())
    first = result["meta-trained"]
    assert f"{first['mean'][0]:.1f} +- {first['ci95'][0]:.1f}" in out
    rows = out.splitlines()
    assert any(row.split()[-2:] == ["1", "step"] and "0 steps" in row for row in rows)
    assert sum(row.strip().startswith(("meta-trained ", "run ", "random initialisation ")) for row in rows) == 4
    assert rows[-1] == f"written: {tmp_path / 'evaluation.json'}, {tmp_path / 'evaluation.png'}"
    with Image.open(tmp_path / "evaluation.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert min(pixels.shape[:2]) > 300
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100


def test_a_continuum_of_goals_has_no_groups_and_default_places(
    points: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(capsys, "evaluate", points, "--tasks", "3", "--steps", "0")[0] == 0
    result = json.loads((points / "evaluation.json").read_text())
    assert result["groups"] == {}
    assert result["trajectories"] == 2  # as in training
    assert np.shape(result["meta-trained"]["returns"]) == (1, 3)
    assert (points / "evaluation.png").exists()


def test_a_single_task_has_no_interval(points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "evaluate", points, "--tasks", "1", "--steps", "1", "--out", tmp_path)
    assert (code, err) == (0, "")
    assert "nan" not in out
    result = json.loads((tmp_path / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert result["meta-trained"]["ci95"] == [None, None]


def test_the_seed_decides_and_threads_do_not(points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def returns(*options: object) -> object:
        argv = ["evaluate", points, "--tasks", "3", "--steps", "1", "--json", "--out", tmp_path, *options]
        result = json.loads(call(capsys, *argv)[1])
        return result["goals"], result["meta-trained"]["returns"], result["random initialisation"]["returns"]

    one = returns("--threads", "1")
    assert one == returns("--threads", "1") == returns("--threads", "3")
    assert one != returns("--seed", "7")


def test_an_unwritable_place_is_an_error_before_the_work(
    points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    error = fails(capsys, "evaluate", points, "--out", tmp_path / "file" / "x", code=1)
    assert "cannot write to" in error
