"""Where a run's numbers go: console in each mode, JSON lines, TensorBoard, W&B offline."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_runs import SMALL, assert_same_run, call, fails, train_small

from metarl.commands import console as console_module
from metarl.commands.console import BURST, Console, mode_of
from metarl.metrics import read_metrics


class Clock:
    """A time that the test sets (s)."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(console_module, "time", clock)
    return clock


def test_a_log_gets_lines_at_a_bounded_rate(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """1000 iterations in 100 s: a burst, then one line every 2 s, and the last one."""
    with Console() as console:
        for i in range(1000):
            console.progress(f"line {i}", last=i == 999)
            clock.now += 0.1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:10] == [f"line {i}" for i in range(10)]
    assert lines[-1] == "line 999"
    assert 50 <= len(lines) <= BURST["log"] + 100 / 2 + 1


def test_what_was_held_back_is_shown_at_the_end(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        with Console() as console:
            for i in range(15):
                console.progress(f"line {i}")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert capsys.readouterr().out.splitlines() == [f"line {i}" for i in (*range(10), 14)]


def test_a_notebook_overwrites_one_line(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    monkeypatch.setattr(sys, "stdout", stream)
    assert mode_of(stream) == "notebook"
    with Console() as console:
        console.progress("a longer line")
        clock.now += 1
        console.progress("short")
        console.say("done")
    assert stream.getvalue() == "\ra longer line\rshort        \ndone\n"


def test_a_terminal_has_one_line_that_updates(tmp_path: Path) -> None:
    """A real pseudo-terminal, 60 columns wide: carriage returns, no line that wraps, results on lines of their own."""
    leader, follower = pty.openpty()
    out = tmp_path / "run"
    argv = ["train", "point-nav", *SMALL, "--iterations", "3", "--threads", "1", "--out", str(out)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "60", "LINES": "20"}
    process = subprocess.Popen(
        [sys.executable, "-m", "metarl", *argv], stdout=follower, stderr=subprocess.STDOUT, env=environment
    )
    os.close(follower)
    text = b""
    try:
        while chunk := os.read(leader, 4096):
            text += chunk
    except OSError:  # the other end is closed
        pass
    os.close(leader)
    assert process.wait() == 0
    progress = re.search(r"\n(\r +\d/3[^\n]*)\n", text.decode().replace("\r\n", "\n"))
    assert progress is not None, text
    shown = progress[1].split("\r")[1:]
    assert shown[-1].startswith("    3/3")
    assert all(len(line) <= 59 for line in shown)
    assert f"done: {out}" in text.decode()


def test_json_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    code, out, err = call(capsys, "train", "point-nav", *SMALL, "--iterations", "3", "--out", run, "--json")
    assert (code, err) == (0, "")
    events = [json.loads(line, parse_constant=pytest.fail) for line in out.splitlines()]
    assert [e["event"] for e in events] == ["start", "iteration", "iteration", "iteration", "done"]
    assert events[0]["run"] == events[-1]["run"] == str(run)
    rows = read_metrics(run / "metrics.jsonl")
    assert [{k: v for k, v in e.items() if k != "event"} for e in events[1:-1]] == rows
    code, out, _ = call(capsys, "train", "--resume", run, "--iterations", "4", "--json")
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["start", "iteration", "done"]
    assert "exclude each other" in fails(capsys, "train", "point-nav", "--quiet", "--json", "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_baseline_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--steps", "40", "--env.horizon", "5", "--ppo.envs", "4", "--ppo.minibatches", "2", "--ppo.epochs", "1")
    code, out, _ = call(capsys, "baseline", "oracle", "point-nav", *options, "--out", tmp_path / "b", "--json")
    assert code == 0
    events = [json.loads(line) for line in out.splitlines()]
    assert [e["event"] for e in events] == ["start", "update", "update", "done"]
    assert events[2]["env_steps"] == 40


def board(folder: Path) -> dict[str, list[tuple[int, object]]]:
    """What TensorBoard reads from a folder: (step, value) by tag."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder), size_guidance={"images": 0})
        events.Reload()
    found: dict[str, list[tuple[int, object]]] = {}
    for tag in events.Tags()["scalars"]:
        found[tag] = [(e.step, e.value) for e in events.Scalars(tag)]
    for tag in events.Tags()["images"]:
        found[tag] = [(e.step, e.encoded_image_string) for e in events.Images(tag)]
    return found


def test_tensorboard_has_curves_and_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train_small(tmp_path / "run")
    for seed in (1, 2):  # the second replaces the curve of the first
        assert call(capsys, "evaluate", run, "--tasks", "3", "--steps", "2", "--seed", seed)[0] == 0
        time.sleep(1.1)  # event files are named after the second, and TensorBoard reads them by name
    result = json.loads((run / "evaluation.json").read_text())
    for name in ("meta-trained", "random initialisation"):
        curve = board(run / "tensorboard" / "adaptation" / name.replace(" ", "_"))["return_by_gradient_steps"]
        assert [step for step, _ in curve] == [0, 1, 2]
        assert [value for _, value in curve] == pytest.approx(result[name]["mean"], rel=1e-6)
    evaluations = board(run / "tensorboard" / "evaluation")
    assert [step for step, _ in evaluations["return_after_2_steps"]] == [1, 1]
    assert evaluations["return_after_2_steps"][-1][1] == pytest.approx(result["meta-trained"]["mean"][2], rel=1e-6)
    assert evaluations["adaptation"][-1][1] == (run / "evaluation.png").read_bytes()

    size = ("--width", "32", "--height", "32", "--backend", "raycast")
    code, out, _ = call(capsys, "record", run, "--task", "0.1,0.2", *size)
    assert (code, out) == (0, f"video: {run / 'videos' / '0.1_0.2.mp4'}\n")
    assert sorted(p.suffix for p in (run / "videos").iterdir()) == [".json", ".mp4"], "the GIF was not asked for"
    ((step, film),) = board(run / "tensorboard" / "videos")["0.1_0.2"]
    assert step == 1
    assert isinstance(film, bytes)
    assert film.startswith(b"GIF89a")
    # Elsewhere is elsewhere: the run is left alone.
    before = sorted(run.rglob("*"))
    assert call(capsys, "record", run, "--task", "0,0", *size, "--out", tmp_path / "film.mp4")[0] == 0
    assert call(capsys, "evaluate", run, "--tasks", "2", "--steps", "0", "--out", tmp_path / "e")[0] == 0
    assert sorted(run.rglob("*")) == before


def test_wandb_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="needs the extra 'wandb'")
    environment = {**os.environ, "WANDB_MODE": "offline", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    run = tmp_path / "run"

    def metarl(*argv: object) -> None:
        command = [sys.executable, "-m", "metarl", *map(str, argv)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"{run}\n"

    metarl("train", "point-nav", *SMALL, "--iterations", "2", "--threads", "1", "--quiet", "--out", run, "--log.wandb")
    known = (run / "wandb_id.txt").read_text().strip()
    files = list(run.glob(f"wandb/offline-run-*/run-{known}.wandb"))
    assert len(files) == 1
    assert b"return_after" in files[0].read_bytes()
    metarl("train", "--resume", run, "--iterations", "3", "--quiet", "--log.wandb")
    assert (run / "wandb_id.txt").read_text().strip() == known
    assert len(list(run.glob(f"wandb/offline-run-*/run-{known}.wandb"))) >= 1
    plain = train_small(tmp_path / "plain", "--iterations", "3")
    assert_same_run(run, plain)


def test_wandb_that_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    error = fails(capsys, "train", "point-nav", *SMALL, "--out", tmp_path / "run", "--log.wandb")
    assert "pip install metarl[wandb]" in error
    assert not (tmp_path / "run" / "config.json").exists()
