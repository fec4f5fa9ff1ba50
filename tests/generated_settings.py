"""Strategies for settings: tables with a record's names and plausible, extreme or nonsensical values, TOML, options."""

from __future__ import annotations

import dataclasses
import datetime
import json
import typing
from collections.abc import Mapping
from typing import Any, Literal

from hypothesis import strategies as st

NONSENSE: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [True, False, "", "x", "nan", [], [[]], {}, {"a": 1}, datetime.date(2017, 3, 9), datetime.time(1, 2)]
    ),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
)
INTEGERS = st.one_of(
    st.integers(1, 8), st.integers(-2, 3), st.integers(), st.sampled_from([10**9, 2**31, 2**63, 10**30])
)
FLOATS = st.one_of(
    st.floats(0.001, 1.0),
    st.floats(),
    st.sampled_from([0.0, -0.0, 1e-320, 1e-40, 1e30, 1e39, 1e300, -1.0, float("nan"), float("inf")]),
    st.integers(-2, 10),
)


def value_of(wanted: Any) -> st.SearchStrategy[Any]:
    """Values for a field of a type; rarely of another."""
    origin = typing.get_origin(wanted)
    if origin is typing.Annotated:
        return value_of(typing.get_args(wanted)[0])
    if origin is Literal:
        fitting = st.sampled_from(typing.get_args(wanted))
    elif origin is tuple:
        fitting = st.lists(value_of(typing.get_args(wanted)[0]), max_size=3)
    elif wanted is bool:
        fitting = st.booleans()
    elif wanted is int:
        fitting = INTEGERS
    elif wanted is float:
        fitting = FLOATS
    else:
        fitting = st.text(max_size=8)
    return _mostly(fitting, NONSENSE)


def table_of(
    record: Any, choices: Mapping[str, st.SearchStrategy[Any]] | None = None
) -> st.SearchStrategy[dict[str, Any]]:
    """Tables with some of a record's fields, rarely with an unknown one.

    choices: strategies for fields that a type does not tell all about.
    """
    hints = typing.get_type_hints(type(record), include_extras=True)
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for field in dataclasses.fields(record):
        current = getattr(record, field.name)
        if choices and field.name in choices:
            fields[field.name] = choices[field.name]
        elif dataclasses.is_dataclass(current):
            fields[field.name] = _mostly(table_of(current), NONSENSE)
        else:
            fields[field.name] = value_of(hints[field.name])
    known = st.fixed_dictionaries({}, optional=fields)
    unknown = st.dictionaries(st.sampled_from(["iteration", "inner-lrr", "x y", ""]), NONSENSE, min_size=1, max_size=1)
    return st.one_of(*[known] * 9, st.builds(lambda a, b: a | b, known, unknown))


def small(table: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Any]:
    """The table with no count above its size, so that it can be run."""
    out = {}
    for name, value in table.items():
        if isinstance(value, dict):
            out[name] = small(value, sizes)
        elif name in sizes and isinstance(value, int) and not isinstance(value, bool):
            out[name] = min(value, sizes[name])
        elif name in sizes and isinstance(value, list) and all(type(n) is int for n in value):
            out[name] = [min(n, sizes[name]) for n in value]
        else:
            out[name] = value
    return out


def toml_text(table: Mapping[str, Any]) -> str:
    """The table as TOML; ValueError for what TOML does not have."""
    return "".join(f"{_key(key)} = {_toml(value)}\n" for key, value in table.items())


def options_of(table: Mapping[str, Any], prefix: str = "--") -> list[str]:
    """The table as options of the command line."""
    words: list[str] = []
    for key, value in table.items():
        name = f"{prefix}{key.replace('_', '-')}"
        if isinstance(value, dict):
            words += options_of(value, f"{name}.")
        elif isinstance(value, bool):
            words.append(name if value else f"{prefix}no-{key.replace('_', '-')}")
        elif isinstance(value, list):
            words += [name, *map(str, value)]
        else:
            words.append(f"{name}={value}")
    return words


def _key(key: str) -> str:
    return _toml(key)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, float):
        text = repr(value)
        return text if any(c in text for c in ".ni") else text.replace("e", ".0e")
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _mostly(often: st.SearchStrategy[Any], rarely: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(*[often] * 12, rarely)
