"""How latency is spread: each percentile's value, with the tail stretched so that p99 is as wide as p50."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.clock.histogram import Histogram
from loadtest.report import wording
from loadtest.report.charts.canvas import GRID, INK, QUIET, VERMILLION, Chart, Sheet, axis_unit, label_ends, value_axis
from loadtest.report.measures import Latency
from loadtest.verdict.statistics import percentile

_TICKS = ((0.0, "0"), (0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99"))
_MARKED = (0.5, 0.95, 0.99)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One histogram to draw."""

    name: str
    histogram: Histogram
    colour: str
    dashed: bool = False
    infinite: int = 0
    """Further values above all others: requests that failed."""


def distribution(latency: Latency, curves: Sequence[Curve], *, limit: float | None = None, name: str = "") -> Chart:
    """Percentile curves of one latency.

    Args:
        latency: Which.
        curves: One for each run or variant. A lone curve gets its p50, p95 and p99 written beside it.
        limit: Seconds; the run's own limit, drawn as a line.
        name: Of the file, ``latency-ttft`` if left out.
    """
    failing = any(curve.infinite for curve in curves)
    known = [curve.histogram for curve in curves if curve.histogram.count]
    highest = max((histogram.maximum for histogram in known), default=1.0)
    unit, factor = axis_unit(min((histogram.minimum for histogram in known), default=0.0), highest)
    if limit is not None and limit > highest:
        limit = None  # far above everything: the axis would show little else

    def draw(sheet: Sheet) -> None:
        _draw(sheet, [curve for curve in curves if curve.histogram.count], limit, factor, latency.counted)

    return Chart(
        name=name or f"latency-{latency.name}",
        title=f"{latency.title} by percentile",
        subtitle=f"{unit}; each step right is ten times rarer",
        caption="Failed requests count as slower than every answer." * failing,
        draw=draw,
        labelled=len(curves) > 1 or limit is not None,
    )


def rarity(share: float) -> float:
    """Place of a percentile on the axis: 0, 1, 2, 3 for p0, p90, p99, p99.9."""
    return -math.log10(1 - share)


def points(curve: Curve, factor: float = 1.0) -> tuple[list[float], list[float]]:
    """Places on the axis and values (seconds times ``factor``); the largest of n values stands at 1 − 1/2n."""
    histogram, total = curve.histogram, curve.histogram.count + curve.infinite
    places, values = [], []
    seen = 0
    for index in sorted(histogram.buckets):
        first = seen / total
        seen += histogram.buckets[index]
        value = histogram.quantile(seen / histogram.count)
        if value is None:
            continue
        # A bucket of many equal values is a flat piece.
        places += [rarity(first), rarity(min(seen / total, 1 - 0.5 / total))]
        values += [value * factor] * 2
    return places, values


def _draw(sheet: Sheet, curves: Sequence[Curve], limit: float | None, factor: float, counted: str) -> None:
    axes = sheet.axes
    if not curves:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "nothing was measured", transform=axes.transAxes, ha="center", color=QUIET)
        return
    most = max(curve.histogram.count + curve.infinite for curve in curves)
    right = min(rarity(1 - 0.5 / most), rarity(0.9999)) if most > 1 else rarity(0.9)
    axes.set_xlim(0, max(right, rarity(0.9)))
    ends = []
    lowest, highest = math.inf, 0.0
    for curve in curves:
        places, values = points(curve, factor)
        axes.plot(places, values, color=curve.colour, linestyle="--" if curve.dashed else "-", linewidth=1.8)
        inside = [value for place, value in zip(places, values, strict=True) if place <= axes.get_xlim()[1]]
        ends.append((inside[-1], curve.name, curve.colour))
        lowest, highest = min(lowest, values[0]), max(highest, inside[-1])
    value_axis(sheet, lowest, highest)
    ticks = [(rarity(share), text) for share, text in _TICKS if rarity(share) <= axes.get_xlim()[1]]
    axes.set_xticks([at for at, _ in ticks], [text for _, text in ticks])
    axes.set_xlabel(f"percentile of {counted}")
    if len(curves) == 1:
        ends = []
        _mark(sheet, curves[0], factor)
        _shade_failures(sheet, curves[0])
    if limit is not None:
        axes.axhline(limit * factor, color=INK, linewidth=1, linestyle=(0, (2, 2)))
        ends.append((limit * factor, f"limit {wording.seconds(limit)}", INK))
    label_ends(sheet, ends)


def _shade_failures(sheet: Sheet, curve: Curve) -> None:
    """Right of where the answers end."""
    right = sheet.axes.get_xlim()[1]
    share = curve.infinite / (curve.infinite + curve.histogram.count)
    if not share or rarity(1 - share) >= right:
        return
    sheet.axes.axvspan(rarity(1 - share), right, color="#fdeee6", linewidth=0, zorder=0)
    text = f"{wording.share(share)}\nfailed"
    middle = ((rarity(1 - share) + right) / 2, 0.5)
    sheet.axes.annotate(text, middle, xycoords=("data", "axes fraction"), ha="center", va="center", color=VERMILLION)


def _mark(sheet: Sheet, curve: Curve, factor: float) -> None:
    """Dots and values at p50, p95 and p99."""
    for share in _MARKED:
        value = percentile(curve.histogram, share, infinite=curve.infinite)
        place = rarity(share)
        below = value is not None and value * factor < sheet.axes.get_ylim()[0]
        if value is None or math.isinf(value) or below or place > sheet.axes.get_xlim()[1]:
            continue
        sheet.axes.plot([place, place], [sheet.axes.get_ylim()[0], value * factor], color=GRID, linewidth=1)
        sheet.axes.plot([place], [value * factor], "o", color=curve.colour, markersize=6, clip_on=False)
        # The curve only rises: above left and below right of a point are free. At p50 the left is the axis.
        right = share == 0.5
        sheet.axes.annotate(
            f"p{share * 100:g}  {wording.seconds(value)}",
            (place, value * factor),
            xytext=(7, -13) if right else (-2, 9),
            textcoords="offset points",
            ha="left" if right else "right",
            color=INK,
            fontsize=11,
        )
