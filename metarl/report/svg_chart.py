"""Line charts as inline SVG: a pure function of numbers. Colours are classes, which the page's style gives a light and
a dark value; a point says its value when it is pointed at or tapped."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from .markup import Markup, join, tag
from .numbers import MINUS

WIDTH, HEIGHT = 400.0, 272.0  # user units; about 0.8 of a pixel on a phone, so that 13 units are readable there
TOP, RIGHT, BOTTOM = 42.0, 12.0, 42.0
TIP_Y = 32.0  # what the point under the pointer says has a row of its own, where it hides nothing
_CHARACTER = 7.0  # width of a tick label's character
_MAX_LINE_POINTS = 400
_MAX_SPOTS = 60
_TIP_CHARACTERS = 58

Dash = Literal["solid", "dashed", "dotted", "dashdot"]
Marker = Literal["none", "circle", "diamond"]
Scale = Callable[[float], float]


@dataclass(frozen=True)
class Series:
    """One line. x, y and ci95 have the same length; NaN in y is a gap, NaN in ci95 a point without an interval."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    ci95: Sequence[float] | None = None
    """Half widths of 95 % intervals."""
    spots: Sequence[str] | None = None
    """What each point says when pointed at; the label and its numbers by default."""
    colour: str = "c0"
    dash: Dash = "solid"
    marker: Marker = "none"
    in_legend: bool = True


@dataclass(frozen=True)
class Level:
    """A horizontal line."""

    label: str
    y: float
    colour: str = "c2"
    dash: Dash = "dashed"


@dataclass(frozen=True)
class Chart:
    """What to draw."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    levels: Sequence[Level] = ()
    whole_x: bool = False
    """Ticks at every whole number of x (gradient steps)."""
    note: str = ""
    """A line below the chart."""


def chart_figure(chart: Chart) -> Markup:
    """The chart with its title and legend, as a figure element."""
    return tag(
        "figure",
        tag("figcaption", chart.title),
        _legend(chart),
        _svg(chart),
        tag("p", chart.note, class_="note") if chart.note else None,
        class_="chart",
    )


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most `most` round numbers, steps of 1, 2 or 5 times a power of ten, in [low, high]."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    for factor in (1, 2, 5, 10, 20):
        step = factor * power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return [index * step for index in range(first, last + 1)]
    return [low, high]


def tick_text(value: float) -> str:
    """A tick's number: 20000 as 20,000, -0.5 with a proper minus."""
    value = round(value, 10)
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"
    return text.replace("-", MINUS)


def _svg(chart: Chart) -> Markup:
    extent = _extent(chart)
    described = f"{chart.title}: {chart.y_label} against {chart.x_label}"
    attributes = {"viewBox": f"0 0 {WIDTH:g} {HEIGHT:g}", "role": "img", "aria_label": described}
    if extent is None:
        empty = tag("text", "nothing recorded", x=WIDTH / 2, y=HEIGHT / 2, text_anchor="middle", class_="tick")
        return tag("svg", empty, **attributes)
    (x_low, x_high), (y_low, y_high) = extent
    y_ticks = nice_ticks(y_low, y_high)
    left = 12 + _CHARACTER * max(len(tick_text(tick)) for tick in y_ticks)
    to_x = _scale(x_low, x_high, left, WIDTH - RIGHT)
    to_y = _scale(y_low, y_high, HEIGHT - BOTTOM, TOP)
    if chart.whole_x:
        x_ticks = [float(i) for i in range(math.ceil(x_low), math.floor(x_high) + 1)]
        x_ticks = x_ticks[:: math.ceil(len(x_ticks) / 12)]
    else:
        x_ticks = nice_ticks(x_low, x_high)
    lines = [_line(series, to_x, to_y) for series in chart.series]
    spots = [_spots(chart, series, to_x, to_y) for series in chart.series]
    return tag(
        "svg",
        _axes(chart, x_ticks, y_ticks, left, to_x, to_y),
        *(_level(level, left, to_y) for level in chart.levels if math.isfinite(level.y)),
        *lines,
        *spots,  # above all lines, where they can be pointed at
        **attributes,
    )


def _extent(chart: Chart) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Ranges of x and y with a margin, or None if there is no point."""
    xs, ys = [], []
    for series in chart.series:
        for i, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
            if math.isfinite(x) and math.isfinite(y):
                half = series.ci95[i] if series.ci95 is not None else 0.0
                half = half if math.isfinite(half) else 0.0
                xs.append(x)
                ys += [y - half, y + half]
    if not xs:
        return None
    ys += [level.y for level in chart.levels if math.isfinite(level.y)]
    y_margin = 0.06 * (max(ys) - min(ys)) or max(1.0, 0.1 * abs(ys[0]))
    x_margin = 0.15 if chart.whole_x else 0.0
    x_low = min(xs) if chart.whole_x else min(0.0, *xs)
    x_high = max(xs) if max(xs) > x_low or chart.whole_x else x_low + 1.0
    return (x_low - x_margin, x_high + x_margin), (min(ys) - y_margin, max(ys) + y_margin)


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _axes(
    chart: Chart, x_ticks: Sequence[float], y_ticks: Sequence[float], left: float, to_x: Scale, to_y: Scale
) -> Markup:
    bottom = HEIGHT - BOTTOM
    parts = [tag("text", chart.y_label, x=4.0, y=14.0, class_="axis")]
    for tick in y_ticks:
        y = to_y(tick)
        parts.append(tag("line", x1=left, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid-line"))
        parts.append(tag("text", tick_text(tick), x=left - 6, y=y + 4, text_anchor="end", class_="tick"))
    for tick in x_ticks:
        x = to_x(tick)
        parts.append(tag("line", x1=x, x2=x, y1=bottom, y2=bottom + 5, class_="base"))
        parts.append(tag("text", tick_text(tick), x=x, y=bottom + 19, text_anchor="middle", class_="tick"))
    parts.append(tag("line", x1=left, x2=WIDTH - RIGHT, y1=bottom, y2=bottom, class_="base"))
    middle = (left + WIDTH - RIGHT) / 2
    parts.append(tag("text", chart.x_label, x=middle, y=HEIGHT - 5, text_anchor="middle", class_="axis"))
    return join(*parts)


def _level(level: Level, left: float, to_y: Scale) -> Markup:
    y = to_y(level.y)
    line = tag("line", x1=left, x2=WIDTH - RIGHT, y1=y, y2=y, class_=f"line {level.dash}")
    return tag("g", line, tag("title", f"{level.label}: {tick_text(round(level.y, 1))}"), class_=level.colour)


def _line(series: Series, to_x: Scale, to_y: Scale) -> Markup:
    path, gap = [], True
    for i in thinned(len(series.x), _MAX_LINE_POINTS):
        x, y = series.x[i], series.y[i]
        if not (math.isfinite(x) and math.isfinite(y)):
            gap = True
            continue
        path.append(f"{'M' if gap else 'L'}{to_x(x):.1f} {to_y(y):.1f}")
        gap = False
    parts = [tag("path", d="".join(path), class_=f"line {series.dash}")]
    for x, y, half in zip(series.x, series.y, series.ci95 or [], strict=False):
        if math.isfinite(y) and math.isfinite(half):
            low, high, at = to_y(y - half), to_y(y + half), to_x(x)
            path_of_bar = f"M{at:.1f} {low:.1f}V{high:.1f}M{at - 4:.1f} {low:.1f}h8M{at - 4:.1f} {high:.1f}h8"
            parts.append(tag("path", d=path_of_bar, class_="bar"))
    return tag("g", *parts, class_=series.colour)


def _spots(chart: Chart, series: Series, to_x: Scale, to_y: Scale) -> Markup:
    """Points that say their value."""
    parts = []
    for i in thinned(len(series.x), _MAX_SPOTS):
        x, y = series.x[i], series.y[i]
        if not (math.isfinite(x) and math.isfinite(y)):
            continue
        at_x, at_y = to_x(x), to_y(y)
        said = series.spots[i] if series.spots else f"{series.label}: {tick_text(round(y, 1))} at {tick_text(x)}"
        short = said if len(said) <= _TIP_CHARACTERS else f"{said[: _TIP_CHARACTERS - 1]}\N{HORIZONTAL ELLIPSIS}"
        tip = tag("text", short, x=WIDTH - RIGHT, y=TIP_Y, text_anchor="end", class_="tip", aria_hidden="true")
        hit = tag("circle", cx=at_x, cy=at_y, r=9.0, class_="hit")
        parts.append(tag("g", _mark(series.marker, at_x, at_y), hit, tag("title", said), tip, class_="spot"))
    return tag("g", *parts, class_=series.colour)


def _mark(marker: Marker, x: float, y: float) -> Markup:
    if marker == "diamond":
        return tag("path", d=f"M{x:.1f} {y - 6:.1f}l5 6l-5 6l-5 -6z", class_="mark")
    return tag("circle", cx=x, cy=y, r=4.0, class_="mark" if marker == "circle" else "mark hidden")


def _legend(chart: Chart) -> Markup | None:
    keys = [(s.label, s.colour, s.dash, s.marker) for s in chart.series if s.in_legend]
    keys += [(level.label, level.colour, level.dash, "none") for level in chart.levels if math.isfinite(level.y)]
    if len(keys) < 2:
        return None
    items = []
    for label, colour, dash, marker in keys:
        line = tag("path", d="M1 6H27", class_=f"line {dash}")
        mark = _mark(marker, 14.0, 6.0) if marker != "none" else None
        items.append(tag("li", tag("svg", line, mark, viewBox="0 0 28 12", class_=colour, aria_hidden="true"), label))
    return tag("ul", *items, class_="legend")


def thinned(n: int, most: int) -> list[int]:
    """At most about `most` of n indices, evenly spaced, the last one among them."""
    stride = max(1, math.ceil(n / most))
    picked = list(range(0, n, stride))
    return picked if not picked or picked[-1] == n - 1 else [*picked, n - 1]
