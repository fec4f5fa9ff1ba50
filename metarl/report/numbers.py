"""Numbers as a reader wants them."""

from __future__ import annotations

import math

MINUS = "\N{MINUS SIGN}"
_UNITS = ((3600.0, "h"), (60.0, "min"))


def value_text(value: float, decimals: int = 1) -> str:
    """A return: -31.6272 to one decimal, with a proper minus; a dash for what was not measured."""
    if not math.isfinite(value):
        return "\N{EN DASH}"
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", MINUS)


def interval_text(ci95: float, decimals: int = 1) -> str:
    """Half a 95 % interval: 4.13 as ± 4.1; nothing if there is none."""
    return f"± {value_text(ci95, decimals)}" if math.isfinite(ci95) else ""


def count_text(count: float, million: str = "million") -> str:
    """A large count: 16080000 as 16.1 million, 80000 as 80,000."""
    return f"{count / 1e6:.1f}\N{NO-BREAK SPACE}{million}" if count >= 1e6 else f"{count:,.0f}"


def duration_text(seconds: float) -> str:
    """Wall time in the unit that suits it: 188.8 as 3.1 min."""
    size, unit = duration_unit(seconds)
    return f"{seconds / size:.1f} {unit}" if size > 1 else f"{seconds:.0f} s"


def duration_unit(seconds: float) -> tuple[float, str]:
    """Seconds in a unit that suits a duration, and its name."""
    return next(((size, unit) for size, unit in _UNITS if seconds >= 1.5 * size), (1.0, "s"))


def setting_text(value: object) -> str:
    """A setting as on the command line: [100, 100] as 100 100."""
    if isinstance(value, list | tuple):
        return " ".join(map(setting_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
