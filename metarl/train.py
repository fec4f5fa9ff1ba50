"""The training loop: sample tasks, collect, adapt, collect again, update; write metrics and checkpoints."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from metarl.envs import TaskFamily
from metarl.policies import GaussianPolicy, measure_normaliser

from .algorithms.maml import MetaParams, adapt_tasks, batches_of, init_meta_params
from .algorithms.registry import update_of
from .checkpoint import TrainState, load_checkpoint, save_checkpoint, state_from_bytes, state_to_bytes
from .config import TrainConfig, config_to_dict
from .group import SOLO, Group
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

CPU = torch.device("cpu")


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
    """The simulators of this process's tasks."""
    mine = workers.group.divide(config.meta_batch)
    return Collector(family, policy, mine.stop - mine.start, config.trajectories, workers)


def initial_state(config: TrainConfig, family: TaskFamily, workers: Workers) -> TrainState:
    """The state before the first iteration."""
    return with_scaling(config, family, untrained_state(config, family), workers)


def untrained_state(config: TrainConfig, family: TaskFamily) -> TrainState:
    """Random weights without observation scaling, or the policy to start from with its own."""
    policy = config.policy.make(family)
    seed = int(seed_for(config.seed, Purpose.INIT).generate_state(1)[0])
    if config.init:
        start, theta = load_start(config, family)
        return TrainState(0, init_meta_params(config.algo, theta), 0, 0.0, start.normaliser)
    return TrainState(0, init_meta_params(config.algo, policy.init(torch.Generator().manual_seed(seed))), 0, 0.0)


def with_scaling(config: TrainConfig, family: TaskFamily, state: TrainState, workers: Workers) -> TrainState:
    """A state with the observation scaling measured under random actions, if the policy wants it and has none."""
    if state.normaliser is not None or not config.policy.normalise_obs:
        return state
    policy, group = config.policy.make(family), workers.group
    tasks = family.tasks.sample(config.meta_batch, generator_for(config.seed, Purpose.NORMALISER), "train")
    mine = tasks[group.divide(config.meta_batch)]
    noise_only = torch.zeros(policy.layout.size)
    noise_only[policy.layout.slices["log_std"]] = policy.init_log_std
    with closing(make_collector(config, family, policy, workers)) as collector:
        rollout = collector.collect(noise_only.expand(len(mine), -1), mine, seed_for(config.seed, Purpose.NORMALISER))
    obs = group.gather(rollout.obs[rollout.valid])
    normaliser = measure_normaliser(obs, torch.ones(len(obs), dtype=torch.bool))
    return dataclasses.replace(state, env_steps=state.env_steps + len(obs), normaliser=normaliser)


def first_state(
    config: TrainConfig, family: TaskFamily, start: TrainState | None, workers: Workers, device: torch.device
) -> TrainState:
    """The state that a run begins or goes on with, on a device.

    start: of a run that goes on. The first process decides, since it alone reads files; the others are told.
    """
    group = workers.group
    if group.rank == 0:
        state = start or untrained_state(config, family)
        group.send(state_to_bytes(state))
    else:
        state = state_from_bytes(group.receive())
    return with_scaling(config, family, state, workers).to(device)


def meta_iteration(
    config: TrainConfig,
    collector: Collector,
    state: TrainState,
    workers: Workers,
    stopwatch: Stopwatch | None = None,
) -> tuple[TrainState, IterationRecord]:
    """One outer update; its random numbers are a function of the run's seed and the iteration.

    The learner computes where the state is. The record is that of all tasks, those of other processes included.
    """
    watch = stopwatch or Stopwatch()
    start = time.perf_counter()
    it, algo, policy, group = state.iteration, config.algo, collector.policy, workers.group
    drawn = collector.family.tasks.sample(config.meta_batch, generator_for(config.seed, Purpose.TASKS, it), "train")
    tasks = drawn[group.divide(config.meta_batch)]
    params = state.meta.theta.expand(len(tasks), -1)
    support, returns, lengths = [], [], []
    n_steps = n_diverged = 0
    for j in range(algo.inner_steps + 1):
        purpose = Purpose.QUERY if j == algo.inner_steps else Purpose.SUPPORT
        with watch("rollout"):
            rollout = collector.collect(params.cpu(), tasks, seed_for(config.seed, purpose, it, j), explore=j == 0)
        with watch("advantages"):
            batches = batches_of(algo, rollout.to(params.device), workers)
        with watch("gathering"):
            returns.append(float(group.gather(rollout.episode_return).mean()))
            lengths.append(float(group.gather(rollout.valid.sum(-1).float()).mean()))
            n_steps += group.total(rollout.n_steps)
            n_diverged += group.total(rollout.n_diverged)
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
        return float(policy.distribution(meta.theta[None], meta.theta.new_zeros(1, 1, obs_dim))[1].exp().mean())


def iterations(
    config: TrainConfig, family: TaskFamily, state: TrainState, workers: Workers
) -> Generator[tuple[TrainState, IterationRecord], None, None]:
    """Outer updates up to the run's total, in which every process of the group takes part."""
    policy = config.policy.make(family, state.normaliser)
    with closing(make_collector(config, family, policy, workers)) as collector:
        while state.iteration < config.iterations:
            state, record = meta_iteration(config, collector, state, workers)
            workers.group.check_same(state.meta.theta, "parameters")
            yield state, record


def train(
    config: TrainConfig,
    out: Path,
    *,
    n_threads: int = 0,
    device: torch.device = CPU,
    group: Group = SOLO,
    command: str = "",
    on_start: Callable[[TrainConfig, TrainState, RunFolder], None] | None = None,
    on_iteration: Callable[[IterationRecord], None] | None = None,
) -> RunFolder:
    """Meta-train from scratch into a new run folder and return it.

    device: the learner's; simulation is on the CPU. group: this process is its first; the others call
    `metarl.assist.assist` meanwhile. A KeyboardInterrupt (Ctrl-C, SIGTERM) writes a checkpoint of the last whole
    iteration and is raised again.
    """
    workers = Workers(n_threads, group)
    group.divide(config.meta_batch)
    config.policy.make(config.env.make())  # fail before anything is written
    config = with_start(config)
    run = create_run(out, config, command)
    with exclusive(run):
        _loop(config, run, None, workers, device, on_start, on_iteration)
    return run


def resume(
    path: Path,
    *,
    n_threads: int = 0,
    device: torch.device = CPU,
    group: Group = SOLO,
    iterations: int | None = None,
    command: str = "",
    on_start: Callable[[TrainConfig, TrainState, RunFolder], None] | None = None,
    on_iteration: Callable[[IterationRecord], None] | None = None,
) -> RunFolder:
    """Continue a run from its checkpoint, bit for bit as if it had never stopped.

    iterations: a new total, to train longer than first planned. ValueError if more are done already. device and group
    as in `train`; they may be others than the run had before.
    """
    workers = Workers(n_threads, group)
    run, config = open_run(path)
    group.divide(config.meta_batch)
    with exclusive(run):
        _, config = open_run(path)  # again: another process may have finished with it meanwhile
        state = load_state(run, config) if run.checkpoint.exists() else None  # stopped before its first checkpoint
        done = state.iteration if state else 0
        config = with_total(config, iterations, done, path)
        if done < config.iterations:
            record_resumption(run, config, command, done)
        _loop(config, run, state, workers, device, on_start, on_iteration)
    return run


def order(config: TrainConfig, n_threads: int, device: torch.device) -> bytes:
    """What the first process tells the others to do; of several GPUs each takes its own."""
    return json.dumps({"config": config_to_dict(config), "threads": n_threads, "device": device.type}).encode()


def load_state(run: RunFolder, config: TrainConfig) -> TrainState:
    """The state in a run's checkpoint."""
    policy = config.policy.make(config.env.make())
    return load_checkpoint(run.checkpoint, config.env.name, config.env.protocol, policy.layout.size)


def _loop(
    config: TrainConfig,
    run: RunFolder,
    start: TrainState | None,
    workers: Workers,
    device: torch.device,
    on_start: Callable[[TrainConfig, TrainState, RunFolder], None] | None,
    on_iteration: Callable[[IterationRecord], None] | None,
) -> None:
    with sigterm_as_interrupt(), closing(workers):
        workers.group.send(order(config, workers.asked, device))
        family = config.env.make()
        state = first_state(config, family, start, workers, device)
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
                with closing(iterations(config, family, state, workers)) as updates:
                    for after, record in updates:
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
                    meta = state.to(CPU).meta
                    save_policy(
                        run.policy,
                        config,
                        config.policy.make(family, state.normaliser),
                        meta.theta,
                        step_size=meta.step_size,
                        extra={"iterations": state.iteration, "env_steps": state.env_steps, "wall_s": state.wall_s},
                    )
