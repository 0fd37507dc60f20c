"""Numbers as people read them: three significant digits, a unit that fits, no false precision."""

import math

from loadtest.results import LoadKind, RunResult
from loadtest.verdict.statistics import Interval

NOTHING = "–"


def number(value: float | None, digits: int = 3) -> str:
    """``12345.6`` → ``12,346``; ``0.01234`` → ``0.0123``: never fewer whole digits than there are."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    text = f"{round(value, decimals):,.{max(decimals, 0)}f}" if decimals > 0 else f"{value:,.0f}"
    return text.replace("-", "−")


def tick(value: float, _: object = None) -> str:
    """A round number on an axis: no digits that say nothing."""
    return f"{value:,.6g}".replace("-", "−")


def seconds(value: float | None) -> str:
    """A latency: ``412 ms``, ``1.23 s``, ``85.0 µs``."""
    if value is None or not math.isfinite(value):
        return number(value)
    if 0 < abs(value) < 1e-6:
        return "< 1 µs"
    unit, factor = time_unit(abs(value))
    return f"{number(value * factor)} {unit}"


def time_unit(largest_seconds: float) -> tuple[str, float]:
    """The unit for latencies up to this many seconds, and what to multiply seconds with."""
    if largest_seconds >= 1:
        return "s", 1.0
    if largest_seconds >= 0.001 or largest_seconds == 0:
        return "ms", 1e3
    return "µs", 1e6


def span(value: float) -> str:
    """How long something lasted: ``45 s``, ``2 min 30 s``, ``1 h 5 min``."""
    whole = round(value)
    if whole < 120:
        return f"{number(value)} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 120:
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h" + (f" {minutes} min" if minutes else "")


def share(value: float | None) -> str:
    """A ratio as percent: ``0.0123`` → ``1.23 %``; ``0.9999`` → ``99.99 %``, as nearly all is not all."""
    if value is None or not math.isfinite(value):
        return number(value)
    percent = value * 100
    for decimals in (0, 1, 2, 3):
        text = f"{percent:.{decimals}f}"
        error = abs(float(text) - percent)
        if error < 1e-9 or (error <= 0.005 * abs(percent) and error <= 0.1 * abs(100 - percent)):
            break
    return text.replace("-", "−") + " %"


def change(value: float | None) -> str:
    """A relative difference: ``+4.2 %``, ``−12 %``."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    percent = value * 100
    text = f"{percent:+.0f}" if abs(percent) >= 99.5 else f"{percent:+.1f}"
    return ("0.0" if float(text) == 0 else text).replace("-", "−") + " %"


def quantity(value: float | None, unit: str) -> str:
    """A value of a measure, in the unit that ``measures`` give it: ``s``, ``ratio``, or one to write behind it."""
    if unit == "s":
        return seconds(value)
    if unit == "ratio":
        return share(value)
    return f"{number(value)} {unit}" if value is not None else NOTHING


def axis_unit(lowest_seconds: float, highest_seconds: float, *, logarithmic: bool) -> tuple[str, float]:
    """The unit for an axis of latencies: the largest value's, or the middle's where the axis is logarithmic."""
    return time_unit(math.sqrt(lowest_seconds * highest_seconds) if logarithmic else highest_seconds)


def interval(found: Interval | None, unit: str) -> str:
    """``401–423 ms``; the unit stands once where both ends share it."""
    if found is None or math.isinf(found.low):
        return ""
    if found.low <= 0 and math.isinf(found.high):
        return "too few for an interval"
    low, high = quantity(found.low, unit), quantity(found.high, unit)
    low_value, _, low_unit = low.partition(" ")
    high_value, _, high_unit = high.partition(" ")
    if math.isinf(found.high):
        return f"≥ {low}"
    if low == high:
        return low
    if low_unit == high_unit:
        return f"{low_value}–{high_value} {low_unit}".rstrip()
    return f"{low} – {high}"


def load_name(run: RunResult) -> str:
    """``concurrency 16``, ``4/s poisson``; with what else says how requests arrive."""
    load = run.load
    text = f"concurrency {load.concurrency}" if load.kind is LoadKind.CLOSED else _rate(run)
    return text + (f", {load.requests:,} requests" if load.requests else "")


def _rate(run: RunResult) -> str:
    load = run.load
    arrivals = load.arrivals
    if arrivals == "gamma" and load.burstiness is not None:
        arrivals = f"gamma, burstiness {load.burstiness:g}"
    return f"{load.rate:g}/s {arrivals}".rstrip() if load.rate is not None else (load.arrivals or "open loop")


def short_load(run: RunResult) -> str:
    """As a label beside a point: ``16`` or ``4/s``."""
    load = run.load
    if load.kind is LoadKind.CLOSED:
        return f"{load.concurrency}"
    return f"{load.rate:g}/s" if load.rate is not None else load.arrivals


def plural(count: float, singular: str, more: str = "") -> str:
    """``1 request``, ``2 requests``."""
    return f"{number(count) if count != int(count) else format(int(count), ',')} " + (
        singular if count == 1 else more or singular + "s"
    )
