"""One run by several processes: the same bits for any number of them, one that writes and speaks, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from forked_ranks import Ended, Ranks
from small_runs import assert_same_run, train_small

from metarl.distributed import Launch, launch_of
from metarl.group import SOLO
from metarl.metrics import read_metrics
from metarl.runs import read_json
from metarl.seeding import children
from metarl.workers import Workers, core_count

# Tasks that no number of processes but 1, 2 and 4 divides; rows that start at no multiple of 64 bytes.
FOUR = (
    *("--meta-batch", "4", "--trajectories", "2", "--env.horizon", "5", "--policy.hidden-sizes", "7"),
    *("--policy.normalise-obs", "--algo.inner-steps", "2", "--threads", "1"),
)


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    started = Ranks()
    yield started
    started.close()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a single process."""
    return train_small(tmp_path_factory.mktemp("alone") / "run", *FOUR, "--iterations", 3, env="ant-goal")


def silent(others: list[Ended], code: int = 0) -> None:
    """Nothing on either output, and this exit code."""
    assert others == [Ended(code, "", "")] * len(others)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_any_number_of_processes_trains_the_same_run(size: int, alone: Path, ranks: Ranks, tmp_path: Path) -> None:
    first, *others = ranks.run(tmp_path, size, "train", "ant-goal", *FOUR, "--iterations", 3, "--out", "run")
    assert (first.code, first.err) == (0, "")
    assert first.out.count("3/3") == 1
    silent(others)
    assert_same_run(tmp_path / "run", alone)
    made = {path.name for path in tmp_path.iterdir() if path.name.partition("-")[0] not in ("out", "err", "pid")}
    assert made == {"run"}  # the first process's
    assert set(os.listdir(tmp_path / "run")) == set(os.listdir(alone))


@pytest.mark.parametrize("algorithm", ["e-maml", "promp", "reptile", "meta-sgd"])
def test_every_algorithm_takes_its_means_over_all_tasks(algorithm: str, ranks: Ranks, tmp_path: Path) -> None:
    options = ("--algorithm", algorithm, "--meta-batch", "3")
    whole = train_small(tmp_path / "whole", *options)
    size = ("--trajectories", "2", "--env.horizon", "5", "--policy.hidden-sizes", "8", "--policy.normalise-obs")
    ended = ranks.run(tmp_path, 2, "train", "point-nav", *size, "--iterations", "2", "--out", "run", *options)
    assert [e.code for e in ended] == [0, 0]
    assert_same_run(tmp_path / "run", whole)


def test_a_run_goes_on_with_another_number_of_processes(alone: Path, ranks: Ranks, tmp_path: Path) -> None:
    assert ranks.run(tmp_path, 2, "train", "ant-goal", *FOUR, "--iterations", "1", "--out", "run")[0].code == 0
    first, *others = ranks.run(tmp_path, 3, "train", "--resume", "run", "--iterations", "3", "--threads", "1")
    assert (first.code, first.err) == (0, "")
    silent(others)
    assert_same_run(tmp_path / "run", alone)


# -- one message ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "argv", "said"),
    [
        (3, ("point-nav", "--meta-batch", "2", "--out", "run"), "3 processes share 2 tasks, but each needs one"),
        (2, ("point-nav", "--iterations", "many"), "invalid literal for int() with base 10: 'many'"),
        (2, ("nothing.py:Nothing",), "there is no file nothing.py"),
        (2, ("point-nav", "--device", "gpu", "--out", "run"), "unknown device 'gpu'; allowed: cpu, cuda, cuda:0"),
        (2, ("--resume", "run"), "there is no run folder run"),
    ],
)
def test_what_is_refused_is_said_once(
    size: int, argv: tuple[str, ...], said: str, ranks: Ranks, tmp_path: Path
) -> None:
    first, *others = ranks.run(tmp_path, size, "train", *argv)
    assert (first.code, first.out, first.err.count("\n")) == (2, "", 1)
    assert said in first.err
    silent(others, code=2)
    assert not (tmp_path / "run").exists()


def test_help_is_printed_once(ranks: Ranks, tmp_path: Path) -> None:
    first, other = ranks.run(tmp_path, 2, "train", "--help")
    assert (first.code, first.err) == (0, "")
    assert "--meta-batch" in first.out
    silent([other])


def test_an_error_of_one_process_ends_all_and_it_says_why(ranks: Ranks, tmp_path: Path) -> None:
    """As when a file is missing on one of the machines."""
    apart = {1: ["train", "elsewhere.py:Here"]}
    first, second, third = ranks.run(tmp_path, 3, "train", "point-nav", *FOUR, "--out", "run", apart=apart)
    assert second == Ended(2, "", "metarl: there is no file elsewhere.py\n")
    silent([third], code=2)
    assert (first.code, first.err) == (2, "")


FAILING = """
import numpy as np
from metarl.envs import register
from metarl.envs.point import PointNav

@register
class Failing(PointNav):
    name = "failing"

    def reward(self, qpos_before, state, action, goal):
        return np.where(goal[:, 0] > {limit}, np.nan, super().reward(qpos_before, state, action, goal))
"""


def test_an_error_in_one_share_of_the_tasks_is_said_once(ranks: Ranks, tmp_path: Path) -> None:
    """The task is counted among all; what was done before is saved."""
    from metarl.config import EnvConfig
    from metarl.seeding import Purpose, generator_for

    family = EnvConfig("point-nav").make()
    drawn = [family.tasks.sample(4, generator_for(0, Purpose.TASKS, it), "train").goal[:, 0] for it in range(8)]
    limit = float(np.concatenate(drawn[:1]).max())
    it = next(i for i, x in enumerate(drawn) if x.max() > limit)  # the first iteration that fails, and whose task does
    task = int(np.argmax(drawn[it] > limit))
    (tmp_path / "failing.py").write_text(FAILING.format(limit=limit))
    ended = ranks.run(tmp_path, 4, "train", "failing.py:Failing", *FOUR, "--policy.no-normalise-obs", "--out", "run")
    assert [e.code for e in ended] == [2] * 4
    (said,) = [e.err for e in ended if e.err]
    assert said.startswith(f"metarl: failing: reward returned nan (task {task}, environment 0)")
    assert said.count("\n") == 1
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["iteration"] == it


# -- ended from outside -----------------------------------------------------------------------------------------------


def wait_for_rows(run: Path, n: int) -> None:
    """Until n iterations are done."""
    until = time.monotonic() + 250
    while time.monotonic() < until:
        if (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_bytes().count(b"\n") >= n:
            return
        time.sleep(0.005)
    pytest.fail(f"{run} did not get to {n} iterations")


@pytest.mark.parametrize(
    ("number", "rank", "code", "said"),
    [
        (
            signal.SIGTERM,
            1,
            130,
            "metarl: interrupted after {done} iterations; go on with 'metarl train --resume run'\n",
        ),
        (
            signal.SIGINT,
            0,
            130,
            "metarl: interrupted after {done} iterations; go on with 'metarl train --resume run'\n",
        ),
        (signal.SIGKILL, 1, 1, "metarl: another process of this run has ended without a word, as if killed;"),
    ],
)
def test_the_first_process_saves_whichever_is_ended(
    number: signal.Signals, rank: int, code: int, said: str, ranks: Ranks, tmp_path: Path
) -> None:
    options = ("--iterations", "100000", "--checkpoint-every", "100000")
    ranks.start(tmp_path, 2, "train", "point-nav", *FOUR, *options, "--out", "run")
    wait_for_rows(tmp_path / "run", 2)
    os.kill(int((tmp_path / f"pid-{rank}").read_text()), number)
    first, other = ranks.ended()
    done = len(read_metrics(tmp_path / "run" / "metrics.jsonl"))
    assert first.code == code
    assert first.err.startswith(said.format(done=done))
    assert first.err.count("\n") == 1
    silent([other], code=-signal.SIGKILL if number == signal.SIGKILL else code)
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["iteration"] == done


def test_a_killed_worker_is_started_again_by_torchrun(tmp_path: Path) -> None:
    """The same command line goes on from its own checkpoint, and ends as if nothing had happened."""
    argv = ("point-nav", *FOUR, "--iterations", "12", "--checkpoint-every", "3")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1")
    process = subprocess.Popen(
        [sys.executable, *launcher, "-m", "metarl", "train", *argv],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    run = tmp_path / "runs" / "point-nav-default-modern-seed0"
    try:
        wait_for_rows(run, 4)
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(workers[-1]), signal.SIGKILL)
        out, _ = process.communicate(timeout=250)
    finally:
        process.terminate()  # and with it the workers
        process.wait(timeout=60)
    assert process.returncode == 0
    assert out.count("12/12") == out.count("done: ") == 1
    assert [path.name for path in run.parent.iterdir()] == [run.name]
    (resumed,) = read_json(run / "config.json")["resumed"]
    assert 3 <= resumed["iteration"] < 12
    assert_same_run(run, train_small(tmp_path / "whole", *FOUR, "--iterations", "12"))


def test_a_restarted_command_goes_on_with_its_own_settings_only(ranks: Ranks, tmp_path: Path) -> None:
    argv = ("train", "point-nav", *FOUR, "--iterations", "1", "--out", "run")
    assert ranks.run(tmp_path, 2, *argv)[0].code == 0
    first, _ = ranks.run(tmp_path, 2, *argv)
    assert "run holds a run already" in first.err
    first, _ = ranks.run(tmp_path, 2, *argv, "--seed", "1", restarts=1)
    assert "run holds a run already" in first.err
    first, _ = ranks.run(tmp_path, 2, *argv, restarts=1)
    assert (first.code, first.err) == (0, "")
    assert first.out.splitlines()[-2] == "done: run"


# -- parts ------------------------------------------------------------------------------------------------------------


def test_a_single_process_is_the_group_that_has_all_tasks() -> None:
    rows = torch.arange(6.0).reshape(3, 2)
    assert SOLO.divide(3) == slice(0, 3)
    assert SOLO.gather(rows) is rows
    assert torch.equal(SOLO.mean(rows), rows.mean(0))
    assert SOLO.total(5) == 5


def test_children_from_the_first_on_are_those_of_all_tasks() -> None:
    seed = np.random.SeedSequence(3)
    assert [c.spawn_key for c in children(seed, 2, first=3)] == [c.spawn_key for c in children(seed, 5)[3:]]


def test_processes_of_a_machine_share_its_cores() -> None:
    class Three(type(SOLO)):
        local_size = 3

    assert Workers(0, Three()).n_threads == max(1, core_count() // 3)
    assert Workers(2, Three()).n_threads == 2


def test_what_torchrun_says() -> None:
    said = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a"}
    assert launch_of({}) is None
    assert launch_of(said) is None
    said["MASTER_PORT"] = "1"
    assert launch_of(said) == Launch(rank=3, size=4, local_rank=1, local_size=2, restarts=0)
    assert launch_of({**said, "TORCHELASTIC_RESTART_COUNT": "2"}) == Launch(3, 4, 1, 2, 2)
    with pytest.raises(ValueError, match="RANK is 'first' in the environment, but torchrun sets it to a number"):
        launch_of({**said, "RANK": "first"})
