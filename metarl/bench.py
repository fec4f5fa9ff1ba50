"""Measurements of our own hot loops against the raw stepping of MuJoCo, as ratios taken in one run."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

import mujoco
import mujoco.rollout
import numpy as np
import torch

from metarl.envs import Family, Simulator
from metarl.policies import GaussianMLP

from .config import TrainConfig
from .rollout import Collector, Rollout
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
    """`mujoco.rollout` of the same actions, with as many simulations, threads and control steps."""
    ratio: float
    """Median over repeats of closed / open, each pair measured one after the other."""


@dataclass(frozen=True)
class IterationBench:
    """Wall time of a meta-iteration and where it goes."""

    iteration_s: float
    raw_s: float
    """Open-loop stepping of the same actions, as many environment steps, with the same threads."""
    ratio: float
    """iteration_s / raw_s, both means over repeats taken in turn."""
    peak_memory_mb: float
    """Peak resident memory of the process (MB)."""
    stages: dict[str, float]
    """Mean wall time by stage (s)."""


class OpenLoop:
    """`mujoco.rollout` on a family's model, given the actions that a closed loop took: what raw stepping costs.

    The model is the family's own, with the sensors its observation and reward need. The same actions matter: how much
    the robot is in contact with the ground changes a step's cost by several per cent.
    """

    def __init__(self, family: Family, n_rows: int, n_threads: int) -> None:
        if family.kinematic:
            raise ValueError(f"{family.name} has no MuJoCo physics to compare with; choose an environment that has")
        self.family = family
        model = family.model
        simulator = Simulator(family, n_rows, 1)
        rng = np.random.default_rng(0)
        simulator.reset(family.tasks.sample(n_rows, rng), rng.spawn(n_rows))
        self.initial = np.zeros((n_rows, mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS.value)))
        self.initial[:, 1 : 1 + model.nq] = simulator.state.qpos
        self.initial[:, 1 + model.nq : 1 + model.nq + model.nv] = simulator.state.qvel
        self._data = [mujoco.MjData(model) for _ in range(n_threads)]
        # One thread steps on the caller's: a pool of one would only add a hand-over.
        self._pool = mujoco.rollout.Rollout(nthread=n_threads if n_threads > 1 else 0)
        self._state = np.empty(0)
        self._sensordata = np.empty(0)

    def seconds(self, action: np.ndarray) -> float:
        """Wall time (s) of stepping all rows through action (task, env, time, act)."""
        model = self.family.model
        flat = np.clip(action.reshape(len(self.initial), -1, action.shape[-1]), -1, 1).astype(np.float64)
        control = np.repeat(flat, self.family.frame_skip, axis=1)
        if self._state.shape[1:2] != control.shape[1:2]:
            self._state = np.zeros((*control.shape[:2], self.initial.shape[1]))
            self._sensordata = np.zeros((*control.shape[:2], model.nsensordata))
        start = time.perf_counter()
        self._pool.rollout(
            model,
            self._data if len(self._data) > 1 else self._data[0],
            self.initial,
            control,
            state=self._state,
            sensordata=self._sensordata if model.nsensordata else None,
        )
        return time.perf_counter() - start

    def close(self) -> None:
        """Stop the threads."""
        self._pool.close()


class _Recording(Collector):
    """A collector that keeps the rollouts of an iteration, to replay their actions."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rollouts: list[Rollout] = []

    def collect(self, *args: Any, **kwargs: Any) -> Rollout:
        self.rollouts.append(super().collect(*args, **kwargs))
        return self.rollouts[-1]


def bench_rollout(family: Family, n_tasks: int, n_envs: int, n_threads: int) -> RolloutBench:
    """Closed-loop against open-loop stepping; each measurement is about SECONDS_PER_MEASUREMENT long."""
    workers = Workers(n_threads)
    n_rows = n_tasks * n_envs
    open_loop = OpenLoop(family, n_rows, workers.n_threads)
    probe = np.random.default_rng(0).standard_normal((n_tasks, n_envs, 4, family.spec.act_dim))
    open_loop.seconds(probe)  # the first pass touches the memory
    control_steps = int(np.clip(4 * SECONDS_PER_MEASUREMENT / open_loop.seconds(probe), 10, family.spec.horizon))

    policy = GaussianMLP(family.spec.obs_dim, family.spec.act_dim)
    collector = Collector(family, policy, n_tasks, n_envs, workers, horizon=control_steps)
    tasks = family.tasks.sample(n_tasks, generator_for(0, Purpose.TASKS))
    params = policy.init(torch.Generator().manual_seed(0)).expand(n_tasks, -1)
    closed_rates, open_rates = [], []
    for i in range(REPEATS + 1):
        start = time.perf_counter()
        rollout = collector.collect(params, tasks, seed_for(0, Purpose.SUPPORT, i))
        closed = rollout.n_steps / (time.perf_counter() - start)
        opened = n_rows * control_steps / open_loop.seconds(rollout.action.numpy())
        if i > 0:  # the first pair warms up
            closed_rates.append(closed)
            open_rates.append(opened)
    open_loop.close()
    workers.close()
    ratio = statistics.median(c / o for c, o in zip(closed_rates, open_rates, strict=True))
    return RolloutBench(statistics.median(closed_rates), statistics.median(open_rates), ratio)


def bench_iteration(config: TrainConfig, n_threads: int, repeats: int = 2) -> IterationBench:
    """Whole meta-iterations from the initial parameters, each beside raw stepping of the same actions."""
    family = config.env.make()
    if not isinstance(family, Family):
        raise ValueError(f"{family.name} has no MuJoCo model of ours to compare with raw stepping; bench another")
    workers = Workers(n_threads)
    state = initial_state(config, family, workers)
    policy = config.policy.make(family, state.normaliser)
    collector = _Recording(family, policy, config.meta_batch, config.trajectories, workers)
    open_loop = OpenLoop(family, config.meta_batch * config.trajectories, workers.n_threads)
    times: list[tuple[float, float]] = []
    stages: dict[str, float] = {}
    for i in range(repeats + 1):
        watch = Stopwatch()
        start = time.perf_counter()
        state, _ = meta_iteration(config, collector, state, workers, watch)
        seconds = time.perf_counter() - start
        if i == 0:  # warms up
            collector.rollouts.clear()
            continue
        # Episodes that ended early took fewer steps than the replay does: in proportion.
        raw = sum(
            open_loop.seconds(rollout.action.numpy()) * rollout.n_steps / rollout.valid.numel()
            for rollout in collector.rollouts
        )
        collector.rollouts.clear()
        times.append((seconds, raw))
        for name, value in watch.seconds.items():
            stages[name] = stages.get(name, 0.0) + value / repeats
    open_loop.close()
    workers.close()
    seconds = statistics.mean(t[0] for t in times)
    raw = statistics.mean(t[1] for t in times)
    stages["other"] = seconds - sum(stages.values())
    return IterationBench(seconds, raw, seconds / raw, peak_memory_mb(), stages)


def peak_memory_mb() -> float:
    """Peak resident memory of this process (MB)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
