"""The training loop: sample tasks, collect, adapt, collect again, update; write metrics and checkpoints."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from metarl.envs import TaskFamily
from metarl.policies import GaussianPolicy, measure_normaliser

from .algorithms.maml import MetaParams, adapt_tasks, batches_of, init_meta_params
from .algorithms.registry import update_of
from .checkpoint import TrainState, load_checkpoint, save_checkpoint
from .config import TrainConfig
from .interrupts import interrupts_deferred, sigterm_as_interrupt
from .metrics import MetricsWriter
from .rollout import Collector
from .run_folder import with_total
from .runs import RunFolder, create_run, exclusive, open_run, record_resumption
from .saved_policy import save_policy
from .seeding import Purpose, generator_for, seed_for
from .start import load_start, with_start
from .stopwatch import Stopwatch
from .workers import Workers


@dataclass(frozen=True)
class IterationRecord:
    """What one iteration measured. Returns are undiscounted, averaged over trajectories and tasks."""

    iteration: int
    """Counted from 0."""
    return_before: float
    """Mean return before adaptation."""
    return_after: float
    """Mean return after the inner steps."""
    kl: float
    """Mean divergence of the adapted policies in the outer step (nats)."""
    step_fraction: float
    """Share of the full outer step that was taken; 0 when it was refused."""
    loss_before: float
    loss_after: float
    gradient_norm: float
    mean_std: float
    """Mean standard deviation of the initial policy's actions."""
    mean_inner_lr: float
    """Mean inner step size."""
    episode_length: float
    """Mean steps an episode, before adaptation."""
    n_diverged: int
    """Simulations that diverged and were contained."""
    env_steps: int
    """Environment steps since the start of the run."""
    iteration_s: float
    """Wall time of the iteration (s)."""
    wall_s: float
    """Wall time of all iterations so far (s)."""
    steps_per_s: float
    """Environment steps of the iteration per second of its wall time."""


def make_collector(config: TrainConfig, family: TaskFamily, policy: GaussianPolicy, workers: Workers) -> Collector:
    """The simulators of a training run."""
    return Collector(family, policy, config.meta_batch, config.trajectories, workers)


def initial_state(config: TrainConfig, family: TaskFamily, workers: Workers) -> TrainState:
    """The state before the first iteration.

    With the observation scaling measured if the policy wants it, or that of the policy to start from.
    """
    policy = config.policy.make(family)
    seed = int(seed_for(config.seed, Purpose.INIT).generate_state(1)[0])
    if config.init:
        start, theta = load_start(config, family)
        return TrainState(0, init_meta_params(config.algo, theta), 0, 0.0, start.normaliser)
    meta = init_meta_params(config.algo, policy.init(torch.Generator().manual_seed(seed)))
    if not config.policy.normalise_obs:
        return TrainState(0, meta, 0, 0.0)
    tasks = family.tasks.sample(config.meta_batch, generator_for(config.seed, Purpose.NORMALISER), "train")
    noise_only = torch.zeros(policy.layout.size)
    noise_only[policy.layout.slices["log_std"]] = policy.init_log_std
    with closing(make_collector(config, family, policy, workers)) as collector:
        rollout = collector.collect(
            noise_only.expand(config.meta_batch, -1), tasks, seed_for(config.seed, Purpose.NORMALISER)
        )
    return TrainState(0, meta, rollout.n_steps, 0.0, measure_normaliser(rollout.obs, rollout.valid))


def meta_iteration(
    config: TrainConfig,
    collector: Collector,
    state: TrainState,
    workers: Workers,
    stopwatch: Stopwatch | None = None,
) -> tuple[TrainState, IterationRecord]:
    """One outer update; its random numbers are a function of the run's seed and the iteration."""
    watch = stopwatch or Stopwatch()
    start = time.perf_counter()
    it, algo, policy = state.iteration, config.algo, collector.policy
    tasks = collector.family.tasks.sample(config.meta_batch, generator_for(config.seed, Purpose.TASKS, it), "train")
    params = state.meta.theta.expand(config.meta_batch, -1)
    support, returns, lengths = [], [], []
    n_steps = n_diverged = 0
    for j in range(algo.inner_steps + 1):
        purpose = Purpose.QUERY if j == algo.inner_steps else Purpose.SUPPORT
        with watch("rollout"):
            rollout = collector.collect(params, tasks, seed_for(config.seed, purpose, it, j))
        with watch("advantages"):
            batches = batches_of(algo, rollout, workers)
        returns.append(float(rollout.episode_return.mean()))
        lengths.append(float(rollout.valid.sum(-1).float().mean()))
        n_steps += rollout.n_steps
        n_diverged += rollout.n_diverged
        if j < algo.inner_steps:
            support.append(batches)
            with watch("adaptation"):
                params = adapt_tasks(algo, policy, params, batches, state.meta.step_size, workers)
    seed = seed_for(config.seed, Purpose.CURVATURE, it)
    meta, optimiser, info = update_of(algo)(
        algo, policy, state.meta, support, batches, seed, workers, watch, state.optimiser
    )
    elapsed = time.perf_counter() - start
    after = TrainState(it + 1, meta, state.env_steps + n_steps, state.wall_s + elapsed, state.normaliser, optimiser)
    record = IterationRecord(
        iteration=it,
        return_before=returns[0],
        return_after=returns[-1],
        kl=info.kl,
        step_fraction=info.step_fraction,
        loss_before=info.loss_before,
        loss_after=info.loss_after,
        gradient_norm=info.gradient_norm,
        mean_std=mean_std(policy, meta, collector.family.spec.obs_dim),
        mean_inner_lr=float(meta.step_size.mean()),
        episode_length=lengths[0],
        n_diverged=n_diverged,
        env_steps=after.env_steps,
        iteration_s=elapsed,
        wall_s=after.wall_s,
        steps_per_s=n_steps / elapsed,
    )
    return after, record


def mean_std(policy: GaussianPolicy, meta: MetaParams, obs_dim: int) -> float:
    """Mean standard deviation of the initial policy's actions."""
    with torch.no_grad():
        return float(policy.distribution(meta.theta[None], torch.zeros(1, 1, obs_dim))[1].exp().mean())


def train(
    config: TrainConfig,
    out: Path,
    *,
    n_threads: int = 0,
    command: str = "",
    on_start: Callable[[TrainConfig, TrainState, RunFolder], None] | None = None,
    on_iteration: Callable[[IterationRecord], None] | None = None,
) -> RunFolder:
    """Meta-train from scratch into a new run folder and return it.

    A KeyboardInterrupt (Ctrl-C, SIGTERM) writes a checkpoint of the last whole iteration and is raised again.
    """
    workers = Workers(n_threads)
    config.policy.make(config.env.make())  # fail before anything is written
    config = with_start(config)
    run = create_run(out, config, command)
    with exclusive(run):
        _loop(config, run, None, workers, on_start, on_iteration)
    return run


def resume(
    path: Path,
    *,
    n_threads: int = 0,
    iterations: int | None = None,
    command: str = "",
    on_start: Callable[[TrainConfig, TrainState, RunFolder], None] | None = None,
    on_iteration: Callable[[IterationRecord], None] | None = None,
) -> RunFolder:
    """Continue a run from its checkpoint, bit for bit as if it had never stopped.

    iterations: a new total, to train longer than first planned. ValueError if more are done already.
    """
    workers = Workers(n_threads)
    run, _ = open_run(path)
    with exclusive(run):
        _, config = open_run(path)  # again: another process may have finished with it meanwhile
        state = load_state(run, config) if run.checkpoint.exists() else None  # stopped before its first checkpoint
        done = state.iteration if state else 0
        config = with_total(config, iterations, done, path)
        if done < config.iterations:
            record_resumption(run, config, command, done)
        _loop(config, run, state, workers, on_start, on_iteration)
    return run


def load_state(run: RunFolder, config: TrainConfig) -> TrainState:
    """The state in a run's checkpoint."""
    policy = config.policy.make(config.env.make())
    return load_checkpoint(run.checkpoint, config.env.name, config.env.protocol, policy.layout.size)


def _loop(
    config: TrainConfig,
    run: RunFolder,
    start: TrainState | None,
    workers: Workers,
    on_start: Callable[[TrainConfig, TrainState, RunFolder], None] | None,
    on_iteration: Callable[[IterationRecord], None] | None,
) -> None:
    with sigterm_as_interrupt(), closing(workers):
        family = config.env.make()
        state = start or initial_state(config, family, workers)
        policy = config.policy.make(family, state.normaliser)
        if on_start is not None:
            on_start(config, state, run)
        saved = state.iteration if run.checkpoint.exists() else -1

        def save() -> None:
            nonlocal saved
            if saved != state.iteration:
                save_checkpoint(run.checkpoint, state, config.env.name, config.env.protocol)
                saved = state.iteration

        with MetricsWriter(run.path, state.iteration) as metrics:
            try:
                if config.init and start is None:
                    save()  # from here on the run does not need the policy that it started from
                with closing(make_collector(config, family, policy, workers)) as collector:
                    while state.iteration < config.iterations:
                        after, record = meta_iteration(config, collector, state, workers)
                        with interrupts_deferred():  # the state and its row of metrics, or neither
                            metrics.write(dataclasses.asdict(record))
                            state = after
                            if state.iteration % config.checkpoint_every == 0:
                                save()
                        if on_iteration is not None:
                            on_iteration(record)
            finally:
                with interrupts_deferred():
                    save()
                    save_policy(
                        run.policy,
                        config,
                        policy,
                        state.meta.theta,
                        step_size=state.meta.step_size,
                        extra={"iterations": state.iteration, "env_steps": state.env_steps, "wall_s": state.wall_s},
                    )
