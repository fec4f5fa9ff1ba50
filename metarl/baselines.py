"""The baselines that meta-learning has to beat, as in Finn et al. 2017 section 5.3: their settings and folders.

oracle: a policy that sees the goal; an upper bound. pretrained: one policy for all training tasks, which it cannot tell
apart, to be adapted as the meta-trained one is. (The third, a random initialisation, needs no training.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from .config import EnvConfig, PolicyConfig
from .runs import read_json
from .saved_policy import SavedPolicy, load_policy

BaselineKind = Literal["oracle", "pretrained"]
KINDS: tuple[BaselineKind, ...] = get_args(BaselineKind)
FOLDER = Path("runs", "baselines")
RECORD = "baseline.json"


@dataclass(frozen=True)
class PPOConfig:
    """Proximal policy optimisation (Schulman et al. 2017) as Stable-Baselines3 has it.

    A time limit is no end to it: the value of the last state is added there. Without, the oracle of half-cheetah-vel
    (finn2017) learned more slowly and ended lower (one seed, 2 M steps, 5 epochs: -38.1 against -35.7), although the
    return that counts is the sum up to the limit. With 8 minibatches it ended lower too (-41.8).
    """

    hidden_sizes: tuple[int, ...] = (100, 100)
    """Units of each hidden layer of the policy, tanh."""
    value_hidden_sizes: tuple[int, ...] = (100, 100)
    """Units of each hidden layer of the value function, tanh."""
    init_std: float = 0.6
    """Initial standard deviation of an action, in units of its range [-1, 1]."""
    envs: int = 80
    """Environments side by side; an update uses an episode of each."""
    epochs: int = 10
    """Passes over the episodes an update."""
    minibatches: int = 16
    """Gradient steps a pass."""
    learning_rate: float = 1e-3
    """Adam's, falling linearly to 0."""
    discount: float = 0.99
    """Discount per control step."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation."""
    clip_range: float = 0.2
    """Clip of the likelihood ratio."""
    entropy_coef: float = 0.0
    """Weight of the entropy in the loss."""

    def __post_init__(self) -> None:
        for name in ("hidden_sizes", "value_hidden_sizes"):
            sizes = getattr(self, name)
            if not sizes or min(sizes) < 1:
                raise ValueError(f"{name} is {sizes}, but must be one or more positive numbers")
        for name in ("envs", "epochs", "minibatches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        for name in ("init_std", "learning_rate", "clip_range"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be above 0 and finite")
        for name in ("discount", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be between 0 and 1")
        if not 0 <= self.entropy_coef < math.inf:
            raise ValueError(f"entropy_coef is {self.entropy_coef}, but must be at least 0 and finite")


@dataclass(frozen=True)
class BaselineConfig:
    """Everything that decides a baseline."""

    kind: BaselineKind
    env: EnvConfig
    """The family; an oracle's observes the goal."""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    steps: int = 3_000_000
    """Environment steps; rounded up to whole updates."""
    seed: int = 0
    """Seed of every random number."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown baseline {self.kind!r}; allowed: {', '.join(KINDS)}")
        if self.env.oracle != (self.kind == "oracle"):
            raise ValueError(f"env.oracle is {self.env.oracle} for the {self.kind} baseline; only an oracle's is true")
        if self.steps < 1 or self.seed < 0:
            raise ValueError(f"steps is {self.steps} and seed {self.seed}, but they must be at least 1 and 0")

    @property
    def policy(self) -> PolicyConfig:
        """The policy that comes out of it."""
        return PolicyConfig(
            hidden_sizes=self.ppo.hidden_sizes, activation="tanh", init_std=self.ppo.init_std, normalise_obs=True
        )


def baseline_preset(kind: BaselineKind, env: EnvConfig) -> BaselineConfig:
    """The settings that were found to do well in an environment."""
    return BaselineConfig(kind, env)


def baseline_folder(kind: BaselineKind, env: EnvConfig, parent: Path = FOLDER) -> Path:
    """Where a baseline is kept, so that an evaluation finds it."""
    return parent / f"{env.name}-{env.protocol}-{kind}"


def baseline_command(kind: BaselineKind, env: EnvConfig, parent: Path = FOLDER) -> str:
    """The command line that makes a baseline for an evaluation in this environment."""
    words = ["metarl", "baseline", kind, env.name]
    if env.protocol != EnvConfig().protocol:
        words += ["--env.protocol", env.protocol]
    if env.horizon:
        words += ["--env.horizon", str(env.horizon)]
    if parent != FOLDER:
        words += ["--out", str(baseline_folder(kind, env, parent))]
    return " ".join(words)


@dataclass(frozen=True)
class Baselines:
    """Both trained baselines of an environment."""

    pretrained: SavedPolicy
    oracle: SavedPolicy
    facts: dict[str, dict[str, Any]]
    """How each was made, by kind: path, command, seed, env_steps, wall_s, finished."""


def load_baselines(env: EnvConfig, parent: Path = FOLDER) -> Baselines:
    """The baselines for runs in this environment.

    Raises FileNotFoundError with the command that makes a missing one; ValueError for a damaged one, or one of another
    environment, protocol or horizon.
    """
    policies: dict[str, SavedPolicy] = {}
    facts: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        policies[kind], facts[kind] = _load_baseline(kind, env, parent)
    return Baselines(policies["pretrained"], policies["oracle"], facts)


def _load_baseline(kind: BaselineKind, env: EnvConfig, parent: Path) -> tuple[SavedPolicy, dict[str, Any]]:
    folder, command = baseline_folder(kind, env, parent), baseline_command(kind, env, parent)
    if not (folder / RECORD).is_file():
        raise FileNotFoundError(f"there is no {kind} baseline {folder}; make it with '{command}'")
    policy, record = load_policy(folder), read_json(folder / RECORD)
    if policy.env.oracle != (kind == "oracle") or policy.env.name != env.name or policy.env.protocol != env.protocol:
        raise ValueError(f"{folder} holds another baseline than its name says; make it anew with '{command}'")
    found, wanted = policy.env.make().spec.horizon, env.make().spec.horizon
    if found != wanted:
        raise ValueError(
            f"{folder} was trained with a horizon of {found}, but the run has {wanted}; keep baselines for it "
            f"elsewhere: '{command} --out DIR/{folder.name}', then '--baselines DIR'"
        )
    try:
        fact = {key: record[key] for key in ("command", "seed", "env_steps", "wall_s", "finished")}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / RECORD} is damaged: it lacks {error}; make it anew with '{command}'") from None
    return policy, {"path": str(folder), **fact}
