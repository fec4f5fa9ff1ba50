"""`metarl report`: files, messages and errors; and the page in a browser."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from recorded_runs import Page, write_run, write_video
from small_runs import call, fails, train_small

from metarl.report.numbers import value_text


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", filmed=True)


def test_a_real_run_from_training_to_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train_small(tmp_path / "run", env="half-cheetah-dir")
    film = ("--width", "48", "--height", "32", "--backend", "raycast", "--threads", "1")
    assert call(capsys, "evaluate", run, "--tasks", "2", "--steps", "2", "--threads", "1")[0] == 0
    assert call(capsys, "record", run, *film)[0] == 0
    code, out, err = call(capsys, "report", run)
    assert (code, err) == (0, "")
    assert out.startswith(f"report: {run / 'report.html'} (")
    page = Page((run / "report.html").read_text())
    assert len(page.all("video")) == 1
    (commands,) = page.texts("pre")
    assert commands.splitlines()[2] == f"metarl record {run} {' '.join(film)}"
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert value_text(evaluation["meta-trained"]["mean"][2]) in page.texts("td")


def test_where_the_page_goes(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = write_run(tmp_path / "other")
    assert call(capsys, "report", run)[1].startswith(f"report: {run}/report.html")
    assert call(capsys, "report", run, other)[1].startswith("report: report.html")
    assert call(capsys, "report", "run", "other", "--out", "pages/all.html")[1].startswith("report: pages/all.html")
    assert Path("report.html").read_bytes() != Path("pages/all.html").read_bytes()  # the commands name other paths
    again = Path("pages/all.html").read_bytes()
    assert call(capsys, "report", "run", "other", "--out", "pages/all.html")[0] == 0
    assert Path("pages/all.html").read_bytes() == again
    assert [p.name for p in Path("pages").iterdir()] == ["all.html"]


def test_videos_that_are_too_large_or_damaged(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "videos" / "broken.mp4").write_bytes(b"not a video")
    code, out, err = call(capsys, "report", run)
    assert (code, err) == (0, "")
    assert "broken.mp4 is damaged" in out.splitlines()[0]
    page = Page((run / "report.html").read_text())
    assert len(page.all("video")) == 1
    assert "broken.mp4 is damaged" in page.text
    code, out, err = call(capsys, "report", run, "--video-mb", "0")
    assert (code, err) == (0, "")
    assert "more than --video-mb 0 allows" in out
    assert Page((run / "report.html").read_text()).all("video") == []


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "RUN"),
        (["nowhere"], "there is no run folder nowhere"),
        (["."], "is not a run folder"),
        (["run", "--out", "page.pdf"], "--out is page.pdf, but must end in .html"),
        (["run", "--video-mb", "-1"], "--video-mb is -1.0, but must be at least 0"),
        (["run", "--video-mb", "nan"], "--video-mb is nan"),
        (["run", "nowhere"], "there is no run folder nowhere"),
    ],
)
def test_wrong_input(
    argv: list[str], said: str, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    before = sorted(run.parent.rglob("*"))
    assert said in fails(capsys, "report", *argv)
    assert sorted(run.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", "{", "config.json is damaged"),
        ("config.json", '{"format": 9, "config": {}}', "has format 9"),
        ("evaluation.json", "[]", "evaluation.json is damaged"),
        ("evaluation.json", "{", "evaluation.json is damaged"),
        ("evaluation.json", '{"meta-trained": {"mean": ["x"], "ci95": [1]}}', "'x' is not a number"),
        ("evaluation.json", '{"meta-trained": {"mean": [1, 2], "ci95": [1]}}', "2 returns with 1 intervals"),
        ("evaluation.json", '{"meta-trained": {"mean": [1], "ci95": [1]}}', "it lacks 'n_tasks'"),
        ("videos/forward.json", "[1]", "forward.json is damaged"),
        ("videos/forward.json", "{", "forward.json is damaged"),
        ("metrics.jsonl", '{"iteration": 0, "env_steps": "many"}\n', "metrics.jsonl is damaged"),
    ],
)
def test_damaged_runs(file: str, content: str, said: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / file).write_text(content)
    assert said in fails(capsys, "report", run)
    assert not (run / "report.html").exists()


def test_a_place_that_cannot_be_written(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert "cannot write to" in fails(capsys, "report", run, "--out", tmp_path / "file" / "x.html", code=1)
    (tmp_path / "taken.html").mkdir()
    assert "cannot write" in fails(capsys, "report", run, "--out", tmp_path / "taken.html", code=1)


def test_a_page_that_fails_leaves_the_old_one(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = run / "report.html"
    page.write_text("old")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("metarl.files.os.replace", full)
    assert "No space left on device" in fails(capsys, "report", run, code=1)
    assert page.read_text() == "old"
    assert [p.name for p in run.glob(".*")] == []


def test_hostile_settings_of_a_run_do_not_reach_the_page(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(run / "videos")
    write_video(run / "videos" / "<b>.mp4", description="")
    (run / "videos" / "<b>.json").unlink()
    assert call(capsys, "report", run)[0] == 0
    assert "<b>" in Page((run / "report.html").read_text()).texts("figcaption")
