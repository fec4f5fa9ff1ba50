"""Names of environment families: `register` a class, `make_family` an instance, `family_names` what there is."""

from __future__ import annotations

import difflib
import importlib
from typing import TypeVar

from .family import PROTOCOLS, Family, ProtocolName

# Built-in families by the module that defines them, so that listing names compiles no model.
_FAMILIES: dict[str, str | type[Family]] = {
    "half-cheetah-dir": "half_cheetah:HalfCheetahDir",
    "half-cheetah-vel": "half_cheetah:HalfCheetahVel",
    "ant-dir": "ant:AntDir",
    "ant-dir-2d": "ant:AntDir2D",
    "ant-vel": "ant:AntVel",
    "ant-goal": "ant:AntGoal",
    "point-nav": "point:PointNav",
    "point-nav-sparse": "point:PointNavSparse",
}

FamilyClass = TypeVar("FamilyClass", bound=type[Family])


def register(family: FamilyClass) -> FamilyClass:
    """Class decorator that registers a user's family under its `name`. ValueError if the name is taken."""
    existing = _FAMILIES.get(family.name)
    if existing is not None and existing is not family:
        raise ValueError(f"an environment family named {family.name!r} is registered already; choose another name")
    _FAMILIES[family.name] = family
    return family


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
    """Build a family by name.

    protocol: "modern" (Gymnasium's physics) or "finn2017" (the paper's environment).
    oracle: append the goal to the observation.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r} for {name}; allowed: {', '.join(PROTOCOLS)}")
    return family_class(name)(protocol=protocol, oracle=oracle)
