"""What the commands of supervised learning say while they run."""

from __future__ import annotations

import dataclasses
import math

from metarl.commands.checks import clock
from metarl.commands.console import Console
from metarl.run_folder import RunFolder
from metarl.supervised.config import Setup, SupervisedConfig, config_to_dict
from metarl.supervised.datasets import dataset_name, of_problem
from metarl.supervised.learners import learner_name
from metarl.supervised.train_state import SupervisedState
from metarl.supervised.training import Row


class SupervisedProgress:
    """A row of metrics a line, as the console shows it."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.total = 0
        self.problem = "fewshot"
        self.start_s, self.start_iteration = 0.0, 0

    def images(self, done: int, total: int) -> None:
        """Report the decoding of images."""
        if done % 2000 == 0 or done == total:
            self.console.progress(f"reading images: {done}/{total}", last=done == total)

    def start(self, config: SupervisedConfig, setup: Setup, state: SupervisedState, run: RunFolder) -> None:
        """Say what is about to happen."""
        self.total, self.problem = config.iterations, of_problem(config.dataset)
        self.start_s, self.start_iteration = state.wall_s, state.iteration
        done = f", continuing at iteration {state.iteration}" if state.iteration else ""
        test, train = config.episodes.size("test"), config.episodes.size("train")
        way, train_way = (f"{size.way}-way " if self.problem == "fewshot" else "" for size in (test, train))
        self.console.say(
            f"{dataset_name(config.dataset)}, {way}{test.shot}-shot: {config.iterations} iterations of "
            f"{learner_name(config.algo)}{done} -> {run.path}"
        )
        validation = (
            f"; {config.validation_episodes} validation tasks every {config.validate_every} iterations"
            if setup.validation is not None
            else "; no validation tasks"
        )
        n_queries = train.query * (train.way if self.problem == "fewshot" else 1)
        self.console.say(
            f"each: {config.meta_batch} task(s), {train_way}{train.shot}-shot with {n_queries} queries{validation}"
        )
        self.console.event("start", run=str(run.path), iteration=state.iteration, config=config_to_dict(config))

    def row(self, row: Row, state: SupervisedState) -> None:
        """Report a row of metrics."""
        done = row.iteration + 1
        per_iteration_s = (row.wall_s - self.start_s) / max(done - self.start_iteration, 1)
        parts = [f"{done:>6}/{self.total}  objective {row.objective:8.4f}"]
        if not math.isnan(row.validation_accuracy):
            parts.append(f"validation {100 * row.validation_accuracy:5.1f} %")
        elif not math.isnan(row.validation_loss):
            parts.append(f"validation {row.validation_loss:8.4f}")
        parts.append(f"{row.tasks_per_s:7,.0f} tasks/s  left {clock(per_iteration_s * (self.total - done))}")
        if row.n_skipped:
            parts.append(f"{row.n_skipped} steps left out, not finite")
        self.console.progress("  ".join(parts), last=done == self.total)
        self.console.event("progress", **dataclasses.asdict(row))

    def finish(self, run: RunFolder) -> int:
        """Say where everything is."""
        if self.console.mode == "quiet":
            self.console.result(str(run.path))
        else:
            self.console.say(f"done: {run.path}\nnext: metarl {self.problem} evaluate {run.path}")
        self.console.event("done", run=str(run.path))
        return 0
