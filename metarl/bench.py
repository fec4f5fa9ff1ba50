"""Measurements of our own hot loops against the raw stepping of MuJoCo, as ratios taken in one run."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from dataclasses import dataclass

import mujoco
import mujoco.rollout
import numpy as np
import torch

from metarl.envs import Family, Simulator
from metarl.policies import GaussianMLP

from .config import TrainConfig
from .rollout import Collector
from .seeding import Purpose, generator_for, seed_for
from .stopwatch import Stopwatch
from .train import initial_state, meta_iteration
from .workers import Workers

SECONDS_PER_MEASUREMENT = 2.0
REPEATS = 5


@dataclass(frozen=True)
class RolloutBench:
    """Steps per second with a policy in the loop, and without."""

    closed_loop_steps_per_s: float
    """`Collector.collect`: policies of all tasks evaluated at every step, observations and rewards recorded."""
    open_loop_steps_per_s: float
    """`mujoco.rollout` over the same number of simulations, threads and control steps, with actions given."""
    ratio: float
    """Median over repeats of closed / open, each pair measured one after the other."""


@dataclass(frozen=True)
class IterationBench:
    """Wall time of a meta-iteration and where it goes."""

    iteration_s: float
    raw_s: float
    """Open-loop stepping of the same number of environment steps, with the same threads."""
    ratio: float
    """Median over repeats of iteration / raw."""
    peak_memory_mb: float
    """Peak resident memory of the process (MB)."""
    stages: dict[str, float]
    """Wall time by stage (s), of the iteration with the median ratio."""


class OpenLoop:
    """`mujoco.rollout` on a family's model with random actions: what raw stepping costs.

    The model is the family's own, with the sensors its observation and reward need.
    """

    def __init__(self, family: Family, n_rows: int, n_threads: int, control_steps: int) -> None:
        if family.kinematic:
            raise ValueError(f"{family.name} has no MuJoCo physics to compare with; choose an environment that has")
        self.model = family.model
        self.control_steps = control_steps
        self.n_rows = n_rows
        simulator = Simulator(family, n_rows, 1)
        rng = np.random.default_rng(0)
        tasks = family.tasks.sample(n_rows, rng)
        simulator.reset(tasks, rng.spawn(n_rows))
        spec = mujoco.mjtState.mjSTATE_FULLPHYSICS.value
        self.initial = np.zeros((n_rows, mujoco.mj_stateSize(self.model, spec)))
        self.initial[:, 1 : 1 + self.model.nq] = simulator.state.qpos
        self.initial[:, 1 + self.model.nq : 1 + self.model.nq + self.model.nv] = simulator.state.qvel
        action = np.clip(rng.standard_normal((n_rows, control_steps, self.model.nu)), -1, 1)
        self.control = np.repeat(action, family.frame_skip, axis=1)
        n_steps = control_steps * family.frame_skip
        self.state = np.empty((n_rows, n_steps, self.initial.shape[1]))
        self.sensordata = np.empty((n_rows, n_steps, self.model.nsensordata))
        self._data = [mujoco.MjData(self.model) for _ in range(n_threads)]
        # One thread steps on the caller's: a pool of one would only add a hand-over.
        self._pool = mujoco.rollout.Rollout(nthread=n_threads if n_threads > 1 else 0)

    def seconds(self) -> float:
        """Wall time of one pass (s): n_rows x control_steps environment steps."""
        start = time.perf_counter()
        self._pool.rollout(
            self.model,
            self._data if len(self._data) > 1 else self._data[0],
            self.initial,
            self.control,
            state=self.state,
            sensordata=self.sensordata if self.model.nsensordata else None,
        )
        return time.perf_counter() - start

    def close(self) -> None:
        """Stop the threads."""
        self._pool.close()


def bench_rollout(family: Family, n_tasks: int, n_envs: int, n_threads: int) -> RolloutBench:
    """Closed-loop against open-loop stepping; each measurement is about SECONDS_PER_MEASUREMENT long."""
    workers = Workers(n_threads)
    n_rows = n_tasks * n_envs
    probe = OpenLoop(family, n_rows, workers.n_threads, 4)
    probe.seconds()  # the first pass touches the memory
    per_step_s = probe.seconds() / 4
    probe.close()
    control_steps = int(np.clip(SECONDS_PER_MEASUREMENT / per_step_s, 10, family.spec.horizon))

    policy = GaussianMLP(family.spec.obs_dim, family.spec.act_dim)
    collector = Collector(family, policy, n_tasks, n_envs, workers, horizon=control_steps)
    tasks = family.tasks.sample(n_tasks, generator_for(0, Purpose.TASKS))
    params = policy.init(torch.Generator().manual_seed(0)).expand(n_tasks, -1)
    open_loop = OpenLoop(family, n_rows, workers.n_threads, control_steps)
    closed_rates, open_rates = [], []
    for i in range(REPEATS + 1):
        start = time.perf_counter()
        rollout = collector.collect(params, tasks, seed_for(0, Purpose.SUPPORT, i))
        closed = rollout.n_steps / (time.perf_counter() - start)
        opened = n_rows * control_steps / open_loop.seconds()
        if i > 0:  # the first pair warms up
            closed_rates.append(closed)
            open_rates.append(opened)
    open_loop.close()
    workers.close()
    ratio = statistics.median(c / o for c, o in zip(closed_rates, open_rates, strict=True))
    return RolloutBench(statistics.median(closed_rates), statistics.median(open_rates), ratio)


def bench_iteration(config: TrainConfig, n_threads: int, repeats: int = 3) -> IterationBench:
    """Whole meta-iterations from the initial parameters, each beside raw stepping of as many environment steps."""
    family = config.env.make()
    workers = Workers(n_threads)
    state = initial_state(config, family, workers)
    policy = config.policy.make(family, state.normaliser)
    collector = Collector(family, policy, config.meta_batch, config.trajectories, workers)
    n_rows = config.meta_batch * config.trajectories
    open_loop = OpenLoop(family, n_rows, workers.n_threads, min(50, family.spec.horizon))
    open_loop.seconds()
    measured = []
    for _ in range(repeats):
        watch = Stopwatch()
        steps_before = state.env_steps
        start = time.perf_counter()
        state, _ = meta_iteration(config, collector, state, workers, watch)
        seconds = time.perf_counter() - start
        passes = (state.env_steps - steps_before) / (n_rows * open_loop.control_steps)
        # Whole passes over the same number of steps; the remainder in proportion.
        whole = max(1, round(passes))
        raw = sum(open_loop.seconds() for _ in range(whole)) * passes / whole
        measured.append((seconds / raw, seconds, raw, watch.seconds))
    open_loop.close()
    workers.close()
    ratio, seconds, raw, stages = sorted(measured, key=lambda m: m[0])[len(measured) // 2]
    stages = {**stages, "other": seconds - sum(stages.values())}
    return IterationBench(seconds, raw, ratio, peak_memory_mb(), stages)


def peak_memory_mb() -> float:
    """Peak resident memory of this process (MB)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
