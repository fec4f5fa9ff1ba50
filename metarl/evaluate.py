"""Adapt an initialisation to tasks step by step and measure the return after each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from metarl.envs import ChoiceTasks, TaskFamily, Tasks
from metarl.policies import GaussianMLP, GaussianPolicy

from .algorithms.maml import InnerLoop, MetaParams, adapt_tasks, batches_of
from .baselines import Baselines
from .rollout import Collector
from .seeding import Purpose, children, generator_for, seed_for
from .workers import Workers


@dataclass(frozen=True)
class AdaptationPath:
    """Adaptation of a batch of tasks."""

    params: list[Float[Tensor, "task P"]]
    """Parameters after 0, 1, ... k gradient steps."""
    returns: Float[np.ndarray, "step task"]
    """Undiscounted return under each of them, averaged over trajectories."""
    n_diverged: int
    """Simulations that diverged and were contained."""


def adaptation_path(
    algo: InnerLoop,
    family: TaskFamily,
    policy: GaussianPolicy,
    meta: MetaParams,
    tasks: Tasks,
    *,
    n_steps: int,
    trajectories: int,
    seed: np.random.SeedSequence,
    workers: Workers,
    on_step: Callable[[int], None] | None = None,
) -> AdaptationPath:
    """Take n_steps policy-gradient steps per task, each on fresh trajectories; the last policy is scored too.

    The first step has the run's step size, later ones `later_lr_ratio` of it. Raises ValueError for counts below 1
    (n_steps: below 0).
    """
    if n_steps < 0 or trajectories < 1:
        raise ValueError(f"{n_steps} gradient steps and {trajectories} trajectories: at least 0 and 1 are needed")
    collector = Collector(family, policy, len(tasks), trajectories, workers)
    params = [meta.theta.expand(len(tasks), -1)]
    returns, n_diverged = [], 0
    with closing(collector):
        for step, child in enumerate(children(seed, n_steps + 1)):
            rollout = collector.collect(params[-1], tasks, child, explore=step == 0)
            returns.append(rollout.episode_return.mean(1).double().numpy())
            n_diverged += rollout.n_diverged
            if step < n_steps:
                batches = batches_of(algo, rollout, workers)
                step_size = meta.step_size if step == 0 else algo.later_lr_ratio * meta.step_size
                params.append(adapt_tasks(algo, policy, params[-1], batches, step_size, workers))
            if on_step is not None:
                on_step(step)
    return AdaptationPath(params, np.stack(returns), n_diverged)


@dataclass(frozen=True)
class Summary:
    """Returns after 0, 1, ... steps over tasks."""

    mean: list[float]
    ci95: list[float]
    """Half width of the normal 95 % interval of the mean over tasks (1.96 s / sqrt(n))."""
    n_tasks: int


def summarise(returns: Float[np.ndarray, "step task"]) -> Summary:
    """Mean and 95 % interval over tasks; the interval of a single task is NaN."""
    n = returns.shape[1]
    spread = returns.std(axis=1, ddof=1) if n > 1 else np.full(len(returns), np.nan)
    return Summary(returns.mean(axis=1).tolist(), (1.96 * spread / np.sqrt(n)).tolist(), n)


def without_context(policy: GaussianPolicy) -> GaussianPolicy:
    """The same layers without a context and guesses."""
    if isinstance(policy, GaussianMLP):
        return replace(policy, context_dim=0, context_scale=1.0, guess_std=0.0)
    return policy


GENTLER = 0.2
"""Factor on the usual step size, for the pretrained policy to have the choice."""


@dataclass(frozen=True)
class Contender:
    """A policy to evaluate."""

    name: str
    family: TaskFamily
    """Decides what it observes: an oracle's has the goal."""
    algo: InnerLoop
    """How it is adapted."""
    policy: GaussianPolicy
    meta: MetaParams
    n_steps: int
    """Gradient steps; 0 for a policy that is not adapted."""


def contenders(
    algo: InnerLoop,
    family: TaskFamily,
    policy: GaussianPolicy,
    meta: MetaParams,
    n_steps: int,
    seed: int,
    baselines: Baselines | None,
    baseline_algo: InnerLoop | None = None,
) -> list[Contender]:
    """The meta-trained policy, a random initialisation and, if given, the trained baselines.

    A random initialisation is one of the same layers, without a context.

    baseline_algo: the inner loop of the others; None: all are adapted alike, with the same step size. A step size of
    each parameter is the meta-trained network's own; the pretrained policy takes their mean. That policy is there
    twice, to take whichever serves it better: also as the meta-trained one is adapted or, if that is how all are, by
    GENTLER steps, since a trained policy's actions spread little and its gradients are large.
    """
    others, step_size = algo, meta.step_size
    if baseline_algo is not None:
        others, step_size = baseline_algo, torch.tensor(baseline_algo.inner_lr)
    plain = without_context(policy)
    torch_seed = int(seed_for(seed, Purpose.RANDOM_INIT).generate_state(1)[0])
    random = plain.init(torch.Generator().manual_seed(torch_seed))
    out = [
        Contender("meta-trained", family, algo, policy, meta, n_steps),
        Contender("random initialisation", family, others, plain, MetaParams(random, step_size), n_steps),
    ]
    if baselines is not None:
        pretrained, oracle = baselines.pretrained, baselines.oracle
        ways = [(others, step_size.mean())]
        ways.append((algo, meta.step_size.mean() * (GENTLER if baseline_algo is None else 1.0)))
        for inner, size in ways:
            start = MetaParams(pretrained.theta, size)
            out.append(Contender("pretrained", pretrained.env.make(), inner, pretrained.network, start, n_steps))
        told = MetaParams(oracle.theta, step_size.mean())
        out.append(Contender("oracle", oracle.env.make(), others, oracle.network, told, 0))
    return out


def evaluate(
    algo: InnerLoop,
    family: TaskFamily,
    policy: GaussianPolicy,
    meta: MetaParams,
    *,
    n_tasks: int,
    n_steps: int,
    trajectories: int,
    seed: int,
    workers: Workers,
    baselines: Baselines | None = None,
    baseline_algo: InnerLoop | None = None,
    on_step: Callable[[str, int], None] | None = None,
) -> dict[str, Any]:
    """Returns on held-out tasks after 0 ... n_steps gradient steps, beside a random initialisation adapted as well.

    Every policy meets the same tasks, initial states and action noise. baseline_algo: how the others are adapted, see
    `contenders`.

    Plain values for JSON: "meta-trained" and "random initialisation", with baselines also "pretrained" and "oracle"
    (which takes no steps), each with mean, ci95 and returns per task; "groups" repeats the meta-trained summary per
    named task where the tasks are named ones (directions). With baselines also "baselines" (mean returns after 0, 1,
    ... steps; of the oracle one number), "baselines_made" and "score" (see `adaptation_score`).
    """
    tasks = family.tasks.sample(n_tasks, generator_for(seed, Purpose.EVAL_TASKS), "test")
    result: dict[str, Any] = {
        "n_tasks": n_tasks,
        "trajectories": trajectories,
        "seed": seed,
        "goals": tasks.goal.tolist(),
        "interval": "mean +- ci95 over tasks, ci95 = 1.96 standard errors",
    }
    for contender in contenders(algo, family, policy, meta, n_steps, seed, baselines, baseline_algo):
        name = contender.name
        path = adaptation_path(
            contender.algo,
            contender.family,
            contender.policy,
            contender.meta,
            tasks,
            n_steps=contender.n_steps,
            trajectories=trajectories,
            seed=seed_for(seed, Purpose.EVAL),
            workers=workers,
            on_step=None if on_step is None else lambda step, name=name: on_step(name, step),  # type: ignore[misc]
        )
        summary = summarise(path.returns)
        first = min(1, n_steps)
        if name in result and summary.mean[first] <= result[name]["mean"][first]:
            continue  # of a policy that is there twice the better after one step
        result[name] = {
            "inner_lr": float(contender.meta.step_size.mean()),
            "mean": summary.mean,
            "ci95": summary.ci95,
            "returns": path.returns.tolist(),
            "n_diverged": path.n_diverged,
        }
        if name == "meta-trained":
            result["groups"] = _by_named_task(family, tasks, path.returns)
    if baselines is not None:
        random, oracle = result["random initialisation"]["mean"], result["oracle"]["mean"][0]
        result["baselines"] = {"random": random, "pretrained": result["pretrained"]["mean"], "oracle": oracle}
        result["baselines_made"] = baselines.facts
        result["score"] = adaptation_score(result["meta-trained"]["mean"], random[0], oracle)
    return result


def adaptation_score(returns: Sequence[float], random: float, oracle: float) -> list[float]:
    """(return - random) / (oracle - random): 0 for an untrained policy, 1 for one that is told the goal.

    returns: after 0, 1, ... gradient steps. random: an untrained policy's before adaptation. All NaN if the oracle is
    no better than that.
    """
    if not oracle > random:
        return [math.nan] * len(returns)
    return [(value - random) / (oracle - random) for value in returns]


def _by_named_task(family: TaskFamily, tasks: Tasks, returns: np.ndarray) -> dict[str, Any]:
    if not isinstance(family.tasks, ChoiceTasks):  # a continuum of goals has no groups
        return {}
    goals, group = np.unique(tasks.goal, axis=0, return_inverse=True)
    out = {}
    for i, goal in enumerate(goals):
        summary = summarise(returns[:, group.reshape(-1) == i])
        out[family.describe(goal)] = {"mean": summary.mean, "ci95": summary.ci95, "n_tasks": summary.n_tasks}
    return out
