"""Randomised dynamics: the model fields a task changes, as `Family.dynamics` gives them, put into a model.

The batched simulator puts them into per-simulation fields of `mujoco.batch`, `task_model` into a model of its own for
pictures and for whoever wants the MjModel of a task; both run `mj_setConst` behind them when a field is one that
derived constants depend on (masses, inertias, geometry, armature, gears: `body_subtreemass`, `dof_M0`,
`dof_invweight0`, `body_invweight0`, `actuator_acc0` and others follow). A row of the batch and a loop over that MjModel
then agree to the bit.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float

from .family import Family

# What is drawn, and not simulated.
_PICTURE_ONLY = ("geom_rgba", "site_rgba", "mat_rgba", "tendon_rgba")
# MuJoCo's rule for fields that hold addresses, counts, ids and types: what must be the same in every simulation.
_STRUCTURE = ("adr", "num", "id", "type")


def has_dynamics(family: Family) -> bool:
    """Whether the family's tasks change its model."""
    return type(family).dynamics is not Family.dynamics


def task_fields(family: Family, goal: Float[np.ndarray, "row goal"]) -> dict[str, np.ndarray]:
    """The model fields (row, ...) of some tasks, checked.

    Raises ValueError for a field that MjModel does not have or that cannot differ between simulations, for a wrong
    shape, and for numbers that are not finite.
    """
    fields = {name: np.asarray(values) for name, values in family.dynamics(goal).items()}
    for name, values in fields.items():
        where = f"{type(family).__name__}.dynamics: {name!r}"
        template = _template(family.model, name, where)
        if values.shape != (len(goal), *template.shape):
            raise ValueError(
                f"{where} has shape {values.shape}, expected (row, ...) = {(len(goal), *template.shape)}; start from "
                f"np.repeat(self.model.{name}[None], len(goal), axis=0)"
            )
        finite = np.isfinite(values).reshape(len(goal), -1).all(axis=1)
        if not finite.all():
            row = int(np.flatnonzero(~finite)[0])
            raise ValueError(f"{where} is not finite for task {goal[row].tolist()}; correct the formula or the goal")
    return fields


def physical(names: Iterable[str]) -> list[str]:
    """Those of the fields that the simulation reads."""
    return [name for name in names if name not in _PICTURE_ONLY]


def derives_constants(names: Iterable[str]) -> bool:
    """Whether constants that MuJoCo computes from the model depend on one of the fields."""
    return any(name.startswith("opt.") or name in mujoco.MjModel._setconst_inputs for name in names)


def task_model(family: Family, goal: Float[np.ndarray, " goal"]) -> mujoco.MjModel:
    """A model of one task: the family's with the task's fields, and the constants derived from them."""
    model = copy.copy(family.model)
    fields = task_fields(family, np.asarray(goal, dtype=np.float64)[None])
    for name, values in fields.items():
        _put(model, name, values[0])
    if derives_constants(fields):
        mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def show_task(picture: mujoco.MjModel, family: Family, goal: Float[np.ndarray, " goal"]) -> None:
    """Change in a picture of the family what the task changes (sizes, places, colours), in place.

    picture: compiled from the family's spec, its own colours and markers added behind the family's bodies and geoms.
    """
    fields = task_fields(family, np.asarray(goal, dtype=np.float64)[None])
    for name, values in fields.items():
        if name.startswith("opt."):
            _put(picture, name, values[0])
        else:
            target, original = getattr(picture, name), getattr(family.model, name)
            changed = values[0] != original
            target[: len(original)][changed] = values[0][changed]
    if derives_constants(fields):
        mujoco.mj_setConst(picture, mujoco.MjData(picture))


def _put(model: mujoco.MjModel, name: str, value: np.ndarray) -> None:
    if not name.startswith("opt."):
        getattr(model, name)[...] = value
    elif value.ndim:
        getattr(model.opt, name[4:])[...] = value
    else:
        setattr(model.opt, name[4:], value.item())


def _template(model: mujoco.MjModel, name: str, where: str) -> np.ndarray:
    owner: Any = model.opt if name.startswith("opt.") else model
    value = getattr(owner, name.removeprefix("opt."), None)
    if name == "opt.timestep":
        raise ValueError(f"{where} cannot differ between tasks: it is the unit of the horizon and of velocities")
    if name.startswith("opt.") and isinstance(value, int | float):
        return np.asarray(value)
    if not isinstance(value, np.ndarray) or name.startswith("_"):
        names = [field for field in dir(model) if isinstance(getattr(model, field, None), np.ndarray)]
        names += ["opt." + field for field in dir(model.opt) if not field.startswith("_")]
        close = difflib.get_close_matches(name, names, n=2)
        hint = f"did you mean {' or '.join(close)}?" if close else "name an array of MjModel, or of its opt: 'opt.wind'"
        raise ValueError(f"{where} is not a model field; {hint}")
    if value.dtype.kind in "iu" and name.endswith(_STRUCTURE) and not name.endswith("contype"):
        raise ValueError(f"{where} is part of the model's structure, which tasks share; change it in model_spec")
    return value
