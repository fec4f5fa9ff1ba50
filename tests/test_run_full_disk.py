"""A full or read-only disk: one line that names the file, exit code 1, and what was there before is as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_disks import filled, read_only, small_disk
from PIL import Image
from small_runs import SMALL, assert_same_run, call, fails, train_small
from test_supervised_training import SMALL as SMALL_SUPERVISED
from test_supervised_training import assert_same_state

import metarl.supervised.training
from metarl.metrics import read_metrics
from metarl.runs import open_run
from metarl.train import load_state
from metarl.videos.poster import poster_jpeg

FREE_SPACE = "free some space, then run it again"
VIDEO = ("--task", "0.1,0.1", "--width", "64", "--height", "48", "--threads", "1", "--backend", "raycast", "--gif")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as folder:
        yield folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that no test changes, with an evaluation."""
    return train_small(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def run(finished: Path, disk: Path) -> Path:
    """A copy of it on the small disk."""
    return Path(shutil.copytree(finished, disk / "run"))


def leftovers(folder: Path) -> list[Path]:
    """Files that were begun and not ended."""
    return [path for path in folder.rglob(".*") if path.is_file()]


def test_training_whatever_is_being_written_when_the_disk_fills(
    run: Path, disk: Path, finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Settings, metrics, TensorBoard's events, checkpoint, policy: with each page more, training gets further."""
    whole = train_small(tmp_path / "whole", "--iterations", 4)
    said = set()
    for free in range(40):
        shutil.rmtree(run)
        shutil.copytree(finished, run)
        with filled(disk, free):
            code, _, err = call(capfd, "train", "--resume", run, "--iterations", 4, "--threads", "1", "--quiet")
        if code == 0:
            break
        assert (code, err.count("\n")) == (1, 1)
        assert err.startswith("metarl: cannot write ")
        assert str(run) in err
        assert FREE_SPACE in err
        said.add(err.partition(":")[2].partition(":")[0])
        state = load_state(*open_run(run))
        assert 2 <= state.iteration <= 4
        assert [row["iteration"] for row in read_metrics(run / "metrics.jsonl")[:2]] == [0, 1]
        assert leftovers(run) == []
        assert main_resumes(capfd, run)
        assert_same_run(run, whole)
    assert code == 0
    assert {f" cannot write {run / 'config.json'}", f" cannot write the checkpoint {run / 'checkpoint.pt'}"} <= said


def main_resumes(capfd: pytest.CaptureFixture[str], run: Path) -> bool:
    return call(capfd, "train", "--resume", run, "--iterations", 4, "--threads", "1", "--quiet") == (0, f"{run}\n", "")


def test_a_new_run(disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = disk / "new"
    with filled(disk, 0):
        error = fails(capfd, "train", "point-nav", *SMALL, "--out", out, code=1)
    assert f"cannot write the run folder {out}: No space left on device" in error
    assert FREE_SPACE in error
    assert fails(capfd, "train", "--resume", out)  # there is no run


def test_supervised_training(disk: Path, tmp_path: Path) -> None:
    run = disk / "run"
    metarl.supervised.training.train(SMALL_SUPERVISED, tmp_path / "whole")
    for free in (0, 1, 3, 5, 8):
        with filled(disk, free), pytest.raises(OSError, match=f"cannot write .*{run}.*No space left on device"):
            metarl.supervised.training.train(SMALL_SUPERVISED, run)
        if (run / "config.json").exists():
            metarl.supervised.training.resume(run)
            assert_same_state(tmp_path / "whole", run)
        shutil.rmtree(run)


@pytest.mark.parametrize("free", [0, 3, 20])
def test_an_evaluation(free: int, run: Path, disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The picture of before is whole, or the new one; never a part."""
    argv = ["evaluate", run, "--tasks", "2", "--trajectories", "2", "--steps", "1", "--threads", "1"]
    if free % 2:
        assert call(capfd, *argv)[0] == 0
    with filled(disk, free):
        code, _, err = call(capfd, *argv)
    if code:
        assert (code, err.count("\n")) == (1, 1)
        assert f"cannot write {run}/" in err
        assert FREE_SPACE in err
    assert leftovers(run) == []
    if (run / "evaluation.json").exists():
        assert json.loads((run / "evaluation.json").read_text())["n_tasks"] == 2
    if (run / "evaluation.png").exists():
        with Image.open(run / "evaluation.png") as picture:
            picture.load()
    assert code or free == 20


@pytest.mark.parametrize("free", [0, 2])
def test_a_video(free: int, run: Path, disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The pair of before stays; a new video appears whole or not at all, and ffmpeg keeps quiet."""
    out = disk / "videos" / "film.mp4"
    argv = ["record", run, *VIDEO, "--out", out]
    assert call(capfd, *argv)[0] == 0
    before = {path.name: path.read_bytes() for path in out.parent.iterdir()}
    assert set(before) == {"film.mp4", "film.gif", "film.json"}
    with filled(disk, free):
        error = fails(capfd, *argv, code=1)
    assert f"cannot write {out.parent}/film." in error
    after = {path.name: path.read_bytes() for path in out.parent.iterdir()}
    assert set(after) == set(before)
    assert after["film.mp4"] == before["film.mp4"]
    assert poster_jpeg(out)


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (("adapt", "--task", "0.1,0.1", "--threads", "1"), "policy"),
        (("export", "--to", "torchscript", "--quiet"), "policy.pt"),
        (("report",), "page.html"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_policy_an_export_and_a_report(
    command: tuple[str, ...], file: str, run: Path, disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = disk / "out" / file
    argv = [command[0], run, *command[1:], "--out", out]
    assert call(capfd, *argv)[0] == 0
    before = {path: path.read_bytes() for path in out.parent.rglob("*") if path.is_file()}
    with filled(disk, 0):
        error = fails(capfd, *argv, code=1)
    assert "cannot write" in error
    assert str(out) in error
    assert FREE_SPACE in error
    assert {path: path.read_bytes() for path in out.parent.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "command",
    [
        ("train", "--iterations", "3", "--threads", "1", "--resume"),
        ("evaluate", "--tasks", "2", "--threads", "1"),
        ("adapt", "--task", "0.1,0.1", "--threads", "1"),
        ("record", "--task", "0.1,0.1", "--threads", "1"),
        ("export", "--to", "torchscript"),
        ("report",),
    ],
    ids=lambda command: command[0],
)
def test_a_read_only_run(command: tuple[str, ...], run: Path, disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is computed first, and another folder works."""
    with read_only(disk):
        error = fails(capfd, *command, run, code=1)
    assert "cannot write" in error
    assert "Read-only file system" in error
    assert str(run) in error


def test_a_read_only_folder_for_a_new_run(disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with read_only(disk):
        error = fails(capfd, "train", "point-nav", *SMALL, "--out", disk / "new", code=1)
    assert f"cannot write to {disk / 'new'}: Read-only file system; choose another with --out" in error
