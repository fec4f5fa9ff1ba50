"""HTML and SVG elements as text. What is not markup already is escaped, so that no recorded name can become code."""

from __future__ import annotations

import html


class Markup(str):
    """Text that is HTML already and goes into an element as it is."""

    __slots__ = ()


Child = Markup | str | int | float | None
Attribute = str | int | float | bool | None

_VOID = frozenset({"meta", "br"})
_RAW = frozenset({"style", "script"})


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """One element with its content.

    children: Markup goes in as it is, None not at all, anything else as escaped text.
    attributes: the names' underscores stand for hyphens, a last one is dropped (class_); None and False leave an
    attribute out, True gives it no value. Values are escaped.
    Raises ValueError for the text of a style or script that would end the element.
    """
    text = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{text}>")
    content = join(*children)
    if name in _RAW and "</" in content:
        raise ValueError(f"the text of a {name} element must not contain '</'")
    return Markup(f"<{name}{text}>{content}</{name}>")


def join(*children: Child, between: str = "") -> Markup:
    """Children in a row, escaped as in `tag`."""
    return Markup(between.join(escape(child) for child in children if child is not None))


def escape(value: Child) -> Markup:
    """A value as text of an element or an attribute."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value), quote=True))


def _attribute(key: str, value: Attribute) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    shown = f"{value:.6g}" if isinstance(value, float) else value
    return f' {name}="{html.escape(str(shown), quote=True)}"'
