"""What a family's own functions return, checked: a mistake in them is named where it is made.

A reward that is not a number, say, would else only show an iteration later, as parameters that are none. Shapes, types
and numbers are looked at in every step, which costs a thousandth of it. ValueError in every case, since the remedy is
in the user's code; 'metarl check' says more.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from .family import Family, State

LARGEST = float(np.finfo(np.float32).max)
"""Learning is in float32."""
Returned = dict[str, np.ndarray]


def initial_state(family: Family, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """qpos (nq,) and qvel (nv,) of `reset`."""
    returned = call(family, "reset", rng)
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise ValueError(_wrong(family, "reset", f"{type(returned).__name__}; expected (qpos, qvel)"))
    sizes = (("qpos", family.model.nq), ("qvel", family.model.nv))
    qpos, qvel = (
        numbers(family, "reset", value, (size,), f"{name} of ")
        for value, (name, size) in zip(returned, sizes, strict=True)
    )
    return qpos, qvel


def observation(family: Family, state: State, goal: np.ndarray) -> np.ndarray:
    """(row, obs) float64 of `observe`, behind it the goal for an oracle; a new array. Not yet checked to be finite."""
    observed = call(family, "observe", state, goal, through="observation")
    return numbers(family, "observe", observed, (len(goal), family.spec.obs_dim))


def reward(family: Family, qpos_before: np.ndarray, state: State, action: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """(row,) float64 of `reward`; a new array. Not yet checked to be finite."""
    return numbers(family, "reward", call(family, "reward", qpos_before, state, action, goal), (len(goal),))


def done(family: Family, state: State, goal: np.ndarray) -> np.ndarray:
    """(row,) bool of `done`; a new array."""
    ended = np.array(call(family, "done", state, goal))
    if ended.shape != (len(goal),) or ended.dtype != np.bool_:
        raise ValueError(_wrong(family, "done", f"{_kind(ended)}; expected shape ({len(goal)},) of bool"))
    return ended


def controls(family: Family, action: np.ndarray) -> np.ndarray:
    """(row, nu) float64 of `controls`."""
    returned = call(family, "controls", action)
    return numbers(family, "controls", returned, (len(action), family.model.nu))


def info(family: Family, qpos_before: np.ndarray, state: State) -> Returned:
    """The arrays (row,) of `info`, which are shown and not learned from: they need not be finite."""
    returned = call(family, "info", qpos_before, state)
    if not isinstance(returned, dict):
        raise ValueError(_wrong(family, "info", f"{type(returned).__name__}; expected a dict of arrays"))
    shape = (len(qpos_before),)
    return {name: numbers(family, "info", value, shape, f"{name!r}: ") for name, value in returned.items()}


def require_finite(family: Family, method: str, values: np.ndarray, n_envs: int, first_task: int = 0) -> None:
    """ValueError for a number that is not finite in float32. values: (row, ...), row task * n_envs + env.

    first_task: number of the first of these tasks, where they are a share of all.
    """
    within = np.abs(values) <= LARGEST  # false for NaN too
    if not within.all():
        first = tuple(int(i) for i in np.argwhere(~within)[0])
        task, env = divmod(first[0], n_envs)
        where = f"component {first[1]}, " if len(first) > 1 else ""
        found = f"{values[first]} ({where}task {first_task + task}, environment {env})"
        raise ValueError(_wrong(family, method, found, "look for a division by zero, log or sqrt"))


def call(family: Family, method: str, *arguments: Any, through: str = "") -> Any:
    """What a function of the family returns. ValueError with its place for whatever it raises.

    through: the function that calls it, if another one does.
    """
    try:
        return getattr(family, through or method)(*arguments)
    except Exception as error:
        said = f"{family.name}: {method} raised {type(error).__name__}: {error}"
        where = place(error).rstrip(": ")
        raise ValueError(f"{said} ({where}); correct the line named" if where else said) from error


def numbers(family: Family, method: str, value: Any, shape: tuple[int, ...], part: str = "") -> np.ndarray:
    """A new float64 array of a shape. ValueError for another, or for what are no numbers."""
    got = np.array(value)
    if got.shape != shape or got.dtype.kind not in "biuf":
        raise ValueError(_wrong(family, method, f"{part}{_kind(got)}; expected shape {shape} of numbers"))
    return got.astype(np.float64, copy=False)


def place(error: BaseException) -> str:
    """Where in a file that is not installed an exception came from: "my_module.py, line 3: "."""
    ours, library = Path(__file__).parent, Path(os.__file__).parent
    trace, found = error.__traceback__, ""
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        installed = library in file.parents or "site-packages" in file.parts
        if file.parent != ours and file.suffix == ".py" and not installed:
            found = f"{file.name}, line {trace.tb_lineno}: "
        trace = trace.tb_next
    return found


def _kind(array: np.ndarray) -> str:
    return f"shape {array.shape} of {array.dtype}"


def _wrong(family: Family, method: str, what: str, hint: str = "") -> str:
    check = f"'metarl check {type(family).__module__}:{type(family).__name__}' says more"
    return f"{family.name}: {method} returned {what}; {hint or check}"
