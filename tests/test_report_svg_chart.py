"""Charts as inline SVG: what is drawn is where the numbers say."""

from __future__ import annotations

import math
import re

import pytest
from recorded_runs import Page

from metarl.report.markup import Markup, join, tag
from metarl.report.numbers import count_text, duration_text, interval_text, setting_text, value_text
from metarl.report.svg_chart import HEIGHT, WIDTH, Chart, Level, Series, chart_figure, nice_ticks, thinned, tick_text


def drawn(chart: Chart) -> tuple[str, Page]:
    text = "<html>" + chart_figure(chart) + "</html>"
    return text, Page(text)


def chart_of(*series: Series, whole_x: bool = False, levels: tuple[Level, ...] = ()) -> Chart:
    return Chart("title", "steps", "return", series, levels, whole_x)


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](\S+) (\S+?)(?=[ML]|$)", path)]


def paths(page: Page) -> list[str]:
    """The lines of the series, not those of the legend."""
    return [str(a["d"]) for a in page.all("path") if str(a.get("class")).startswith("line") and a["d"] != "M1 6H27"]


def axis_map(page: Page, axis: str) -> tuple[float, float]:
    """Slope and offset of pixel = slope * value + offset, from the ticks."""
    at = []
    ticks = [a for a in page.all("text") if a["class"] == "tick"]
    labels = [data for (path, data) in page.words if path[-1] == "text"][1:]
    for attributes, label in zip(ticks, labels, strict=False):
        is_y = attributes["text-anchor"] == "end"
        if is_y == (axis == "y"):
            value = float(label.replace("\N{MINUS SIGN}", "-").replace(",", ""))
            at.append((value, float(str(attributes[axis])) - (4 if is_y else 0)))
    (v0, p0), (v1, p1) = at[0], at[-1]
    slope = (p1 - p0) / (v1 - v0)
    return slope, p0 - slope * v0


def test_points_stand_where_the_axes_say() -> None:
    x, y = [0.0, 1.0, 2.5, 4.0], [-120.0, 30.0, 480.0, 510.5]
    _, page = drawn(chart_of(Series("a", x, y)))
    (path,) = paths(page)
    (x_slope, x_offset), (y_slope, y_offset) = axis_map(page, "x"), axis_map(page, "y")
    assert y_slope < 0 < x_slope
    for (px, py), value_x, value_y in zip(points(path), x, y, strict=True):
        assert px == pytest.approx(x_slope * value_x + x_offset, abs=0.2)
        assert py == pytest.approx(y_slope * value_y + y_offset, abs=0.2)
        assert 0 <= px <= WIDTH
        assert 0 <= py <= HEIGHT


def test_intervals_are_as_long_as_the_axis_says() -> None:
    _, page = drawn(chart_of(Series("a", [0.0, 1.0], [0.0, 100.0], ci95=[10.0, math.nan]), whole_x=True))
    (bar,) = [str(a["d"]) for a in page.all("path") if a.get("class") == "bar"]
    low, high = map(float, re.match(r"M\S+ (\S+?)V(\S+?)M", bar).groups())
    slope, _ = axis_map(page, "y")
    assert low - high == pytest.approx(-20 * slope, abs=0.3)


def test_every_point_says_its_value_and_a_level_too() -> None:
    series = Series("meta", [0.0, 1.0], [-1.5, 20.25], ci95=[1.0, 1.0], spots=["first", "second"], marker="circle")
    _, page = drawn(chart_of(series, Series("other", [0.0, 1.0], [3.0, 4.0]), levels=(Level("oracle", 30.5),)))
    titles = page.texts("title")
    assert {"first", "second", "oracle: 30.5", "other: 3 at 0"} <= set(titles)
    assert [data for path, data in page.words if path[-1] == "li"] == ["meta", "other", "oracle"]


def test_gaps_single_points_flat_lines_and_nothing() -> None:
    _, page = drawn(chart_of(Series("a", [0.0, 1.0, 2.0, 3.0], [1.0, math.nan, 3.0, 4.0])))
    assert paths(page)[0].count("M") == 2
    assert "NaN" not in drawn(chart_of(Series("a", [0.0], [5.0])))[0]
    for series in (Series("a", [0.0], [5.0]), Series("a", [1.0, 2.0], [0.0, 0.0]), Series("a", [0.0], [0.0])):
        for whole in (False, True):
            text, page = drawn(chart_of(series, whole_x=whole))
            assert "nan" not in text
            assert "inf" not in text
            assert page.all("circle")
    for series in (Series("a", [], []), Series("a", [1.0], [math.nan])):
        assert "nothing recorded" in drawn(chart_of(series))[1].text


def test_long_lines_are_thinned_and_keep_their_ends() -> None:
    n = 5000
    text, page = drawn(chart_of(Series("a", list(range(n)), [float(i % 7) for i in range(n)])))
    assert len(points(paths(page)[0])) <= 402
    assert len(text) < 60_000
    for count, most in ((0, 4), (1, 4), (4, 4), (5, 4), (5000, 400)):
        picked = thinned(count, most)
        assert len(picked) <= most + 1
        assert not count or (picked[0], picked[-1]) == (0, count - 1)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-190.6, 540), (0.001, 0.0012), (-1e6, 3e7), (99.9, 100.1)])
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert 3 <= len(ticks) <= 6
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    step = ticks[1] - ticks[0]
    assert step / 10 ** math.floor(math.log10(step) + 1e-9) == pytest.approx(
        min((1, 2, 5), key=lambda f: abs(f - step / 10 ** math.floor(math.log10(step) + 1e-9)))
    )
    assert len({tick_text(tick) for tick in ticks}) == len(ticks)


def test_numbers_as_a_reader_wants_them() -> None:
    minus = "\N{MINUS SIGN}"
    assert (value_text(-31.6272), value_text(0.04), value_text(-0.04)) == (f"{minus}31.6", "0.0", "0.0")
    assert (value_text(math.nan), interval_text(math.nan), interval_text(4.13)) == ("\N{EN DASH}", "", "± 4.1")
    assert (count_text(16_080_000), count_text(80_000)) == ("16.1\N{NO-BREAK SPACE}million", "80,000")
    assert [duration_text(s) for s in (5.2, 188.8, 7200)] == ["5 s", "3.1 min", "2.0 h"]
    assert [setting_text(v) for v in ([100, 100], 1e-5, True, None)] == ["100 100", "1e-05", "True", "None"]


def test_what_is_not_markup_is_escaped() -> None:
    evil = "<script>alert('1')</script> & \"x\""
    escaped = "&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt; &amp; &quot;x&quot;"
    assert tag("p", evil) == f"<p>{escaped}</p>"
    assert tag("p", title=evil) == f'<p title="{escaped}"></p>'
    assert tag("p", Markup("<b>"), None, 1.5) == "<p><b>1.5</p>"
    assert tag("i", hidden=True, lang=None, class_="a", aria_label="b") == '<i hidden class="a" aria-label="b"></i>'
    assert join("<", Markup("<br>")) == "&lt;<br>"
    with pytest.raises(ValueError, match="must not contain"):
        tag("script", Markup("'</script>'"))
    series = (Series(evil, [0.0, 1.0], [0.0, 1.0]), Series("b", [0.0], [0.0]))
    text, page = drawn(chart_of(*series, levels=(Level(evil, 1.0),)))
    assert "<script" not in text
    assert any(evil in title for title in page.texts("title"))
