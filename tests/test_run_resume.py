"""Stopped and resumed equals never stopped, bit for bit, however the run was stopped."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_runs import (
    SMALL,
    assert_same_run,
    call,
    fails,
    metrics_without_times,
    small_config,
    start_process,
    train_small,
)

from metarl.cli import main
from metarl.metrics import MetricsWriter, read_metrics
from metarl.saved_policy import load_policy
from metarl.train import resume, train
from metarl.workers import Workers

ITERATIONS = 30
FEW = 5


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, never stopped."""
    return train_small(tmp_path_factory.mktemp("whole") / "run", "--iterations", ITERATIONS)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shorter one."""
    return train_small(tmp_path_factory.mktemp("short") / "run", "--iterations", FEW)


@contextlib.contextmanager
def training(run: Path, *options: object, env: str = "point-nav") -> Iterator[subprocess.Popen[str]]:
    """A process that trains; killed at the end if it still runs."""
    process = start_process("train", env, *SMALL, "--iterations", ITERATIONS, *options, "--out", run)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_rows(run: Path, n: int) -> None:
    """Until n iterations are done."""
    until = time.monotonic() + 240
    while time.monotonic() < until:
        with contextlib.suppress(FileNotFoundError):
            if (run / "metrics.jsonl").read_bytes().count(b"\n") >= n:
                return
        time.sleep(0.005)
    pytest.fail(f"{run} did not get to {n} iterations")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted(number: signal.Signals, uninterrupted: Path, tmp_path: Path) -> None:
    """Ctrl-C, SIGTERM, a closed terminal: exit code 130, one line, a checkpoint of the last iteration, its policy."""
    run = tmp_path / "run"
    with training(run, "--threads", "2", "--checkpoint-every", "1000") as process:
        wait_for_rows(run, 7)
        process.send_signal(number)
        _, err = process.communicate()
    done = len(read_metrics(run / "metrics.jsonl"))
    assert process.returncode == 130
    assert err == f"metarl: interrupted after {done} iterations; go on with 'metarl train --resume {run}'\n"
    checkpoint = torch.load(run / "checkpoint.pt", weights_only=True)
    assert 7 <= checkpoint["iteration"] == done
    assert torch.equal(load_policy(run).theta, checkpoint["theta"])
    assert main(["train", "--resume", str(run), "--threads", "1", "--quiet"]) == 0
    assert_same_run(run, uninterrupted)


@pytest.mark.parametrize("late", [False, True])
def test_an_interrupt_between_the_state_and_its_metrics(
    late: bool, short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before or after a row is written: the checkpoint and the metrics hold the same iterations."""
    write = MetricsWriter.write

    def interrupted(writer: MetricsWriter, row: dict[str, float]) -> None:
        if late:
            write(writer, row)
        if row["iteration"] == 2:
            os.kill(os.getpid(), signal.SIGINT)
        if not late:
            write(writer, row)

    run = tmp_path / "run"
    monkeypatch.setattr(MetricsWriter, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(replace(small_config(), iterations=FEW), run, n_threads=1)
    monkeypatch.undo()
    rows = read_metrics(run / "metrics.jsonl")
    assert torch.load(run / "checkpoint.pt", weights_only=True)["iteration"] == len(rows) == 3
    resume(run, n_threads=1)
    assert_same_run(run, short)


def test_an_interrupt_does_not_wait_for_episodes_to_end(tmp_path: Path) -> None:
    """Long episodes in both worker threads: they are given up, not waited for."""
    run = tmp_path / "run"
    options = ("--env.horizon", "1000000", "--policy.no-normalise-obs", "--threads", "2")
    with training(run, *options) as process:
        assert process.stdout is not None
        process.stdout.readline()  # about to collect
        time.sleep(1.5)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert (process.returncode, err.count("\n")) == (130, 1)
    assert time.monotonic() - start < 60  # the episodes would take minutes
    assert torch.load(run / "checkpoint.pt", weights_only=True)["iteration"] == 0


def test_an_interrupt_while_threads_map_stops_them() -> None:
    workers = Workers(2)
    stopped = []

    def work(i: int) -> None:
        if i == 0:
            time.sleep(0.2)  # until both have begun
            os.kill(os.getpid(), signal.SIGINT)
        for _ in range(3000):
            time.sleep(0.01)
            try:
                workers.check()
            except BaseException:
                stopped.append(i)
                raise

    with pytest.raises(KeyboardInterrupt):
        workers.map(work, [0, 1])
    assert sorted(stopped) == [0, 1]
    assert workers.map(lambda i: i, [1, 2]) == [1, 2]
    workers.close()


def truncated_copy(run: Path, to: Path, done: int) -> Path:
    """A run as it was after some iterations: trained anew, since a run is a function of its settings."""
    train_small(to, "--iterations", done)
    record = json.loads((to / "config.json").read_text())
    record["config"]["iterations"] = json.loads((run / "config.json").read_text())["config"]["iterations"]
    (to / "config.json").write_text(json.dumps(record))
    return to


def test_killed_before_the_first_checkpoint(short: Path, tmp_path: Path) -> None:
    run = truncated_copy(short, tmp_path / "run", 3)
    (run / "checkpoint.pt").unlink()
    resume(run, n_threads=1)
    assert_same_run(run, short)


@pytest.mark.parametrize("tail", [b"", b'{"iteration": 3, "retu', b"\x00\xff", b'{"iteration": 3}\n{"iteration": 4'])
def test_the_last_lines_of_the_metrics_are_cut_off(tail: bytes, short: Path, tmp_path: Path) -> None:
    """Rows of iterations after the checkpoint are written again, half a row is dropped."""
    run = truncated_copy(short, tmp_path / "run", 3)
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(tail)
    (run / "metrics.csv").write_bytes((run / "metrics.csv").read_bytes()[:-20])
    resume(run, n_threads=1)
    assert_same_run(run, short)


def test_a_new_total_of_iterations_is_remembered(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train_small(tmp_path / "run", "--iterations", 1)
    code, out, _ = call(capsys, "train", "--resume", run, "--iterations", "3", "--threads", "1")
    assert code == 0
    assert out.splitlines()[0] == f"point-nav (modern): 3 iterations, continuing at iteration 1 -> {run}"
    assert [line.split()[0] for line in out.splitlines()[2:4]] == ["2/3", "3/3"]
    record = json.loads((run / "config.json").read_text())
    assert record["config"]["iterations"] == 3
    assert [r["iteration"] for r in record["resumed"]] == [1]
    assert record["resumed"][0]["command"].startswith("metarl train --resume")
    assert call(capsys, "train", "--iterations", FEW, f"--resume={run}", "--threads", "1", "--quiet") == (
        0,
        f"{run}\n",
        "",
    )
    assert_same_run(run, short)


def test_a_finished_run_stays_as_it_is(short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(short, run)
    checkpoint = (run / "checkpoint.pt").read_bytes()
    assert call(capsys, "train", "--resume", run)[0] == 0
    assert (run / "checkpoint.pt").read_bytes() == checkpoint
    assert_same_run(run, short)
    error = fails(capsys, "train", "--resume", run, "--iterations", "3")
    assert f"iterations is 3, but {run} has done {FEW}" in error
    assert_same_run(run, short)


@pytest.mark.parametrize("env", ["point-nav", "half-cheetah-dir", "ant-goal"])
def test_the_number_of_threads_changes_no_bit(env: str, tmp_path: Path) -> None:
    one = train_small(tmp_path / "one", "--threads", "1", "--meta-batch", "3", env=env)
    for n in (2, 4):
        other = train_small(tmp_path / f"{n}", "--threads", n, "--meta-batch", "3", env=env)
        assert_same_run(one, other)


def test_the_seed_changes_the_run(tmp_path: Path) -> None:
    one, other = (train_small(tmp_path / str(seed), "--seed", seed) for seed in (0, 1))
    assert metrics_without_times(one) != metrics_without_times(other)
