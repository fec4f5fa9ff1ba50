"""Named settings per environment: `paper` (Finn et al. 2017), `default` (what learns fastest here) and `demo`."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from metarl.envs import ProtocolName, family_class

from .algorithms.maml import InnerLoop
from .algorithms.maml_trpo import MAMLTRPO
from .algorithms.registry import ALGORITHMS, DEFAULT_ALGORITHM, AlgorithmName
from .baselines import baseline_folder, baseline_preset
from .config import EnvConfig, PolicyConfig, TrainConfig
from .losses import ValueBaseline

PresetName = Literal["default", "paper", "demo", "guided"]
PRESETS: dict[PresetName, str] = {
    "default": "the fastest-learning settings found here, in either protocol",
    "paper": "Finn et al. 2017: protocol finn2017 and the settings of the paper and its scripts",
    "demo": "default, in fewer iterations: a first result in minutes",
    "guided": "start from 'metarl baseline oracle ENV', whose goal becomes a context to adapt: few steps",
}


@dataclass(frozen=True)
class GuidedStart:
    """How an oracle's goal becomes a context, and how adaptation moves it.

    The inner step size is small, so that one step on 20 trajectories moves the context but hardly adds noise to the
    thousands of weights; the context's scale makes up for it. With both, a step moves the scaled goal by
    0.005 x 27^2 = 3.6 times its gradient: on the Ants, whose oracles act with a standard deviation of about 0.28, from
    the middle to most goals. The gradient grows as that spread falls, so that the scale, or that of later steps, has to
    fall with it, and from a spread of a twentieth leads nowhere: results/guided-starts.json.
    """

    context_scale: float = 27.0
    min_std: float = 0.0
    """Least standard deviation of the start's actions; with guesses, of episodes before adaptation."""
    guess_std: float = 0.0
    """Of the guesses before adaptation: see `GaussianMLP`."""
    guess_weight: float = 0.0
    """Of the guesses' likelihood in the first gradient step: which guesses did well says where the goal is."""
    later_lr_ratio: float = 0.5
    baseline: ValueBaseline = "ridge"
    """by-episode with guesses: each episode is of another behaviour."""
    gae_lambda: float | None = None
    """None: that of the default preset."""
    max_kl: float = 0.03
    """Trust region: where adapted actions spread little, as a point's, a step within 0.03 moves nothing."""
    trajectories: int = 20
    """A task and gradient step. Paper: 40 for ant-dir."""


GUIDED_INNER_LR = 0.005
ALMOST_NONE = 0.01
"""Standard deviation of guesses where goals are opposite: actions spread before adaptation, and not after it."""
GUIDED_POINT = GuidedStart(7.0, min_std=0.15, guess_std=1.0, later_lr_ratio=0.03, baseline="by-episode", max_kl=5.0)
GUIDED_START: dict[tuple[str, ProtocolName], GuidedStart] = {
    ("half-cheetah-vel", "finn2017"): GuidedStart(12.0, min_std=0.2),
    ("half-cheetah-vel", "modern"): GuidedStart(
        10.0, min_std=0.12, guess_std=1.0, guess_weight=1.0, later_lr_ratio=0.05, baseline="by-episode"
    ),
    ("half-cheetah-dir", "finn2017"): GuidedStart(23.0, min_std=0.35, guess_std=ALMOST_NONE, later_lr_ratio=0.1),
    ("half-cheetah-dir", "modern"): GuidedStart(15.0, min_std=0.25, guess_std=ALMOST_NONE, later_lr_ratio=0.1),
    ("ant-dir", "finn2017"): GuidedStart(
        10.0, min_std=0.25, guess_std=0.8, guess_weight=1.5, later_lr_ratio=0.1, gae_lambda=0.7, trajectories=40
    ),
    ("ant-dir", "modern"): GuidedStart(20.0),
    ("ant-dir-2d", "modern"): GuidedStart(36.0),
    ("ant-vel", "finn2017"): GuidedStart(10.0, guess_std=1.0, guess_weight=1.5, later_lr_ratio=0.25, gae_lambda=0.7),
    ("ant-vel", "modern"): GuidedStart(10.0, guess_std=1.2, guess_weight=2.0, later_lr_ratio=0.25, gae_lambda=0.4),
    ("ant-goal", "modern"): GuidedStart(45.0, guess_std=0.5, later_lr_ratio=0.25, gae_lambda=0.4),
    ("point-nav", "finn2017"): GUIDED_POINT,
    ("point-nav", "modern"): GUIDED_POINT,
    ("point-nav-sparse", "modern"): GuidedStart(
        3.0, min_std=0.05, guess_std=1.0, guess_weight=80.0, later_lr_ratio=0.03, baseline="by-episode", max_kl=1.0
    ),
}
"""Elsewhere its defaults."""
# 16 and 40 iterations, of the Ant's directions and the cheetah's velocities, moved the return after a step no further.
GUIDED_ITERATIONS = 10


def preset(
    env_name: str,
    name: str = "default",
    protocol: ProtocolName | None = None,
    algorithm: AlgorithmName = DEFAULT_ALGORITHM,
) -> TrainConfig:
    """The settings of a preset for an environment; protocol None is the preset's own.

    Raises ValueError with close matches for an unknown preset or environment.
    """
    # An unknown environment or protocol is an error here, not after the run folder is made.
    family_class(env_name).check_protocol(protocol or ("finn2017" if name == "paper" else "modern"))
    if name == "paper":
        return with_algorithm(_paper(env_name, protocol or "finn2017"), algorithm)
    if name == "default":
        return with_algorithm(_default(env_name, protocol or "modern"), algorithm)
    if name == "demo":
        return with_algorithm(_demo(env_name, protocol or "modern"), algorithm)
    if name == "guided":
        where = (env_name, protocol or "modern")
        return with_algorithm(guided(*where, GUIDED_START.get(where, GuidedStart())), algorithm)
    close = difflib.get_close_matches(name, PRESETS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"allowed: {', '.join(PRESETS)}"
    raise ValueError(f"unknown preset {name!r}; {hint}")


def _paper(env_name: str, protocol: ProtocolName) -> TrainConfig:
    """Section 5.3 and appendix A.2 of the paper; where the scripts of cbfinn/maml_rl differ, the scripts."""
    algo = MAMLTRPO(inner_lr=0.1, gae_lambda=1.0, discount=0.99, max_kl=0.01, surrogate="log_prob")
    config = TrainConfig(
        env=EnvConfig(name=env_name, protocol=protocol),
        policy=PolicyConfig(hidden_sizes=(100, 100), activation="relu", init_std=1.0),
        algo=algo,
        iterations=500,
        meta_batch=40,
        trajectories=20,
    )
    if env_name.startswith("point-nav"):
        return replace(config, algo=replace(algo, inner_lr=0.5), meta_batch=20, iterations=100)
    if env_name == "half-cheetah-dir":
        return replace(config, algo=replace(algo, max_kl=0.02))
    if env_name == "ant-dir":
        return replace(config, trajectories=40)
    return config


def _default(env_name: str, protocol: ProtocolName) -> TrainConfig:
    """Against the paper's: normalised observations (by far the most), tanh, lambda below 1, more and larger updates."""
    algo = MAMLTRPO(inner_lr=0.1, gae_lambda=0.95, discount=0.99, max_kl=0.03, surrogate="log_prob")
    config = TrainConfig(
        env=EnvConfig(name=env_name, protocol=protocol),
        policy=PolicyConfig(hidden_sizes=(100, 100), activation="tanh", init_std=1.0, normalise_obs=True),
        algo=algo,
        iterations=200,
        # Instead of the paper's 40; ahead of 20 tasks in as many steps with each of three seeds (docs/learning.md).
        meta_batch=10,
        trajectories=20,
    )
    if env_name.startswith("point-nav"):
        # Two observations, of the same size already; the first step size is that of the paper's script. An initial
        # policy that drifts off is a local optimum, hence the small last layer. The gradient grows as the spread of
        # the actions falls, hence its floor and the smaller later steps.
        return replace(
            config,
            policy=replace(config.policy, normalise_obs=False, output_scale=0.1, min_std=0.3),
            algo=replace(algo, inner_lr=0.5, later_lr_ratio=0.25),
            # Of the paper, and no better with 10.
            meta_batch=20,
        )
    if protocol == "finn2017" and env_name == "half-cheetah-vel":
        # Speed answers to actions of half a second and more ago: a longer credit, which is noisier and bears larger
        # steps. After 100 iterations -85 instead of -92 on training tasks (one seed).
        return replace(config, algo=replace(algo, inner_lr=0.2, gae_lambda=0.98, max_kl=0.1))
    if protocol == "modern":
        # A control step is five times longer than in the paper's environment: credit for it fades sooner.
        return replace(
            config,
            policy=replace(config.policy, init_std=0.6),
            algo=replace(algo, gae_lambda=0.9, max_kl=0.04),
        )
    return config


def _demo(env_name: str, protocol: ProtocolName) -> TrainConfig:
    config = _default(env_name, protocol)
    return replace(config, iterations=40 if env_name.startswith("point-nav") else 160)


def guided(env_name: str, protocol: ProtocolName, start: GuidedStart) -> TrainConfig:
    """From the oracle baseline, with its goal as a context that the inner step moves (`goal_as_context`).

    MAML from random weights has first to find that tasks differ: at the start the policy gradients of opposite goals
    cancel, and of an Ant nothing is left of them but noise. An oracle learns each task from its own reward, in a
    fraction of the steps; with its goal as a context at the middle of the goals, one gradient step already leads to
    every task. The goals serve training alone; adaptation never sees them.
    """
    config = _default(env_name, protocol)
    assert isinstance(config.algo, MAMLTRPO)
    oracle = EnvConfig(name=env_name, protocol=protocol, oracle=True)
    like = baseline_preset("oracle", oracle).policy
    goal_dim = config.env.make().spec.goal_dim
    algo = replace(
        config.algo,
        inner_lr=GUIDED_INNER_LR,
        later_lr_ratio=start.later_lr_ratio,
        baseline=start.baseline,
        guess_weight=start.guess_weight,
        gae_lambda=config.algo.gae_lambda if start.gae_lambda is None else start.gae_lambda,
        max_kl=start.max_kl,
    )
    return replace(
        config,
        policy=replace(like, context_dim=goal_dim, context_scale=start.context_scale, guess_std=start.guess_std),
        algo=algo,
        init=str(baseline_folder("oracle", oracle)),
        init_min_std=start.min_std,
        iterations=GUIDED_ITERATIONS,
        meta_batch=20,
        trajectories=start.trajectories,
    )


# Fields of the inner loop that an algorithm does not take from the preset, since they belong to what it is.
OWN_INNER: dict[AlgorithmName, tuple[str, ...]] = {"promp": ("surrogate",)}

# Point navigation bears larger outer steps than the algorithms' own, and needs few of them. With Reptile's step of 1
# the spread of the actions collapses and the adapted policies jump.
POINT_OUTER_LR: dict[AlgorithmName, float] = {
    "maml-vpg": 0.01,
    "maml-ppo": 0.003,
    "promp": 0.003,
    "e-maml": 0.003,
    "reptile": 0.5,
}
POINT_ITERATIONS: dict[AlgorithmName, int] = {
    "fo-maml": 40,
    "meta-sgd": 40,
    "maml-vpg": 40,
    "maml-ppo": 25,
    "promp": 25,
    "e-maml": 25,
    "reptile": 60,
}


def with_algorithm(config: TrainConfig, algorithm: AlgorithmName) -> TrainConfig:
    """A preset of MAML-TRPO for another algorithm: the same inner loop, and its own outer one."""
    settings = ALGORITHMS[algorithm].settings
    on_point = config.env.name.startswith("point-nav")
    if on_point and algorithm in POINT_ITERATIONS:
        config = replace(config, iterations=min(config.iterations, POINT_ITERATIONS[algorithm]))
    if isinstance(settings, MAMLTRPO):
        own = {name: getattr(settings, name) for name in ("first_order", "learn_inner_lr")}
        return replace(config, algo=replace(config.algo, **own))
    names = [field.name for field in fields(InnerLoop) if field.name not in OWN_INNER.get(algorithm, ())]
    inner: dict[str, Any] = {name: getattr(config.algo, name) for name in names}
    outer: dict[str, Any] = {"outer_lr": POINT_OUTER_LR[algorithm]} if on_point else {}
    return replace(config, algo=replace(settings, **inner, **outer))
