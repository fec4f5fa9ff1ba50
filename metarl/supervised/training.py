"""The outer loop of supervised meta-learning: episodes, meta-gradient, step; metrics, validation, checkpoints.

A run's random numbers are functions of its seed and the iteration, so a resumed run continues bit for bit.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from metarl.interrupts import interrupts_deferred, sigterm_as_interrupt
from metarl.metrics import MetricsWriter
from metarl.run_folder import RunFolder, exclusive, with_total
from metarl.seeding import Purpose, torch_generator_for

from .class_lists import check_classes, write_classes
from .config import Setup, SupervisedConfig
from .image_files import Progress
from .outer_optimiser import gradient_norm, outer_step, step_size
from .runs import create_run, open_run, record_resumption
from .scoring import TaskScores, score_all
from .train_state import Best, Interval, SupervisedState, load_state, save_state


@dataclass(frozen=True)
class Row:
    """One row of metrics: means over the iterations since the last one."""

    iteration: int
    """The last of these iterations, counted from 0."""
    objective: float
    """What the outer step lowers; as a rule the query loss after adaptation, on training tasks."""
    gradient_norm: float
    lr: float
    """Outer step size of the last iteration."""
    n_skipped: int
    """Outer steps left out since the start because the meta-gradient was not finite."""
    validation_loss: float
    """On validation tasks, after adaptation; NaN where this row has no validation."""
    validation_accuracy: float
    """In [0, 1]; NaN for regression, too."""
    wall_s: float
    """Wall time of all iterations so far (s)."""
    tasks_per_s: float
    """Training tasks per second since the row before."""


Callback = Callable[[Row, SupervisedState], None]
Started = Callable[[SupervisedConfig, Setup, SupervisedState, RunFolder], None]


def meta_iteration(config: SupervisedConfig, setup: Setup, state: SupervisedState) -> SupervisedState:
    """One outer update; a meta-gradient that is not finite is left out and counted."""
    start, start_cpu = time.perf_counter(), time.process_time()
    it = state.iteration
    episodes = setup.train(config.meta_batch, torch_generator_for(config.seed, Purpose.TASKS, it))
    update = setup.learner.meta_gradient(state.params, episodes, it / config.iterations)
    norm, objective = gradient_norm(update.gradient), float(update.objective)
    params, moments, skipped = state.params, state.moments, state.n_skipped
    if math.isfinite(norm) and all(bool(value.isfinite().all()) for value in update.replaced.values()):
        lr = step_size(config.outer, it, config.iterations)
        params, moments = outer_step(config.outer, params, update, moments, lr, norm)
        summed = Interval(
            state.interval.n + 1, state.interval.objective + objective, state.interval.gradient_norm + norm
        )
    else:
        skipped, summed = skipped + 1, state.interval
    wall_s, cpu_s = _spent(state, start, start_cpu)
    return SupervisedState(it + 1, params, moments, state.best, summed, skipped, wall_s, cpu_s)


def initial_state(config: SupervisedConfig, setup: Setup) -> SupervisedState:
    """The state before the first iteration."""
    return SupervisedState(0, setup.learner.init(torch_generator_for(config.seed, Purpose.INIT)))


def validated(config: SupervisedConfig, setup: Setup, state: SupervisedState) -> tuple[SupervisedState, float, float]:
    """The state with what is best so far, and loss and accuracy (NaN for regression) on the validation tasks.

    They are the same tasks each time. Without a validation set, the state as it is and NaN. The best are the latest
    parameters whose score is at most a standard error below the highest (the rule of Breiman et al. 1984, with the
    latest as the simplest). The highest of many scores that are near each other would be that of some early parameters
    by chance.
    """
    if setup.validation is None:
        return state, math.nan, math.nan
    start, start_cpu = time.perf_counter(), time.process_time()
    generator = torch_generator_for(config.seed, Purpose.VALIDATION)
    found = score_all(setup.learner, state.params, setup.validation, config.validation_episodes, generator, setup.steps)
    value, error = _score(found)
    best = state.best
    if best is None:
        best = Best(state.iteration, value, state.params)
    elif value >= best.score - error:
        best = Best(state.iteration, max(value, best.score), state.params)
    wall_s, cpu_s = _spent(state, start, start_cpu)
    loss, accuracy = float(found.loss.mean()), math.nan if found.accuracy is None else value
    return dataclasses.replace(state, best=best, wall_s=wall_s, cpu_s=cpu_s), loss, accuracy


def _score(found: TaskScores) -> tuple[float, float]:
    """What parameters are compared by, more is better, and its standard error over tasks.

    The mean accuracy, or minus the median loss, which bears tasks that blow up. The order statistic half a square root
    of n places below the median is a standard error from it, whatever the distribution.
    """
    n = len(found.loss)
    if found.accuracy is not None:
        return float(found.accuracy.mean()), float(found.accuracy.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    losses = np.nan_to_num(found.loss, nan=np.inf)
    median = float(np.median(losses))
    below = float(np.quantile(losses, 0.5 - 0.5 / math.sqrt(n), method="lower"))
    return -median, median - below if math.isfinite(median) else 0.0


def _spent(state: SupervisedState, start: float, start_cpu: float) -> tuple[float, float]:
    """Wall and CPU time of training (s), with those since a start added."""
    return state.wall_s + time.perf_counter() - start, state.cpu_s + time.process_time() - start_cpu


def train(
    config: SupervisedConfig,
    out: Path,
    *,
    command: str = "",
    on_start: Started | None = None,
    on_row: Callback | None = None,
    on_images: Progress | None = None,
) -> RunFolder:
    """Meta-train from scratch into a new run folder and return it.

    on_images: told how many images are decoded. A KeyboardInterrupt (Ctrl-C, SIGTERM) writes a checkpoint of the last
    whole iteration and is raised again.
    """
    setup = config.setup(on_images)  # fail before anything is written
    setup.tasks.sampler("test", config.episodes.size("test"))  # and before hours that could not be tested
    run = create_run(out, config, command)
    with exclusive(run):
        write_classes(run, setup.tasks)
        _loop(config, setup, run, None, on_start, on_row)
    return run


def resume(
    path: Path,
    *,
    iterations: int | None = None,
    data: str = "",
    command: str = "",
    on_start: Started | None = None,
    on_row: Callback | None = None,
    on_images: Progress | None = None,
) -> RunFolder:
    """Continue a run from its checkpoint, bit for bit as if it had never stopped.

    iterations: a new total, to train longer than first planned; schedules stretch to it from here on. data: where the
    data lie now, "" for where they were. ValueError if more iterations are done already, or the classes to train on
    are others.
    """
    run, _ = open_run(path)
    with exclusive(run):
        _, config = open_run(path)  # again: another process may have finished with it meanwhile
        setup = config.setup(on_images, data)
        check_classes(run, setup.tasks, to_train=True)
        state = load_run_state(run, config, setup) if run.checkpoint.exists() else None
        done = state.iteration if state else 0
        config = with_total(config, iterations, done, path)
        if done < config.iterations:
            record_resumption(run, config, command, done)
        _loop(config, setup, run, state, on_start, on_row)
    return run


def load_run_state(run: RunFolder, config: SupervisedConfig, setup: Setup) -> SupervisedState:
    """The state in a run's checkpoint."""
    return load_state(run.checkpoint, initial_state(config, setup).params)


@contextmanager
def torch_threads(n_threads: int) -> Iterator[None]:
    """Let torch use so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _loop(
    config: SupervisedConfig,
    setup: Setup,
    run: RunFolder,
    start: SupervisedState | None,
    on_start: Started | None,
    on_row: Callback | None,
) -> None:
    with sigterm_as_interrupt(), torch_threads(config.threads):
        state = start or initial_state(config, setup)
        if on_start is not None:
            on_start(config, setup, state, run)
        saved = state.iteration if run.checkpoint.exists() else -1

        def save() -> None:
            nonlocal saved
            if saved != state.iteration:
                save_state(run.checkpoint, state)
                saved = state.iteration

        last_wall_s, last_iteration = state.wall_s, state.iteration
        with MetricsWriter(run.path, state.iteration) as metrics:
            try:
                while state.iteration < config.iterations:
                    after = meta_iteration(config, setup, state)
                    it, row = after.iteration, None
                    loss = accuracy = math.nan
                    if it % config.validate_every == 0 or it == config.iterations:
                        after, loss, accuracy = validated(config, setup, after)
                    if it % config.log_every == 0 or not math.isnan(loss) or it == config.iterations:
                        rate = config.meta_batch * (it - last_iteration) / max(after.wall_s - last_wall_s, 1e-9)
                        row = _row(config, after, loss, accuracy, rate)
                        after = dataclasses.replace(after, interval=Interval())
                        last_wall_s, last_iteration = after.wall_s, it
                    with interrupts_deferred():  # the state and its row of metrics, or neither
                        if row is not None:
                            metrics.write(dataclasses.asdict(row))
                        state = after
                        if it % config.checkpoint_every == 0:
                            save()
                    if row is not None and on_row is not None:
                        on_row(row, state)
            finally:
                with interrupts_deferred():
                    save()


def _row(config: SupervisedConfig, state: SupervisedState, loss: float, accuracy: float, rate: float) -> Row:
    n, it = state.interval.n, state.iteration - 1
    return Row(
        iteration=it,
        objective=state.interval.objective / n if n else math.nan,
        gradient_norm=state.interval.gradient_norm / n if n else math.nan,
        lr=step_size(config.outer, it, config.iterations),
        n_skipped=state.n_skipped,
        validation_loss=loss,
        validation_accuracy=accuracy,
        wall_s=state.wall_s,
        tasks_per_s=rate,
    )
