"""Training in processes that get killed.

They are forked from one that has imported everything, so that a start costs little; what runs in them is the real
training loop, and what they leave behind are its real files.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import metarl.supervised.training
import metarl.train
from metarl.config import TrainConfig
from metarl.supervised.config import SupervisedConfig

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["metarl.train", "metarl.supervised.training", "metarl.envs.point", "tensorboard.summary.writer.record_writer"]
)

CHANGES = {"open", "os.rename", "os.remove", "os.mkdir"}
"""Python's audit events that come before a file is opened, renamed, deleted or a folder made."""


@dataclass(frozen=True)
class Killed:
    """When a process kills itself: just before its n-th change, from 0, of something in its run folder."""

    change: int


def start(config: TrainConfig | SupervisedConfig, run: Path, killed: Killed | None = None) -> BaseProcess:
    """A process that trains into a folder, or goes on with the run that is there."""
    process = FORKS.Process(target=_work, args=(config, run, killed))
    process.start()
    return process


def finish(config: TrainConfig | SupervisedConfig, run: Path) -> None:
    """Train, or go on, to the end."""
    process = start(config, run)
    process.join(60)
    assert process.exitcode == 0


def train_or_resume(config: TrainConfig | SupervisedConfig, run: Path) -> None:
    """In this process."""
    goes_on = (run / "config.json").exists()
    if isinstance(config, TrainConfig):
        metarl.train.resume(run, n_threads=1) if goes_on else metarl.train.train(config, run, n_threads=1)
    elif goes_on:
        metarl.supervised.training.resume(run)
    else:
        metarl.supervised.training.train(config, run)


def _work(config: TrainConfig | SupervisedConfig, run: Path, killed: Killed | None) -> None:
    if killed is not None:
        _kill_at(killed.change, run)
    train_or_resume(config, run)


def _kill_at(change: int, run: Path) -> None:
    left = change

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in CHANGES or not str(arguments[0]).startswith(str(run)):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    sys.addaudithook(watch)
