"""The state of a supervised training run, and its checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from metarl.adam import AdamState
from metarl.checkpoint_file import Parts, read_checkpoint, write_checkpoint

FORMAT = 1
_FACTS = (
    *("iteration", "wall_s", "n_skipped", "n_summed", "objective_sum", "norm_sum", "best_iteration", "best_score"),
    "moment_steps",
)


@dataclass(frozen=True)
class Interval:
    """Sums since the last row of metrics."""

    n: int = 0
    """Iterations."""
    objective: float = 0.0
    gradient_norm: float = 0.0


@dataclass(frozen=True)
class Best:
    """The latest meta-parameters that did as well on validation tasks as any before, up to a standard error."""

    iteration: int
    """Outer updates they had."""
    score: float
    """Of validation, the highest so far: a mean accuracy, or minus a median loss."""
    params: dict[str, Tensor]


@dataclass(frozen=True)
class SupervisedState:
    """Everything a run needs to go on; random numbers follow from the seed and the iteration."""

    iteration: int
    """Outer updates done."""
    params: dict[str, Tensor]
    """Meta-parameters by name."""
    moments: dict[str, AdamState] = field(default_factory=dict)
    """Of the outer optimiser."""
    best: Best | None = None
    """None before the first validation, and for data without validation tasks."""
    interval: Interval = Interval()
    n_skipped: int = 0
    """Outer updates left out because the meta-gradient was not finite."""
    wall_s: float = 0.0
    """Wall time spent in iterations so far (s)."""
    cpu_s: float = 0.0
    """CPU time of the process in them (s): what they cost on a machine that does other work too."""

    @property
    def chosen(self) -> dict[str, Tensor]:
        """The best meta-parameters on validation tasks, where there are any, else the last."""
        return self.params if self.best is None else self.best.params


def save_state(path: Path, state: SupervisedState) -> None:
    """Write a checkpoint; the file at path is the old one or the whole new one at any moment. OSError if it cannot."""
    tensors = {f"param/{name}": value for name, value in state.params.items()}
    for name, moments in state.moments.items():
        tensors |= {f"first/{name}": moments.first, f"second/{name}": moments.second}
    if state.best is not None:
        tensors |= {f"best/{name}": value for name, value in state.best.params.items()}
    content: dict[str, Any] = {
        "format": FORMAT,
        "kind": "supervised",
        "iteration": state.iteration,
        "wall_s": state.wall_s,
        "cpu_s": state.cpu_s,
        "n_skipped": state.n_skipped,
        "n_summed": state.interval.n,
        "objective_sum": state.interval.objective,
        "norm_sum": state.interval.gradient_norm,
        "best_iteration": -1 if state.best is None else state.best.iteration,
        "best_score": -math.inf if state.best is None else state.best.score,
        "moment_steps": {name: moments.n_steps for name, moments in state.moments.items()},
        # A copy of each: torch.save writes the whole storage that a view is of.
        **{name: value.detach().clone() for name, value in tensors.items()},
    }
    write_checkpoint(path, content, _parts(content))


def load_state(path: Path, like: Mapping[str, Tensor]) -> SupervisedState:
    """Read a checkpoint of a learner whose meta-parameters have the names and shapes of `like`.

    Raises FileNotFoundError if there is none, ValueError if it is damaged or of another learner.
    """
    content = read_checkpoint(path, FORMAT, ("kind", *_FACTS), _parts)
    params = _under("param/", content)
    found = {name: tuple(value.shape) for name, value in params.items()}
    wanted = {name: tuple(value.shape) for name, value in like.items()}
    if found != wanted:
        different = sorted(set(found.items()) ^ set(wanted.items()))
        raise ValueError(
            f"the checkpoint {path} does not belong to this run: its meta-parameters differ from the settings' in "
            f"{', '.join(dict.fromkeys(name for name, _ in different))}"
        )
    best = Best(content["best_iteration"], content["best_score"], _under("best/", content))
    first, second = _under("first/", content), _under("second/", content)
    fitting = first.keys() == second.keys() == content["moment_steps"].keys()
    if not fitting or set(best.params) not in (set(), set(params)):
        raise ValueError(
            f"the checkpoint {path} is damaged: its parts do not fit; restore it from a copy or train again"
        )
    return SupervisedState(
        iteration=content["iteration"],
        params=params,
        moments={name: AdamState(first[name], second[name], n) for name, n in content["moment_steps"].items()},
        best=best if best.iteration >= 0 else None,
        interval=Interval(content["n_summed"], content["objective_sum"], content["norm_sum"]),
        n_skipped=content["n_skipped"],
        wall_s=content["wall_s"],
        cpu_s=content.get("cpu_s", 0.0),  # older checkpoints have none
    )


def iterations_done(path: Path) -> int:
    """Outer updates of the state in a checkpoint; 0 if there is none. ValueError if it is damaged."""
    if not path.is_file():
        return 0
    return int(read_checkpoint(path, FORMAT, ("kind", *_FACTS), _parts)["iteration"])


def _parts(content: Mapping[str, Any]) -> Parts:
    return tuple(name for name in content if "/" in name), _FACTS


def _under(prefix: str, content: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in content.items() if name.startswith(prefix)}
