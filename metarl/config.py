"""The settings of a training run as one tree of frozen dataclasses. The command line and TOML files derive from it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import tyro

from metarl.envs import ProtocolName, TaskFamily, make_task_family
from metarl.policies import Activation, GaussianMLP, ObsNormaliser

from .algorithms.maml_trpo import MAMLTRPO
from .algorithms.registry import ALGORITHMS, Algo, AlgorithmName, algorithm_name
from .settings import nearest, require_countable, require_finite, settings_from_dict

Config = TypeVar("Config")


@dataclass(frozen=True)
class EnvConfig:
    """Which family of tasks."""

    name: Annotated[str, tyro.conf.Suppress] = "half-cheetah-dir"
    """Registered name of the environment family; `metarl list` shows them."""
    protocol: ProtocolName = "modern"
    """modern: Gymnasium's physics and time step. finn2017: the paper's own environment."""
    oracle: bool = False
    """Append the goal to the observation (an upper bound, not meta-learning)."""
    horizon: int = 0
    """Control steps per episode; 0 for the family's own (200; 100 for the point)."""

    def __post_init__(self) -> None:
        if self.horizon < 0:
            raise ValueError(f"horizon is {self.horizon}, but must be at least 0 (0: the family's own)")

    def make(self) -> TaskFamily:
        """The family, with this horizon."""
        family = make_task_family(self.name, self.protocol, self.oracle)
        if self.horizon:
            family.horizon = self.horizon
        return family


@dataclass(frozen=True)
class PolicyConfig:
    """The Gaussian MLP policy."""

    hidden_sizes: tuple[int, ...] = (100, 100)
    """Units of each hidden layer. Paper: 100 100."""
    activation: Activation = "tanh"
    """Nonlinearity. Paper: relu."""
    init_std: float = 1.0
    """Initial standard deviation of an action, in units of its range [-1, 1]. Paper: 1."""
    min_std: float = 1e-6
    """Floor of the standard deviation."""
    output_scale: float = 1.0
    """Factor on the initial weights of the last layer, above 0. Paper: 1; near 0 the initial policy stands still."""
    normalise_obs: bool = False
    """Scale observations by their mean and standard deviation under random actions, measured once before training."""
    context_dim: int = 0
    """Entries of a context vector, an input that adaptation moves (Zintgraf et al. 2019, CAVIA); paper: 0."""
    context_scale: float = 1.0
    """Factor on the context; a gradient step moves it by the factor's square times the inner step size."""
    guess_std: float = 0.0
    """Episodes before adaptation add a guess of this standard deviation to the scaled context, to explore; paper: 0."""

    def __post_init__(self) -> None:
        if not self.hidden_sizes or min(self.hidden_sizes) < 1:
            raise ValueError(f"hidden_sizes is {self.hidden_sizes}, but must be one or more positive numbers")
        if not self.min_std > 0 or not self.init_std >= self.min_std:
            raise ValueError(
                f"init_std {self.init_std} and min_std {self.min_std} must satisfy 0 < min_std <= init_std"
            )
        if self.context_dim < 0 or not self.context_scale > 0:
            raise ValueError(
                f"context_dim is {self.context_dim} and context_scale {self.context_scale}, but they must be at "
                "least 0 and above 0"
            )
        if not self.guess_std >= 0 or (self.guess_std and not self.context_dim):
            raise ValueError(f"guess_std is {self.guess_std}, but must be 0, or positive with a context_dim above 0")

    def make(self, family: TaskFamily, normaliser: ObsNormaliser | None = None) -> GaussianMLP:
        """A policy of the family's dimensions."""
        return GaussianMLP(
            obs_dim=family.spec.obs_dim,
            act_dim=family.spec.act_dim,
            hidden_sizes=self.hidden_sizes,
            activation=self.activation,
            init_log_std=math.log(self.init_std),
            min_log_std=math.log(self.min_std),
            output_scale=self.output_scale,
            normaliser=normaliser,
            context_dim=self.context_dim,
            context_scale=self.context_scale,
            guess_std=self.guess_std,
        )


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run's result."""

    env: EnvConfig = field(default_factory=EnvConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    # Without subcommands: the options are those of the algorithm that the default is of.
    algo: tyro.conf.AvoidSubcommands[Algo] = field(default_factory=MAMLTRPO)
    iterations: int = 500
    """Outer updates."""
    meta_batch: int = 40
    """Tasks per iteration."""
    trajectories: int = 20
    """Episodes per task, before adaptation and again after each inner step."""
    seed: int = 0
    """Seed of every random number of the run."""
    checkpoint_every: int = 5
    """Iterations between checkpoints; one is also written at the end, on Ctrl-C and on SIGTERM."""
    init: Annotated[str, tyro.conf.arg(metavar="PATH", help_behavior_hint="(default: random weights)")] = ""
    """Policy to start from: a policy folder, a run, or a zip of Stable-Baselines3's PPO."""
    init_scaling: Annotated[str, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: none)")] = ""
    """VecNormalize pickle that the zip was trained under."""
    init_min_std: Annotated[float, tyro.conf.arg(help_behavior_hint="(default: 0, its own)")] = 0.0
    """Standard deviation of an action, in units of its range, to which that of the policy to start from is raised where
    it is less: one that is sure of its actions shows adaptation little."""
    init_sha256: Annotated[str, tyro.conf.Suppress] = ""
    """Checksum of the files to start from, so that a run that is resumed has the same start."""

    def __post_init__(self) -> None:
        for name in ("iterations", "meta_batch", "trajectories", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, but must be at least 0")
        if not 0 <= self.init_min_std < math.inf:
            raise ValueError(f"init_min_std is {self.init_min_std}, but must be at least 0 and finite")
        if self.algo.guess_weight and not self.policy.guess_std:
            raise ValueError(
                f"guess_weight is {self.algo.guess_weight:g}, but the policy makes no guesses; give a "
                "guess_std above 0 too (--policy.guess-std), or leave guess_weight 0"
            )
        for table in ("policy", "algo"):
            require_finite(getattr(self, table), table)
        require_countable(self)


def config_to_dict(config: Any) -> dict[str, Any]:
    """A config as nested dicts and lists of plain values, for JSON; a TrainConfig with its algorithm's name."""
    named = {"algorithm": algorithm_name(config.algo)} if isinstance(config, TrainConfig) else {}
    return {**named, **dataclasses.asdict(config)}


def check_algorithm(name: str) -> AlgorithmName:
    """The name of an algorithm. ValueError with the nearest for one that there is not."""
    if not isinstance(name, str) or name not in ALGORITHMS:
        raise ValueError(f"unknown algorithm {name!r}; {nearest(str(name), ALGORITHMS)}")
    return name


def config_from_dict(base: Config, data: Any, where: str = "config") -> Config:
    """`base` with the given fields replaced, as TOML and JSON give them.

    For a TrainConfig, `algorithm` names the algorithm whose settings `algo` holds; without it, they are of base's.
    Raises ValueError naming the field for an unknown name (with close matches), a wrong type or a value out of range.
    """
    if isinstance(base, TrainConfig) and isinstance(data, dict) and "algorithm" in data:
        rest = {key: value for key, value in data.items() if key != "algorithm"}
        named = _with_algorithm(base, data["algorithm"], where)
        return config_from_dict(named, rest, where)  # type: ignore[return-value]  # of base's type
    return settings_from_dict(base, data, where)


def _with_algorithm(base: TrainConfig, name: Any, where: str) -> TrainConfig:
    try:
        same = check_algorithm(name) == algorithm_name(base.algo)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return base if same else dataclasses.replace(base, algo=ALGORITHMS[check_algorithm(name)].settings)
