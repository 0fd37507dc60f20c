"""Numbers of a verdict for people: three digits that count (or all before the point), and their unit."""

import math

from loadtest.verdict.statistics import Interval

MORE_THAN_EVERY_ANSWER = "more than every answer"
"""What a percentile is that falls among failed requests."""


def quantity(value: float, unit: str) -> str:
    """``1.25 s``, ``81.3 ms``, ``3,712 tok/s``, ``1.5 %``."""
    if math.isinf(value):
        return MORE_THAN_EVERY_ANSWER if unit == "s" else "∞"
    scaled, shown = _scaled(value, unit, value)
    return f"{_digits(scaled)} {shown}"


def span(interval: Interval, unit: str) -> str:
    """``78.1–85.0 ms``; an end that is not known is ∞."""
    largest = interval.high if math.isfinite(interval.high) else interval.low
    if math.isinf(largest):
        return "∞"
    (low, shown), (high, _) = (_scaled(value, unit, largest) for value in (interval.low, interval.high))
    return f"{_digits(low)}–{_digits(high)} {shown}"


def _scaled(value: float, unit: str, largest: float) -> tuple[float, str]:
    """In the unit that suits ``largest``."""
    if unit == "s" and abs(largest) < 1:
        return value * 1000, "ms"
    return (value * 100, "%") if unit == "ratio" else (value, unit)


def _digits(value: float) -> str:
    if math.isinf(value):
        return "∞"
    # Rounded first: 99.96 has one digit after the point, 100 none.
    size = math.floor(math.log10(abs(value))) if value else 0
    rounded = round(value, 2 - size)
    text = f"{rounded:,.{max(0, 2 - size)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else f"{value:,.0f}"
