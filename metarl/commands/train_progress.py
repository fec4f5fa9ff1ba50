"""What `metarl train` says while it runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import tyro

from metarl.algorithms.registry import DEFAULT_ALGORITHM, algorithm_name
from metarl.checkpoint import TrainState
from metarl.commands.checks import clock
from metarl.commands.console import Console
from metarl.config import TrainConfig, config_to_dict
from metarl.plugins import import_options
from metarl.runs import RunFolder
from metarl.train import IterationRecord


@dataclass(frozen=True)
class LogOptions:
    """Where metrics go beside the run folder, which has them as JSON lines, CSV and TensorBoard events."""

    wandb: tyro.conf.FlagCreatePairsOff[bool] = False
    """Send them to Weights & Biases too; WANDB_MODE=offline keeps them in the run folder."""
    wandb_project: str = "metarl"
    """Project there."""


@contextmanager
def observed(
    console: Console, log: LogOptions
) -> Iterator[tuple[Progress, Callable[[TrainConfig, TrainState, RunFolder], None], Callable[[IterationRecord], None]]]:
    """Progress on the console, with what `train` is to call at the start and after each iteration."""
    progress = Progress(console)
    with ExitStack() as stack:
        stack.enter_context(console)
        if not log.wandb:
            yield progress, progress.start, progress.iteration
            return
        from metarl.wandb_log import WandbLog

        sent = stack.enter_context(WandbLog(log.wandb_project))

        def on_start(config: TrainConfig, state: TrainState, run: RunFolder) -> None:
            sent.start(config, state, run)
            progress.start(config, state, run)

        def on_iteration(record: IterationRecord) -> None:
            sent.iteration(record)
            progress.iteration(record)

        yield progress, on_start, on_iteration


class Progress:
    """An iteration a line, as the console shows it."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.total = 0
        self.mean_s = 0.0

    def start(self, config: TrainConfig, state: TrainState, run: RunFolder) -> None:
        """Say what is about to happen."""
        self.total = config.iterations
        done = f", continuing at iteration {state.iteration}" if state.iteration else ""
        name = algorithm_name(config.algo)
        algorithm = "" if name == DEFAULT_ALGORITHM else f" by {name}"
        origin = f" from {config.init}" if config.init else ""
        self.console.say(
            f"{config.env.name} ({config.env.protocol}): {config.iterations} iterations{algorithm}{origin}{done} "
            f"-> {run.path}"
        )
        self.console.say(
            f"each: {config.meta_batch} tasks x {config.trajectories} trajectories, before and after "
            f"{config.algo.inner_steps} gradient step(s); returns are means over training tasks"
        )
        self.console.event("start", run=str(run.path), iteration=state.iteration, config=config_to_dict(config))

    def iteration(self, record: IterationRecord) -> None:
        """Report an iteration."""
        seconds = record.iteration_s
        self.mean_s = seconds if self.mean_s == 0 else 0.8 * self.mean_s + 0.2 * seconds
        left = self.mean_s * (self.total - record.iteration - 1)
        diverged = f"  {record.n_diverged} simulations diverged" if record.n_diverged else ""
        self.console.progress(
            f"{record.iteration + 1:>5}/{self.total}  before {record.return_before:9.2f}  "
            f"after {record.return_after:9.2f}  KL {record.kl:.4f}  {record.steps_per_s:8,.0f} steps/s  "
            f"left {clock(left)}{diverged}",
            last=record.iteration + 1 == self.total,
        )
        self.console.event("iteration", **dataclasses.asdict(record))

    def finish(self, run: RunFolder) -> int:
        """Say where everything is."""
        if self.console.mode == "quiet":
            self.console.result(str(run.path))
        else:
            self.console.say(f"done: {run.path}\nnext: metarl evaluate {run.path}{import_options()}")
        self.console.event("done", run=str(run.path))
        return 0
