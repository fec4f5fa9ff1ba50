"""`--json` of the commands that print one object: it is all there is on standard output, and its paths are true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_runs import call, fails, train_small

from metarl.cli import COMMANDS
from metarl.runs import read_json

FILM = ("--width", "32", "--height", "32", "--backend", "raycast")


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on point-nav."""
    return train_small(tmp_path_factory.mktemp("points") / "run")


def printed(capsys: pytest.CaptureFixture[str], *argv: object) -> dict[str, Any]:
    """The object that a command prints; nothing may stand beside it."""
    code, out, err = call(capsys, *argv, "--json")
    assert (code, err) == (0, "")
    value = json.loads(out, parse_constant=pytest.fail)
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_offers_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for part in (("train",), ("evaluate",)) if name in ("fewshot", "regression") else ((),):
        assert "--json" in call(capsys, name, *part, "--help")[1]


def test_adapt(points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    got = printed(capsys, "adapt", points, "--task", "0.1,0.2", "--steps", "2", "--out", tmp_path / "a")
    assert got["policy"] == str(tmp_path / "a")
    assert got["task"] == [0.1, 0.2]
    assert len(got["return_after_steps"]) == 3
    saved = read_json(tmp_path / "a" / "config.json")
    assert {name: saved[name] for name in got if name != "policy"} == {k: v for k, v in got.items() if k != "policy"}


def test_record(points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    got = printed(capsys, "record", points, "--task", "0.1,0.2", "--gif", "--out", tmp_path / "v.mp4", *FILM)
    paths = {name: got.pop(name) for name in ("mp4", "json", "gif")}
    assert paths == {suffix: str(tmp_path / f"v.{suffix}") for suffix in paths}
    assert all(Path(path).is_file() for path in paths.values())
    assert got == read_json(tmp_path / "v.json")
    assert printed(capsys, "record", points, "--out", tmp_path / "w.mp4", *FILM)["gif"] is None


def test_export(points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("export", points, "--to", "sb3", "--scaling", "beside", "--out", tmp_path / "p.zip")
    got = printed(capsys, *argv)
    assert [got[name] for name in ("model", "json", "scaling")] == [
        str(tmp_path / name) for name in ("p.zip", "p.zip.json", "p-vecnormalize.pkl")
    ]
    assert all(Path(got[name]).is_file() for name in ("model", "json", "scaling"))
    assert got["format"] == "sb3"
    assert "exclude each other" in fails(capsys, *argv, "--json", "--quiet")


def test_push_pull_and_report(
    points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert printed(capsys, "push", points, "./shared") == {"repo": "shared"}
    assert printed(capsys, "pull", "./shared", "--out", "mine") == {"folder": "mine"}
    got = printed(capsys, "report", points, "--out", "page.html")
    assert got == {"report": "page.html", "bytes": Path("page.html").stat().st_size, "videos_left_out": []}


def test_errors_print_no_object(points: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (("adapt", points, "--task", "9,9"), ("record", points, "--task", "9,9"), ("push", "no", "./x")):
        fails(capsys, *command, "--json")
