"""Hot loop 1: collect trajectories of every task under that task's own parameters."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from metarl.envs import RowSimulator, TaskFamily, Tasks
from metarl.policies import GaussianMLP, GaussianPolicy

from .seeding import children
from .workers import Workers


@dataclass(frozen=True)
class Rollout:
    """Trajectories of all tasks, one episode per environment. Entries after an episode's end are 0 and not valid."""

    obs: Float[Tensor, "task env time obs"]
    """Observation before each action, float32."""
    action: Float[Tensor, "task env time act"]
    """Action as sampled, before clipping to [-1, 1]."""
    mean: Float[Tensor, "task env time act"]
    """Mean of the policy that acted."""
    log_std: Float[Tensor, "task act"]
    """Its log standard deviation."""
    reward: Float[Tensor, "task env time"]
    valid: Bool[Tensor, "task env time"]
    """Whether the step belongs to the episode."""
    terminated: Bool[Tensor, "task env"]
    """Whether the episode ended before the horizon."""
    n_diverged: int
    """Simulations that diverged and were contained."""
    n_guess: int = 0
    """Last entries of obs that are an episode's guess (`GaussianMLP.guess_std`)."""

    @property
    def episode_return(self) -> Float[Tensor, "task env"]:
        """Undiscounted return of each episode."""
        return self.reward.sum(-1)

    @property
    def n_steps(self) -> int:
        """Environment steps taken."""
        return int(self.valid.sum())

    def to(self, device: torch.device) -> Rollout:
        """The same on a device."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        moved: dict[str, Any] = {name: x.to(device) for name, x in values.items() if isinstance(x, Tensor)}
        return dataclasses.replace(self, **moved)


class Collector:
    """Owns the simulators: each worker thread steps its own share of the tasks and evaluates their policies.

    A task's trajectories depend on its task, parameters and seed alone: neither on the other tasks nor on the number
    of threads.
    """

    def __init__(
        self, family: TaskFamily, policy: GaussianPolicy, n_tasks: int, n_envs: int, workers: Workers, horizon: int = 0
    ) -> None:
        self.family = family
        self.policy = policy
        self.n_tasks = n_tasks
        self.n_envs = n_envs
        self.workers = workers
        self.horizon = horizon or family.spec.horizon
        n_shards = min(workers.n_threads, n_tasks)
        bounds = np.linspace(0, n_tasks, n_shards + 1).astype(int)
        self._shards = [slice(int(a), int(b)) for a, b in itertools.pairwise(bounds)]
        self._simulators = [
            family.simulator(s.stop - s.start, n_envs, max(1, workers.n_threads // n_shards)) for s in self._shards
        ]
        for shard, simulator in zip(self._shards, self._simulators, strict=True):
            simulator.first_task = workers.group.first_task + shard.start

    def close(self) -> None:
        """Release the simulators, worker processes included; harmless twice."""
        for simulator in self._simulators:
            simulator.close()

    def collect(
        self,
        params: Float[Tensor, "task P"],
        tasks: Tasks,
        seed: np.random.SeedSequence,
        deterministic: bool = False,
        explore: bool = False,
    ) -> Rollout:
        """One episode per task and environment under params; deterministic acts by the mean.

        explore: a policy that makes guesses before adaptation (`GaussianMLP.guess_std`) does; they stand behind the
        observations. Task i, counted among those of all processes, draws its initial states, action noise and guesses
        from child i of the seed. params are on the CPU.
        """
        if len(tasks) != self.n_tasks or len(params) != self.n_tasks:
            raise ValueError(f"got {len(tasks)} tasks and {len(params)} parameter rows for {self.n_tasks} tasks")
        spec = self.family.spec
        shape = (self.n_tasks, self.n_envs, self.horizon)
        guessing = self.policy if explore and isinstance(self.policy, GaussianMLP) and self.policy.guess_dim else None
        n_guess = guessing.guess_dim if guessing else 0
        obs_dim = spec.obs_dim + n_guess
        with torch.no_grad():
            # The log-std does not depend on the observation.
            _, log_std = self.policy.distribution(params, torch.zeros(self.n_tasks, 1, obs_dim))
        buffers = _Buffers(
            obs=_zeros(*shape, obs_dim),
            noise=_zeros(*shape, spec.act_dim),
            mean=_zeros(*shape, spec.act_dim),
            reward=_zeros(*shape),
            valid=np.zeros(shape, bool),
            terminated=np.zeros(shape[:2], bool),
        )
        std = log_std.exp().numpy() * (0.0 if deterministic else 1.0)
        seeds = children(seed, self.n_tasks, self.workers.group.first_task)
        diverged_before = sum(simulator.n_diverged for simulator in self._simulators)

        def run(i: int) -> None:
            shard = self._shards[i]
            self._collect_shard(
                self._simulators[i],
                buffers.rows(shard),
                params[shard],
                tasks[shard],
                seeds[shard],
                std[shard],
                guessing,
            )

        self.workers.map(run, range(len(self._shards)))
        self._check_rewards(buffers.reward)
        action = buffers.noise
        action *= std[:, None, None, :]
        action += buffers.mean
        return Rollout(
            obs=torch.from_numpy(buffers.obs),
            action=torch.from_numpy(action),
            mean=torch.from_numpy(buffers.mean),
            log_std=log_std,
            reward=torch.from_numpy(buffers.reward),
            valid=torch.from_numpy(buffers.valid),
            terminated=torch.from_numpy(buffers.terminated),
            n_diverged=sum(simulator.n_diverged for simulator in self._simulators) - diverged_before,
            n_guess=n_guess,
        )

    def _check_rewards(self, reward: np.ndarray) -> None:
        """A family's reward that is not finite would only show later, as parameters that are not."""
        finite = np.isfinite(reward)
        if not finite.all():
            task, env, t = (int(i) for i in np.argwhere(~finite)[0])
            number = self.workers.group.first_task + task
            raise ValueError(
                f"{self.family.name} returned a reward of {reward[task, env, t]} (task {number}, environment {env}, "
                f"step {t}); correct the family's reward"
            )

    def _collect_shard(
        self,
        simulator: RowSimulator,
        out: _Buffers,
        params: Tensor,
        tasks: Tasks,
        seeds: list[np.random.SeedSequence],
        std: np.ndarray,
        guessing: GaussianMLP | None,
    ) -> None:
        rngs = [np.random.default_rng(seed) for seed in seeds]
        obs = simulator.reset(tasks, rngs)
        for noise, rng in zip(out.noise, rngs, strict=True):
            rng.standard_normal(dtype=np.float32, out=noise)
        guesses = None if guessing is None else np.stack([guessing.guesses(self.n_envs, rng) for rng in rngs])
        actor = self.policy.actor(params)
        active = np.ones(out.terminated.shape, dtype=bool)
        all_active = True
        std = std[:, None, :]
        for t in range(self.horizon):
            self.workers.check()
            obs_t = obs.astype(np.float32)
            if guesses is not None:
                obs_t = np.concatenate([obs_t, guesses], axis=-1)
            mean_t = actor(torch.from_numpy(obs_t)).numpy()
            step = simulator.step(mean_t + std * out.noise[:, :, t], None if all_active else active)
            out.obs[:, :, t] = obs_t
            out.mean[:, :, t] = mean_t
            out.reward[:, :, t] = step.reward
            out.valid[:, :, t] = active
            obs = step.obs
            if step.terminated.any():
                np.logical_or(out.terminated, step.terminated, out=out.terminated)
                active = active & ~step.terminated
                all_active = False
                if not active.any():
                    break
        if not all_active:
            ended = ~out.valid
            out.obs[ended] = 0.0
            out.mean[ended] = 0.0
            out.noise[ended] = 0.0


def _zeros(*shape: int) -> np.ndarray:
    """float32 zeros that start at a multiple of 64 bytes, as torch's memory does and numpy's need not.

    The last bit of a matrix product depends on it, and with it whether the same seed gives the same bits.
    """
    return torch.zeros(shape).numpy()


@dataclass(frozen=True)
class _Buffers:
    """Arrays of a rollout in the making; worker threads fill disjoint task rows of them."""

    obs: np.ndarray
    noise: np.ndarray
    mean: np.ndarray
    reward: np.ndarray
    valid: np.ndarray
    terminated: np.ndarray

    def rows(self, tasks: slice) -> _Buffers:
        return _Buffers(
            self.obs[tasks],
            self.noise[tasks],
            self.mean[tasks],
            self.reward[tasks],
            self.valid[tasks],
            self.terminated[tasks],
        )
