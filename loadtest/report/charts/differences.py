"""Relative differences with their intervals, so that better is always right."""

import math
from collections.abc import Sequence

from loadtest.report import wording
from loadtest.report.charts.canvas import BLUE, FAINT, GRID, INK, QUIET, VERMILLION, Chart, Sheet, label_ends
from loadtest.report.compare import Change, Verdict

_COLOURS = {Verdict.BETTER: BLUE, Verdict.WORSE: VERMILLION, Verdict.SAME: FAINT, Verdict.UNCLEAR: FAINT}
_SHOWN_RATIO = 0.8
"""Of the ends of intervals: one that nothing is known of must not flatten the others; it gets an arrow."""


def differences(changes: Sequence[Change], *, threshold: float, name: str, title: str) -> Chart:
    """A line for each measure: a dot and its interval, in percent (ratios: percentage points)."""
    shown = [change for change in changes if change.interval is not None]

    def draw(sheet: Sheet) -> None:
        _draw(sheet, shown, threshold)

    return Chart(
        name=name,
        title=title,
        subtitle="difference, %; right is better",
        caption=f"Bars are 95 % intervals; shaded: less than {wording.share(threshold)}, which is no regression.",
        draw=draw,
        rows=len(shown),
    )


def _reach(ends: Sequence[float], threshold: float) -> float:
    """How far the axis goes to both sides."""
    usual = sorted(ends)[int(_SHOWN_RATIO * (len(ends) - 1))] if ends else 0.0
    return max(1.2 * usual, 2.5 * threshold)


def _draw(sheet: Sheet, shown: Sequence[Change], threshold: float) -> None:
    axes = sheet.axes
    ends = [abs(end) for change in shown if change.interval for end in (change.interval.low, change.interval.high)]
    reach = _reach([end for end in ends if math.isfinite(end)], threshold)
    axes.axvspan(-threshold, threshold, color="#f1f3f5", linewidth=0, zorder=0)
    axes.axvline(0, color=INK, linewidth=1)
    labels = []
    for row, change in enumerate(shown):
        if change.interval is None:
            continue
        sign = 1 if change.measure.better == "higher" else -1
        low, high = sorted((sign * change.interval.low, sign * change.interval.high))
        middle = sign * change.interval.estimate
        colour = _COLOURS[change.verdict]
        axes.plot([max(low, -reach), min(high, reach)], [row, row], color=colour, linewidth=3, alpha=0.55)
        for end, marker in ((low, "<"), (high, ">")):
            if abs(end) > reach:
                axes.plot([math.copysign(reach, end)], [row], marker, color=colour, markersize=5, clip_on=False)
        if abs(middle) <= reach:
            axes.plot([middle], [row], "o", color=colour, markersize=6.5)
        labels.append((float(row), change.text, VERMILLION if change.regression else INK))
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(-reach, reach)
    axes.set_yticks(range(len(shown)), [change.measure.title for change in shown])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=GRID)
    axes.xaxis.set_major_formatter(lambda value, _: wording.tick(round(value * 100, 6)))
    axes.set_xlabel("worse ←    → better", color=QUIET)
    label_ends(sheet, labels)
