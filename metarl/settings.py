"""Frozen dataclasses of settings from the plain values of TOML and JSON, with errors that name the setting."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable
from typing import Any, Literal, TypeVar

Settings = TypeVar("Settings")


def settings_from_dict(base: Settings, data: Any, where: str) -> Settings:
    """`base` with the given fields replaced; a field that is itself a record stays of base's own type.

    Raises ValueError naming the field for an unknown name (with close matches), a wrong type or a value out of range.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{where} must be a table of settings, got {data!r}")
    assert dataclasses.is_dataclass(base)
    types_of = typing.get_type_hints(type(base))
    names = [f.name for f in dataclasses.fields(base)]
    changes: dict[str, Any] = {}
    for raw_key, value in data.items():
        key = raw_key.replace("-", "_")
        if key not in names:
            raise ValueError(f"{where} has no setting {raw_key!r}; {nearest(key, names)}")
        current = getattr(base, key)
        if dataclasses.is_dataclass(current):
            changes[key] = settings_from_dict(current, value, f"{where}: {key}")
        else:
            changes[key] = _coerced(value, types_of[key], f"{where}: {key}")
    try:
        return dataclasses.replace(base, **changes)  # type: ignore[type-var]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def require_finite(record: Any, where: str) -> None:
    """ValueError for a number that is not finite: infinity passes every check of a lower bound."""
    for name, value in dataclasses.asdict(record).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{where}.{name} is {value}, but must be finite")


def require_countable(record: Any) -> None:
    """ValueError for a whole number that no array is as long as, in a record or its tables; a seed may be larger."""
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            require_countable(value)
            continue
        most = 2**63 - 1 if field.name == "seed" else 2**31 - 1
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and abs(number) > most:
                raise ValueError(f"{field.name} is {value}, but must be at most {most}")


def nearest(name: str, allowed: Iterable[str]) -> str:
    """What to say after a wrong name: the close ones, or all."""
    choices = list(allowed)
    close = difflib.get_close_matches(name, choices, n=2)
    return f"did you mean {' or '.join(close)}?" if close else f"allowed: {', '.join(choices)}"


def _coerced(value: Any, wanted: Any, where: str) -> Any:
    origin = typing.get_origin(wanted)
    if origin is Literal:
        if value not in typing.get_args(wanted):
            raise ValueError(f"{where} is {value!r}; {nearest(str(value), typing.get_args(wanted))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} is {value!r}, but must be a list")
        return tuple(_coerced(item, typing.get_args(wanted)[0], where) for item in value)
    if origin in (typing.Union, types.UnionType):
        raise TypeError(f"{where}: unions are not supported in a config")
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"{where} is too large") from None
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise ValueError(f"{where} is {value!r}, but must be of type {wanted.__name__}")
    return value
