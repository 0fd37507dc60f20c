"""What happened when: tokens, requests, requests in flight and time to first token over the run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
from matplotlib.ticker import MaxNLocator, MultipleLocator

from loadtest.clock.histogram import Histogram
from loadtest.report import wording
from loadtest.report.charts.canvas import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    QUIET,
    SHADE,
    VERMILLION,
    Chart,
    Sheet,
    axis_unit,
    label_ends,
    value_axis,
)  # fmt: skip
from loadtest.results import LoadKind, RunResult, Second

MOST_BINS = 120
_SHADE_NAME = 56
"""Pixels that the word warm-up takes."""
_WIDTHS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)


@dataclass
class Bin:
    """One or more seconds of the run; rates are a second."""

    start: float
    seconds: int
    due: float = 0.0
    sent: float = 0.0
    ok: float = 0.0
    failed: float = 0.0
    tokens: float = 0.0
    in_flight: int = 0
    """The most."""
    ttft: Histogram = field(default_factory=Histogram)


def bin_seconds(run: RunResult) -> int:
    """Width of a bin, so that a long run stays readable."""
    total = len(run.timeline)
    return next((width for width in _WIDTHS if total / width <= MOST_BINS), _WIDTHS[-1])


def bins(run: RunResult) -> list[Bin]:
    """The time line in at most MOST_BINS pieces (fewer than that; more only for runs of many days)."""
    width = bin_seconds(run)
    found = []
    for first in range(0, len(run.timeline), width):
        members = run.timeline[first : first + width]
        one = Bin(start=members[0].at, seconds=len(members))
        for name in ("due", "sent", "ok", "failed", "tokens"):
            setattr(one, name, sum(getattr(second, name) for second in members) / len(members))
        one.in_flight = max(second.in_flight for second in members)
        for second in members:
            one.ttft.merge(Histogram.of(second.ttft))
        found.append(one)
    return found


def timelines(run: RunResult, *, prefix: str = "") -> list[Chart]:
    """Four charts with the same time axis; none for a run without a time line."""
    if not run.timeline:
        return []
    pieces = bins(run)
    width = bin_seconds(run)
    each = "each second" if width == 1 else f"in steps of {wording.span(width)}"
    in_window = [second.tokens for second in run.timeline if _measured(run, second)]
    mean_tokens = fmean(in_window) if in_window else None
    open_loop = run.load.kind is LoadKind.OPEN
    first_tokens = [piece.ttft for piece in pieces if piece.ttft.count]
    unit, factor = axis_unit(
        min((histogram.minimum for histogram in first_tokens), default=0.0),
        max((histogram.maximum for histogram in first_tokens), default=1.0),
    )
    return [
        Chart(
            name=f"{prefix}time-tokens",
            title="Output tokens",
            subtitle=f"tok/s, {each}",
            caption="",
            draw=lambda sheet: _tokens(_ready(sheet, run), pieces, mean_tokens),
        ),
        Chart(
            name=f"{prefix}time-requests",
            title="Requests asked and sent" if open_loop else "Requests sent",
            subtitle=f"requests/s, {each}",
            caption="Where sent leaves asked, the client was late." * open_loop,
            draw=lambda sheet: _requests(_ready(sheet, run), pieces, open_loop=open_loop),
        ),
        Chart(
            name=f"{prefix}time-in-flight",
            title="Requests in flight",
            subtitle="at the end of a second" if width == 1 else f"most {each}",
            caption="A line that keeps rising is a server that falls behind." * open_loop,
            draw=lambda sheet: _in_flight(_ready(sheet, run), pieces),
        ),
        Chart(
            name=f"{prefix}time-ttft",
            title="Time to first token",
            subtitle=f"{unit}, {each}",
            caption="Of the first tokens that came in each step; where they are few, p99 is the slowest.",
            draw=lambda sheet: _ttft(_ready(sheet, run), pieces, factor),
        ),
    ]


def _measured(run: RunResult, second: Second) -> bool:
    return run.warmup_seconds <= second.at < run.warmup_seconds + run.duration_seconds


def _ready(sheet: Sheet, run: RunResult) -> Sheet:
    """Time axis, and the shades of warm-up and drain."""
    axes = sheet.axes
    start, end = run.timeline[0].at, run.timeline[-1].at + 1
    window = (run.warmup_seconds, run.warmup_seconds + run.duration_seconds)
    axes.set_xlim(start, end)
    for low, high, name in ((start, window[0], "warm-up"), (window[1], end, "drain")):
        if high > low:
            axes.axvspan(low, high, color=SHADE, linewidth=0, zorder=0)
            if (high - low) / (end - start) * axes.get_window_extent().width > _SHADE_NAME:
                axes.annotate(
                    name, ((low + high) / 2, 1), xycoords=("data", "axes fraction"), xytext=(0, -4),
                    textcoords="offset points", ha="center", va="top", color=FAINT, fontsize=10.5,
                )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True, steps=[1, 2, 5, 10]))
    long = end - start > 600
    axes.set_xlabel("minutes since the start" if long else "seconds since the start")
    if long:
        axes.xaxis.set_major_locator(_minutes(end - start))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 60:g}")
    return sheet


def _minutes(total_seconds: float) -> MultipleLocator:
    steps = (2, 5, 10, 15, 30, 60, 120, 240)
    minutes = next((step for step in steps if total_seconds / 60 / step <= 8), 480)
    return MultipleLocator(minutes * 60)


def _line(sheet: Sheet, pieces: Sequence[Bin], values: Sequence[float | None], colour: str, width: float = 1.8) -> None:
    """Through the middles of the bins; broken where there is no value."""
    places = [piece.start + piece.seconds / 2 for piece in pieces]
    numbers = [np.nan if value is None else value for value in values]
    # A value between two gaps is no line: it gets a dot.
    alone = [
        value is not None and (at == 0 or values[at - 1] is None) and (at + 1 == len(values) or values[at + 1] is None)
        for at, value in enumerate(values)
    ]
    sheet.axes.plot(places, numbers, color=colour, linewidth=width)
    sheet.axes.plot(
        [place for place, lonely in zip(places, alone, strict=True) if lonely],
        [number for number, lonely in zip(numbers, alone, strict=True) if lonely],
        ".", color=colour, markersize=4,
    )  # fmt: skip


def _edges(pieces: Sequence[Bin]) -> list[float]:
    return [piece.start for piece in pieces] + [pieces[-1].start + pieces[-1].seconds]


def _area(sheet: Sheet, pieces: Sequence[Bin], values: Sequence[float], colour: str, alpha: float) -> None:
    sheet.axes.stairs(values, _edges(pieces), fill=True, color=colour, alpha=alpha, linewidth=0)


def _steps(sheet: Sheet, pieces: Sequence[Bin], values: Sequence[float], colour: str, width: float = 1.6) -> None:
    """Counts hold for their whole step."""
    sheet.axes.stairs(values, _edges(pieces), color=colour, linewidth=width, baseline=None)


def _tokens(sheet: Sheet, pieces: Sequence[Bin], mean: float | None) -> None:
    values = [piece.tokens for piece in pieces]
    value_axis(sheet, 0, max(values))
    _area(sheet, pieces, values, BLUE, 0.12)
    _steps(sheet, pieces, values, BLUE)
    if mean is not None:
        sheet.axes.axhline(mean, color=INK, linewidth=1, linestyle=(0, (2, 2)))
        label_ends(sheet, [(mean, f"mean {wording.number(mean)}", INK)])


def _requests(sheet: Sheet, pieces: Sequence[Bin], *, open_loop: bool) -> None:
    asked, sent, ok = ([getattr(piece, name) for piece in pieces] for name in ("due", "sent", "ok"))
    failed = [piece.failed for piece in pieces]
    value_axis(sheet, 0, max(*asked, *sent, *ok, *failed))
    if open_loop:
        _area(sheet, pieces, asked, FAINT, 0.35)
    _steps(sheet, pieces, sent, BLUE)
    _steps(sheet, pieces, ok, GREEN, 1.3)
    if any(failed):
        _area(sheet, pieces, failed, VERMILLION, 0.9)
    # Labels stand in the order of the legend's importance: the ends of noisy lines say nothing.
    names = [("asked", QUIET)] * open_loop + [("sent", BLUE), ("succeeded", GREEN)]
    names += [("failed", VERMILLION)] * any(failed)
    top = sheet.axes.get_ylim()[1]
    label_ends(sheet, [(top * (0.95 - 0.08 * at), name, colour) for at, (name, colour) in enumerate(names)])


def _in_flight(sheet: Sheet, pieces: Sequence[Bin]) -> None:
    values = [float(piece.in_flight) for piece in pieces]
    peak = max(values)
    value_axis(sheet, 0, peak)
    sheet.axes.yaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    _area(sheet, pieces, values, BLUE, 0.12)
    _steps(sheet, pieces, values, BLUE)
    label_ends(sheet, [(peak, f"peak {peak:,.0f}", BLUE)])


def _ttft(sheet: Sheet, pieces: Sequence[Bin], factor: float) -> None:
    labels, highest, lowest = [], 0.0, float("inf")
    # Of few requests p99 is p95: the wider line below still shows.
    for share, colour, width in ((0.99, VERMILLION, 3.2), (0.95, ORANGE, 1.4), (0.5, BLUE, 1.8)):
        found = [piece.ttft.quantile(share) for piece in pieces]
        values = [None if value is None else value * factor for value in found]
        known = [value for value in values if value is not None]
        if not known:
            sheet.axes.annotate("no first token came", (0.5, 0.5), xycoords="axes fraction", ha="center", color=QUIET)
            return
        _line(sheet, pieces, values, colour, width)
        labels.append((known[-1], f"p{share * 100:g}", colour))
        highest, lowest = max(highest, *known), min(lowest, *known)
    value_axis(sheet, lowest, highest)
    label_ends(sheet, labels)
