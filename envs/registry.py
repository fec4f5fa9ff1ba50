"""Names of environment families: `register` a class, `make_family` an instance, `family_names` what there is."""

from __future__ import annotations

import difflib
import importlib
import re
from typing import TYPE_CHECKING, TypeVar

from .registration import register_with_gymnasium

if TYPE_CHECKING:
    from .family import Family
    from .task_family import ProtocolName

# Built-in families by the module that defines them, so that listing names imports no MuJoCo and compiles no model.
_FAMILIES: dict[str, str | type[Family]] = {
    "half-cheetah-dir": "half_cheetah:HalfCheetahDir",
    "half-cheetah-vel": "half_cheetah:HalfCheetahVel",
    "ant-dir": "ant:AntDir",
    "ant-dir-2d": "ant:AntDir2D",
    "ant-vel": "ant:AntVel",
    "ant-goal": "ant:AntGoal",
    "ant-crippled": "ant_crippled:AntCrippled",
    "half-cheetah-params": "planar_params:HalfCheetahParams",
    "walker-params": "planar_params:WalkerParams",
    "hopper-params": "planar_params:HopperParams",
    "humanoid-dir": "humanoid:HumanoidDir",
    "point-nav": "point:PointNav",
    "point-nav-sparse": "point:PointNavSparse",
}

# What Gymnasium's ids can be made of.
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

FamilyClass = TypeVar("FamilyClass", bound=type)


def register(family: FamilyClass) -> FamilyClass:
    """Class decorator that registers a user's family under its `name`, and with Gymnasium.

    Defining the same class again (a notebook cell run twice) replaces it. ValueError if the name is missing,
    malformed or another class's.
    """
    name = getattr(family, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"{family.__name__}.name is {name!r}; set it to lower-case words joined by dashes, as in 'half-cheetah-vel'"
        )
    existing = _FAMILIES.get(name)
    if existing is not None and (isinstance(existing, str) or not _same_definition(existing, family)):
        raise ValueError(f"an environment family named {name!r} is registered already; choose another name")
    _FAMILIES[name] = family
    register_with_gymnasium(name)
    return family


def register_builtin_families() -> None:
    """Register the built-in families with Gymnasium; `import metarl` does."""
    for name in _FAMILIES:
        register_with_gymnasium(name)


def family_names() -> tuple[str, ...]:
    """Every registered name, built-in ones first."""
    return tuple(_FAMILIES)


def family_class(name: str) -> type[Family]:
    """The class registered under a name. ValueError with close matches for an unknown one."""
    if name not in _FAMILIES:
        close = difflib.get_close_matches(name, _FAMILIES, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(_FAMILIES)}"
        raise ValueError(f"unknown environment {name!r}; {hint}")
    entry = _FAMILIES[name]
    if isinstance(entry, str):
        module, attribute = entry.split(":")
        return getattr(importlib.import_module(f".{module}", __package__), attribute)
    return entry


def make_family(name: str, protocol: ProtocolName = "modern", oracle: bool = False) -> Family:
    """Build a family by name. ValueError for an unknown name or protocol.

    protocol: "modern" (Gymnasium's physics) or "finn2017" (the paper's environment).
    oracle: append the goal to the observation.
    """
    return family_class(name)(protocol=protocol, oracle=oracle)


def _same_definition(one: type, other: type) -> bool:
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)
