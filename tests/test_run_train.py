"""A training run: what its folder holds, what it refuses, and what survives a full disk."""

from __future__ import annotations

import csv
import json
import math
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from small_runs import SMALL, call, fails, small_config, start_process, train_small

import metarl
from metarl.config import TrainConfig, config_from_dict
from metarl.event_file import EventFile
from metarl.interrupts import interrupts_deferred, sigterm_as_interrupt
from metarl.metrics import MetricsWriter, read_metrics
from metarl.presets import preset
from metarl.runs import RunFolder, create_run, exclusive, json_text, open_run, read_json, write_atomic
from metarl.saved_policy import load_policy
from metarl.train import resume, train


def board_events(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of each scalar that TensorBoard shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_run_folder_holds_settings_metrics_checkpoint_and_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "new" / "run"
    argv = ["train", "point-nav", *SMALL, "--iterations", "3", "--seed", "4", "--out", run]
    code, out, err = call(capsys, *argv)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"point-nav (modern): 3 iterations -> {run}"
    assert [line.split()[0] for line in lines[2:5]] == ["1/3", "2/3", "3/3"]
    for word in ("before", "after", "KL", "steps/s", "left"):
        assert word in lines[2]
    assert lines[-2:] == [f"done: {run}", f"next: metarl evaluate {run}"]

    record = json.loads((run / "config.json").read_text())
    assert record["command"] == "metarl " + " ".join(map(str, argv))
    assert record["seed"] == record["config"]["seed"] == 4
    assert record["versions"]["metarl"] == metarl.__version__
    assert {"python", "torch", "mujoco", "gymnasium", "numpy", "platform"} <= set(record["versions"])
    config = config_from_dict(TrainConfig(), record["config"])
    assert (config.iterations, config.meta_batch, config.env.horizon) == (3, 2, 5)
    assert config.algo == preset("point-nav").algo

    rows = read_metrics(run / "metrics.jsonl")
    assert [row["iteration"] for row in rows] == [0, 1, 2]
    with open(run / "metrics.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [{k: float(v) for k, v in row.items()} for row in table] == rows
    shown = board_events(run)
    assert set(shown) == set(rows[0]) - {"iteration"}
    assert shown["return_after"] == [(int(r["iteration"]), pytest.approx(r["return_after"])) for r in rows]
    assert {"return_before", "return_after", "kl", "steps_per_s", "n_diverged"} <= set(rows[0])

    policy = load_policy(run)
    assert policy.record["kind"] == "initialisation"
    assert policy.task is None
    assert policy.act(np.zeros(2, np.float32)).shape == (2,)
    assert [p for p in files(run) if ".metarl-tmp" in p] == []


def test_quiet_prints_only_the_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["train", "point-nav", *SMALL, "--iterations", "1", "--quiet", "--out", tmp_path / "run"]
    assert call(capsys, *argv) == (0, f"{tmp_path / 'run'}\n", "")


def test_the_default_folder_is_named_after_the_run_and_numbered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["train", "point-nav", *SMALL, "--iterations", "1", "--quiet", "--seed", "3"]
    assert call(capsys, *argv)[1] == "runs/point-nav-default-modern-seed3\n"
    assert call(capsys, *argv)[1] == "runs/point-nav-default-modern-seed3-2\n"


def test_an_existing_run_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train_small(tmp_path / "run")
    before = files(run)
    error = fails(capsys, "train", "ant-dir", "--out", run)
    assert f"metarl train --resume {run}" in error
    assert files(run) == before


@pytest.mark.parametrize("place", ["file/run", "/proc/none/run"])
def test_an_unwritable_folder_is_an_error_before_training(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    out = tmp_path / place  # an absolute place stays one
    error = fails(capsys, "train", "point-nav", *SMALL, "--out", out, code=1)
    assert f"cannot write to {out}" in error
    assert "--out" in error
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(OSError, match="cannot write the run folder"):
        create_run(out, small_config(), "")


def test_wrong_settings_leave_no_folder_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="n_threads=-1"):
        train(small_config(), tmp_path / "run", n_threads=-1)
    assert not (tmp_path / "run").exists()


def test_a_folder_in_use_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train_small(tmp_path / "run")
    before = files(run)
    with exclusive(RunFolder(run)):
        error = fails(capsys, "train", "--resume", run, "--iterations", "5")
    assert "another process" in error
    assert files(run) == before


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """Writing more than this into a file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_what_is_written_intact(tmp_path: Path) -> None:
    """The checkpoint and the metrics of before are still there, and the run goes on from them afterwards."""
    run = train_small(tmp_path / "run")
    before = files(run)
    with largest_file(2000), pytest.raises(OSError, match="cannot write"):  # the checkpoint needs more
        resume(run, iterations=4, n_threads=1)
    after = files(run)
    for name in ("checkpoint.pt", "policy/model.safetensors"):
        assert after[name] == before[name]
    assert read_metrics(run / "metrics.jsonl")[:2] == read_metrics(tmp_path / "run" / "metrics.jsonl")[:2]
    assert [p for p in after if ".metarl-tmp" in p] == []
    assert len(resume_rows(run, 4)) == 4


def test_a_full_disk_while_metrics_are_written(tmp_path: Path) -> None:
    run = train_small(tmp_path / "run")
    before = files(run)
    with largest_file(1000), pytest.raises(OSError, match="cannot write") as caught:
        resume(run, iterations=4, n_threads=1)
    assert str(run) in str(caught.value)
    after = files(run)
    for name in ("checkpoint.pt", "metrics.jsonl", "metrics.csv", "policy/model.safetensors"):
        assert after[name] == before[name], name
    assert len(resume_rows(run, 4)) == 4


def test_an_event_that_does_not_fit_leaves_the_others_readable(tmp_path: Path) -> None:
    """TensorBoard stops reading at part of an event."""
    with EventFile(tmp_path / "tensorboard") as file:
        file.add(0, tag="value", simple_value=1.0)
        size = next((tmp_path / "tensorboard").iterdir()).stat().st_size
        with largest_file(size + 10), pytest.raises(OSError, match="too large"):
            file.add(1, tag="value", simple_value=2.0)
        file.add(2, tag="value", simple_value=3.0)
    assert board_events(tmp_path) == {"value": [(0, 1.0), (2, 3.0)]}


def resume_rows(run: Path, iterations: int) -> list[dict[str, float]]:
    resume(run, iterations=iterations, n_threads=1)
    return read_metrics(run / "metrics.jsonl")


def test_write_atomic_keeps_the_old_file_when_it_fails(tmp_path: Path) -> None:
    file = tmp_path / "a"
    write_atomic(file, "old")
    with largest_file(10), pytest.raises(OSError, match="too large"):
        write_atomic(file, b"x" * 100)
    assert file.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    run = train_small(tmp_path / "run")
    leftover, mine = run / ".metarl-tmp-123-checkpoint.pt", run / ".tmp-of-mine"
    leftover.touch()
    mine.touch()
    resume(run, iterations=3, n_threads=1)
    assert not leftover.exists()
    assert mine.exists()


def test_json_has_no_numbers_that_json_does_not_know() -> None:
    text = json_text({"a": [math.nan, 1.0, {"b": math.inf}], "c": (1, None)})
    assert json.loads(text, parse_constant=pytest.fail) == {"a": [None, 1.0, {"b": None}], "c": [1, None]}


def row(i: int, value: float = 1.0) -> dict[str, float]:
    return {"iteration": i, "value": value}


def test_metrics_kept_from_before_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path) as writer:
        for i in range(4):
            writer.write(row(i, 0.1 * i))
    jsonl, table = (tmp_path / "metrics.jsonl").read_text(), (tmp_path / "metrics.csv").read_text()
    with MetricsWriter(tmp_path, 2) as writer:
        assert [r["iteration"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [0, 1]
        for i in range(2, 4):
            writer.write(row(i, 0.1 * i))
    assert (tmp_path / "metrics.jsonl").read_text() == jsonl
    assert (tmp_path / "metrics.csv").read_text() == table
    assert [step for step, _ in board_events(tmp_path)["value"]] == [0, 1, 2, 3]


def test_damaged_lines_of_metrics_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"iteration": 0, "x": null}\n[1]\n\xff\n{"iteration": 1, "x": 2.0}\n{"iterat')
    rows = read_metrics(file)
    assert math.isnan(rows[0]["x"])
    assert rows[1:] == [{"iteration": 1, "x": 2.0}]


def test_metrics_that_are_not_numbers_survive_a_resume(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path) as writer:
        writer.write(row(0, math.nan))
    before = files(tmp_path)
    MetricsWriter(tmp_path, 1).close()
    assert files(tmp_path) == before
    assert (tmp_path / "metrics.csv").read_text() == "iteration,value\n0,\n"


def test_interrupts_wait_for_the_end_of_a_block() -> None:
    done = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with sigterm_as_interrupt(), pytest.raises(KeyboardInterrupt):  # noqa: PT012
            with interrupts_deferred():
                os.kill(os.getpid(), number)
                done.append(number)
            pytest.fail("the interrupt got lost")
    assert done == [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    with interrupts_deferred():
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_ignored_signal_stays_ignored(number: signal.Signals) -> None:
    """As SIGHUP is under nohup."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with sigterm_as_interrupt(), interrupts_deferred():
            os.kill(os.getpid(), number)
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is damaged"),
        (b"{", "is damaged"),
        (b"\xff\xfe\x00", "is damaged"),
        (b"[" * 100_000, "is damaged"),
        (b"[]", "is not the config.json of a run"),
        (b"{}", "is not the config.json of a run"),
        (b'{"format": 99, "config": {}}', "has format 99, this version of metarl reads format 1"),
        (b'{"format": 1, "config": {"iteration": 3}}', "no setting 'iteration'"),
        (b'{"format": 1, "config": {"env": {"name": "point-naw"}}}', "unknown environment 'point-naw'"),
    ],
)
@pytest.mark.parametrize(
    "command", [["evaluate"], ["adapt", "--task", "1"], ["record", "--task", "1"], ["train", "--resume"]]
)
def test_a_damaged_config_is_named(
    content: bytes, said: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_bytes(content)
    error = fails(capsys, command[0], *command[1:], tmp_path)
    assert said in error
    assert {p.name for p in tmp_path.iterdir()} == {"config.json"}


def test_folders_that_are_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "has no config.json" in fails(capsys, "evaluate", tmp_path)
    (tmp_path / "file").touch()
    assert "there is no run folder" in fails(capsys, "train", "--resume", tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        open_run(tmp_path)
    with pytest.raises(ValueError, match="is damaged"):
        read_json(tmp_path / "file")


def test_a_reader_that_goes_away_leaves_a_checkpoint(tmp_path: Path) -> None:
    """As in `metarl train ... | head -1`."""
    run = tmp_path / "run"
    process = start_process("train", "point-nav", *SMALL, "--iterations", "100000", "--threads", "1", "--out", run)
    assert process.stdout is not None
    assert process.stderr is not None
    for _ in range(3):  # what is about to happen, and the first iteration
        process.stdout.readline()
    process.stdout.close()
    assert process.wait() == 1
    assert process.stderr.read() == ""
    process.stderr.close()
    assert (run / "checkpoint.pt").exists()
