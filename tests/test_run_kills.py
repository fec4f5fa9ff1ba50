"""SIGKILL at any moment of training: nothing is unreadable, and going on gives the uninterrupted run, bit for bit."""

from __future__ import annotations

import itertools
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from killed_runs import Killed, finish, start, train_or_resume
from small_runs import assert_same_run, metrics_without_times, small_config
from test_supervised_training import SMALL, assert_same_state

import metarl.supervised.training
import metarl.train
from metarl.algorithms.maml_adam import MAMLVPG
from metarl.config import TrainConfig
from metarl.runs import open_run
from metarl.saved_policy import load_policy
from metarl.supervised.config import SupervisedConfig
from metarl.supervised.runs import open_run as open_supervised_run
from metarl.train import load_state

N_KILLS, N_KILLS_SUPERVISED = 50, 10
RL = replace(small_config(), iterations=8, checkpoint_every=3, algo=MAMLVPG())
SUPERVISED = replace(SMALL, iterations=20, checkpoint_every=3)


@dataclass(frozen=True)
class Whole:
    """The run that is never stopped."""

    config: TrainConfig | SupervisedConfig
    run: Path
    tensors: list[dict[str, torch.Tensor]]
    """In the checkpoint after so many iterations."""

    def assert_equal(self, run: Path) -> None:
        """A finished run."""
        (assert_same_run if isinstance(self.config, TrainConfig) else assert_same_state)(run, self.run)

    def assert_nothing_is_broken(self, run: Path) -> None:
        """What a kill left: absent, or a state and rows of the uninterrupted run, the state's rows among them."""
        if not (run / "config.json").exists():
            assert not (run / "checkpoint.pt").exists()
            return
        done = 0
        if isinstance(self.config, TrainConfig):
            folder, config = open_run(run)
            if folder.checkpoint.exists():
                done = load_state(folder, config).iteration
        else:
            folder, settings = open_supervised_run(run)
            if folder.checkpoint.exists():
                done = metarl.supervised.training.load_run_state(folder, settings, settings.setup()).iteration
        if folder.checkpoint.exists():
            assert_tensors_equal(tensors_of(folder.checkpoint), self.tensors[done])
        if (run / "metrics.jsonl").exists() and isinstance(self.config, TrainConfig):
            rows = metrics_without_times(run)
            assert rows == metrics_without_times(self.run)[: len(rows)]
            assert len(rows) >= done
        if folder.policy.exists() and len(list(folder.policy.glob("[!.]*"))) == 2:
            try:
                load_policy(run)
            except ValueError as error:  # between its two files; made anew at the end of the next start
                assert "model.safetensors is not the one" in str(error)  # noqa: PT017


def tensors_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    content = torch.load(checkpoint, weights_only=True)
    return {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}


def assert_tensors_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module", params=[RL, SUPERVISED], ids=["rl", "supervised"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    config, folder = request.param, tmp_path_factory.mktemp("whole")
    noted: list[dict[str, torch.Tensor]] = [{}]  # no checkpoint is written before the first iteration
    often = replace(config, checkpoint_every=1)

    def note(*_: object) -> None:
        noted.append(tensors_of(folder / "often" / "checkpoint.pt"))

    if isinstance(config, TrainConfig):
        metarl.train.train(often, folder / "often", n_threads=1, on_iteration=note)
    else:
        metarl.supervised.training.train(replace(often, log_every=1), folder / "often", on_row=note)
    train_or_resume(config, folder / "run")
    return Whole(config, folder / "run", noted)


def test_killed_at_random_moments(whole: Whole, tmp_path: Path) -> None:
    """Several times a run: killed, gone on with, killed again, until it is done; then the next run."""
    rng = random.Random(0)
    finish(whole.config, tmp_path / "first")  # which also starts the process that the others are forked from
    begun = time.monotonic()
    finish(whole.config, tmp_path / "timed")
    usual_s = time.monotonic() - begun
    whole.assert_equal(tmp_path / "timed")
    left = N_KILLS if isinstance(whole.config, TrainConfig) else N_KILLS_SUPERVISED
    for number in itertools.count():
        run = tmp_path / str(number)
        while left:
            process = start(whole.config, run)
            process.join(rng.uniform(0, usual_s))
            process.kill()
            process.join(60)
            if process.exitcode == 0:
                break
            left -= 1
            whole.assert_nothing_is_broken(run)
        else:
            finish(whole.config, run)
        whole.assert_equal(run)
        if not left:
            return


def test_killed_before_each_change_of_a_file(whole: Whole, tmp_path: Path) -> None:
    """One run whose n-th process is killed just before the n-th time that it opens, renames or deletes something."""
    run = tmp_path / "run"
    for n in itertools.count():
        process = start(whole.config, run, Killed(n))
        process.join(60)
        if process.exitcode == 0:
            break
        whole.assert_nothing_is_broken(run)
    assert n > 10
    whole.assert_equal(run)
