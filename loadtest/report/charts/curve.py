"""Throughput against latency over the loads of a sweep, with the knee marked."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.report import wording
from loadtest.report.charts.canvas import (
    BLUE,
    FAINT,
    INK,
    ORANGE,
    QUIET,
    VARIANTS,
    VERMILLION,
    Chart,
    Sheet,
    axis_unit,
    label_ends,
    value_axis,
)
from loadtest.report.grouping import Point, Sweep
from loadtest.report.measures import BY_KEY, E2E, OUTPUT_TOKENS, TPOT, TTFT, Latency, Measure
from loadtest.results import LoadKind

_TOUCHING = 16
"""Pixels: points closer than this share one label."""


_CHARACTER = 8
"""Pixels, about."""


HOW_TO_READ = (
    "Right is more throughput, up is a longer wait. The ring marks the knee, the last load worth taking: beyond it, "
    "waiting grows faster than throughput."
)


@dataclass(frozen=True)
class _Dot:
    """A load at its place on the paper."""

    x: float
    y: float
    point: Point


def load_axis(sweep: Sweep) -> str:
    """What grows along a sweep, with its unit."""
    return "concurrency" if sweep.kind is LoadKind.CLOSED else "requests asked, a second"


def curves(sweep: Sweep) -> list[Chart]:
    """Four charts of a sweep; none where there are fewer than three loads."""
    if not sweep.has_curve:
        return []
    return [
        throughput_against_latency([("", sweep)], TTFT),
        throughput_against_latency([("", sweep)], TPOT),
        throughput_by_load(sweep),
        latency_by_load(sweep, E2E),
    ]


def throughput_against_latency(variants: Sequence[tuple[str, Sweep]], latency: Latency) -> Chart:
    """p50 and p95 (p95 alone for several variants) over output tokens a second."""
    percentiles = ("p95", "p50") if len(variants) == 1 else ("p95",)
    shown = [BY_KEY[f"{latency.name}_seconds.{percentile}"] for percentile in percentiles]
    unit, factor = axis_unit(*_extremes([sweep for _, sweep in variants], shown))

    def draw(sheet: Sheet) -> None:
        labels: list[tuple[float, str, str]] = []
        traces: list[list[_Dot]] = []
        for index, (name, sweep) in enumerate(variants):
            for percentile, one in zip(percentiles, shown, strict=True):
                colour = VARIANTS[index % len(VARIANTS)] if name else VERMILLION if percentile == "p95" else BLUE
                dots = _dots(sweep, lambda point: _known(point, OUTPUT_TOKENS), one, factor)
                last = _trace(sheet, dots, colour, sweep.knee)
                labels += [(last, name or percentile, colour)] if last is not None else []
                traces.append(dots)
        everything = [dot for dots in traces for dot in dots]
        value_axis(sheet, min((dot.y for dot in everything), default=0), max((dot.y for dot in everything), default=1))
        sheet.axes.set_xlim(0, max((dot.x for dot in everything), default=1) * 1.04)
        sheet.axes.xaxis.set_major_formatter(wording.tick)
        sheet.axes.set_xlabel("output tokens/s")
        _number(sheet, traces[0], variants[0][1].knee, below=len(variants) > 1)
        label_ends(sheet, labels)

    return Chart(
        name=f"curve-{latency.name}",
        title=f"Throughput against {latency.title}",
        subtitle=f"{latency.title} {' and '.join(reversed(percentiles))}, {unit}; numbers: {load_axis(variants[0][1])}",
        caption=_crosses([sweep for _, sweep in variants]),
        draw=draw,
    )


def throughput_by_load(sweep: Sweep) -> Chart:
    """Output tokens a second over the loads, beside what the first load would give in proportion."""

    def draw(sheet: Sheet) -> None:
        dots = _dots(sweep, lambda point: point.level, OUTPUT_TOKENS, 1.0)
        highest = max((dot.y for dot in dots), default=1.0)
        believed = [dot for dot in dots if dot.point.valid]
        _level_axis(sheet, sweep)
        value_axis(sheet, 0, highest)
        if len(believed) > 1:
            places = np.geomspace(believed[0].x, believed[-1].x, 60)
            line = places * believed[0].y / believed[0].x
            sheet.axes.plot(places, line, color=FAINT, linewidth=1.2, linestyle=(0, (3, 3)))
        for dot in believed:
            found = dot.point.estimate(OUTPUT_TOKENS)
            if found is not None and math.isfinite(found.high):
                sheet.axes.plot([dot.x] * 2, [found.low, found.high], color=BLUE, linewidth=1.2)
        last = _trace(sheet, dots, BLUE, sweep.knee)
        _number(sheet, [dot for dot in dots if dot.point is sweep.knee], sweep.knee)
        if last is not None:
            label_ends(sheet, [(last, f"{wording.number(last)}", BLUE)])

    return Chart(
        name="curve-throughput",
        title="Output tokens by load",
        subtitle="tok/s; dashed: in proportion to the first load",
        caption="As long as it follows the dashed line, more load costs nothing. Bars are 95 % intervals.",
        draw=draw,
    )


def latency_by_load(sweep: Sweep, latency: Latency) -> Chart:
    """p50, p95 and p99 over the loads."""
    percentiles = (("p99", VERMILLION), ("p95", ORANGE), ("p50", BLUE))
    shown = [BY_KEY[f"{latency.name}_seconds.{percentile}"] for percentile, _ in percentiles]
    unit, factor = axis_unit(*_extremes([sweep], shown))

    def draw(sheet: Sheet) -> None:
        labels, values = [], []
        for (percentile, colour), one in zip(percentiles, shown, strict=True):
            dots = _dots(sweep, lambda point: point.level, one, factor)
            last = _trace(sheet, dots, colour, sweep.knee if percentile == "p50" else None)
            labels += [(last, percentile, colour)] if last is not None else []
            values += [dot.y for dot in dots]
        _level_axis(sheet, sweep)
        value_axis(sheet, min(values, default=0), max(values, default=1))
        label_ends(sheet, labels)

    return Chart(
        name=f"curve-{latency.name}-by-load",
        title=f"{latency.title} by load",
        subtitle=f"{unit}: p50, p95, p99",
        caption="",
        draw=draw,
    )


def _crosses(shown: Sequence[Sweep]) -> str:
    return "" if all(point.valid for sweep in shown for point in sweep.points) else "Crosses are invalid runs."


def _extremes(shown: Sequence[Sweep], measures: Sequence[Measure]) -> tuple[float, float]:
    values = [_known(point, one) for sweep in shown for point in sweep.points for one in measures]
    finite = [value for value in values if math.isfinite(value)]
    return min(finite, default=0.0), max(finite, default=0.0)


def _known(point: Point, one: Measure) -> float:
    found = point.estimate(one)
    return math.nan if found is None else found.estimate


def _dots(sweep: Sweep, across: Callable[[Point], float], one: Measure, factor: float) -> list[_Dot]:
    """Every load that has both values."""
    dots = [_Dot(across(point), _known(point, one) * factor, point) for point in sweep.points if point.level]
    return [dot for dot in dots if math.isfinite(dot.x) and math.isfinite(dot.y)]


def _trace(sheet: Sheet, dots: Sequence[_Dot], colour: str, knee: Point | None) -> float | None:
    """A line through what can be believed, a dot a load; the height of the line's end."""
    axes = sheet.axes
    believed = [dot for dot in dots if dot.point.valid]
    axes.plot([dot.x for dot in believed], [dot.y for dot in believed], "o-", color=colour, markersize=5.5)
    doubted = [dot for dot in dots if not dot.point.valid]
    axes.plot(
        [dot.x for dot in doubted], [dot.y for dot in doubted], "x", color=FAINT, markersize=7, markeredgewidth=1.8
    )
    for dot in dots:
        if dot.point is knee:
            axes.plot([dot.x], [dot.y], "o", markersize=13, markerfacecolor="none", markeredgecolor=INK)
    return believed[-1].y if believed else None


def _number(sheet: Sheet, dots: Sequence[_Dot], knee: Point | None, *, below: bool = False) -> None:
    """Each point's load above left of it, where a curve that rises is not; points that touch share one label.

    ``below`` puts them below right, where the curves of other variants are not so often.
    """
    axes = sheet.axes
    groups: list[list[_Dot]] = []
    for dot in dots:
        here = axes.transData.transform((dot.x, dot.y))
        before = axes.transData.transform((groups[-1][-1].x, groups[-1][-1].y)) if groups else None
        if before is not None and math.hypot(*(here - before)) < _TOUCHING:
            groups[-1].append(dot)
        else:
            groups.append([dot])
    taken: list[tuple[float, float, float]] = []
    # The knee's label first: others give way to it.
    for group in sorted(groups, key=lambda group: all(dot.point is not knee for dot in group)):
        bends = any(dot.point is knee for dot in group)
        loads = ", ".join(("knee " if dot.point is knee else "") + dot.point.short_name for dot in group)
        x, y = axes.transData.transform((group[0].x, group[0].y))
        width = _CHARACTER * len(loads)
        # At the left end the axis has its own numbers.
        near_axis = x - axes.get_window_extent().x0 < width
        if below and x + width > axes.get_window_extent().x1:
            continue  # there the names of the curves stand
        right_end = x + width if below else x + width / 2 if near_axis else x
        if any(right_end > left and right_end - width < right and abs(y - at) < 14 for left, right, at in taken):
            continue
        taken.append((right_end - width, right_end, y))
        axes.annotate(
            loads,
            (group[0].x, group[0].y),
            xytext=(7, -13) if below else (0 if near_axis else -7 if bends else -4, 8 if bends else 6),
            textcoords="offset points",
            ha="left" if below else "center" if near_axis else "right",
            color=INK if bends else QUIET,
            fontweight="bold" if bends else "normal",
            fontsize=10.5,
        )


def _level_axis(sheet: Sheet, sweep: Sweep) -> None:
    """Loads that double get equal steps; loads that add get a linear axis."""
    axes = sheet.axes
    levels = sorted({point.level for point in sweep.points if point.level})
    if levels[-1] >= 8 * levels[0]:
        axes.set_xscale("log", base=2)
    axes.set_xticks(levels, [wording.tick(level) for level in levels])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(load_axis(sweep))
