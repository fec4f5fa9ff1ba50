"""The outer step: meta-parameters follow a meta-gradient, at a rate that may fall in the course of training.

  adam   Kingma and Ba 2015; each entry has its own moments (`metarl.adam`)
  sgd    params - lr * gradient. Reptile's step of size epsilon towards the adapted parameters is this one, since its
         meta-gradient is params - adapted (Nichol et al. 2018, algorithm 2)

Entries that a `MetaGradient` replaces, running statistics, take their new values; entries with neither stay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from metarl.adam import AdamState, adam_step, init_adam

from .learner import MetaGradient

Moments = Mapping[str, AdamState]
"""State of the outer optimiser by name of the meta-parameter; empty before the first step and for sgd."""


@dataclass(frozen=True)
class OuterConfig:
    """The outer optimiser."""

    optimiser: Literal["adam", "sgd"] = "adam"
    """Adam, or plain gradient descent; Reptile's meta-step is the latter."""
    lr: float = 1e-3
    """Step size. MAML, prototypical networks and most others: 0.001 with Adam."""
    beta_1: float = 0.9
    """Adam's decay of the mean gradient."""
    schedule: Literal["constant", "linear", "cosine", "halving"] = "constant"
    """How the step size goes: stays; falls to final_lr in a line or half a cosine; is halved every so often."""
    final_lr: float = 0.0
    """Step size at the end of a linear or cosine schedule. MAML++: 0.00001."""
    halve_every: int = 2000
    """Iterations between halvings. Prototypical networks: 2000."""
    clip_value: float = 0.0
    """Bound of the absolute value of each entry of the meta-gradient, 0 for none. MAML on mini-ImageNet: 10."""
    clip_norm: float = 0.0
    """Bound of the norm of the meta-gradient, 0 for none. Meta-LSTM: 0.25."""

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr}, but must be positive")
        if not 0 <= self.beta_1 < 1:
            raise ValueError(f"beta_1 is {self.beta_1}, but must be in [0, 1)")
        if self.halve_every < 1:
            raise ValueError(f"halve_every is {self.halve_every}, but must be at least 1")
        for name in ("final_lr", "clip_value", "clip_norm"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 0")


def step_size(config: OuterConfig, iteration: int, iterations: int) -> float:
    """lr of an iteration, counted from 0, of so many."""
    progress = iteration / iterations
    if config.schedule == "linear":
        return config.lr + (config.final_lr - config.lr) * progress
    if config.schedule == "cosine":
        return config.final_lr + (config.lr - config.final_lr) * 0.5 * (1 + math.cos(math.pi * progress))
    if config.schedule == "halving":
        return config.lr * 0.5 ** (iteration // config.halve_every)
    return config.lr


def gradient_norm(gradient: Mapping[str, Tensor]) -> float:
    """Euclidean norm over all entries."""
    if not gradient:
        return 0.0
    return float(torch.stack([value.norm() for value in gradient.values()]).norm())


def outer_step(
    config: OuterConfig, params: Mapping[str, Tensor], update: MetaGradient, moments: Moments, lr: float, norm: float
) -> tuple[dict[str, Tensor], dict[str, AdamState]]:
    """Meta-parameters and moments after one step. Mutates nothing.

    norm: of update.gradient, as `gradient_norm` gives it.
    """
    after, states = dict(params), dict(moments)
    scale = config.clip_norm / norm if 0 < config.clip_norm < norm else 1.0
    for name, raw in update.gradient.items():
        gradient = raw * scale
        if config.clip_value:
            gradient = gradient.clamp(-config.clip_value, config.clip_value)
        if config.optimiser == "sgd":
            step = lr * gradient
        else:
            states[name], step = adam_step(states.get(name) or init_adam(gradient), gradient, lr, config.beta_1)
        after[name] = params[name] - step
    after.update(update.replaced)
    return after, states
