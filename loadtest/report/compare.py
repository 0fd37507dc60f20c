"""One variant against another: what changed, how sure that is, and whether it is a regression."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from loadtest.clock.histogram import RELATIVE_ERROR, Histogram
from loadtest.errors import LoadTestError
from loadtest.report import wording
from loadtest.report.comparable import Variant, obstacles, pairs
from loadtest.report.grouping import Point
from loadtest.report.measures import (
    ERRORS,
    MEASURES,
    OUTPUT_TOKENS,
    TPOT,
    TTFT,
    Latency,
    Measure,
    estimate,
    judged,
)
from loadtest.results import RunResult, Second
from loadtest.verdict.comparison import compare_percentiles, compare_seconds
from loadtest.verdict.statistics import Interval, compare_means, ratio_interval
from vllmstack.errors import Problem

_SMALL = 0.02
"""A change below this is none to anybody, however small the threshold."""
THRESHOLD = 0.05
"""A change that is surely larger than this, in the bad direction, is a regression."""


class Verdict(StrEnum):
    """What the interval of a change says."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "same"
    """No change is as likely as any, and none is larger than the threshold."""
    UNCLEAR = "unclear"
    """It may be no change or a large one: measure longer or more often."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One measure of one load: candidate against baseline."""

    measure: Measure
    before: float | None
    after: float | None
    interval: Interval | None
    """Of after/before − 1; for ratios, of after − before. None: unknown."""
    verdict: Verdict
    regression: bool

    @property
    def text(self) -> str:
        """``+4.2 %``; for ratios in percentage points."""
        if self.interval is None:
            return wording.NOTHING
        text = wording.change(self.interval.estimate)
        return text.replace(" %", " pp") if self.measure.unit == "ratio" else text

    @property
    def interval_text(self) -> str:
        """``+2.0 to +6.4 %``."""
        if self.interval is None:
            return ""
        low, high = (wording.change(end).removesuffix(" %") for end in (self.interval.low, self.interval.high))
        return f"{low} to {high} {'pp' if self.measure.unit == 'ratio' else '%'}"


@dataclass(frozen=True, kw_only=True)
class LoadComparison:
    """All measures of one load."""

    before: Point
    after: Point
    changes: tuple[Change, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A candidate against the baseline."""

    baseline: Variant
    candidate: Variant
    loads: tuple[LoadComparison, ...]
    threshold: float

    @property
    def regressions(self) -> list[tuple[LoadComparison, Change]]:
        return [(load, change) for load in self.loads for change in load.changes if change.regression]


def compare(
    baseline: Variant, candidates: Sequence[Variant], *, threshold: float = THRESHOLD, force: bool = False
) -> list[Comparison]:
    """Each candidate against the baseline, load by load.

    Args:
        baseline: What the others are measured against.
        candidates: At least one.
        threshold: A change that is surely larger, in the bad direction, is a regression; for goodput in percentage
            points. Errors have none: more of them than chance explains are a regression.
        force: Compare what is not the same load or scenario, or not valid, all the same.

    Raises:
        LoadTestError: every field in which they differ and every invalid run; with ``force``, if no load is common.
    """
    problems = [] if force else list(obstacles(baseline, candidates))
    found = {candidate.name: pairs(baseline, candidate, force=force) for candidate in candidates}
    if not problems:
        problems = [
            Problem(file=name, fact=f"has no load in common with {baseline.name}", hint="measure both under one load")
            for name, common in found.items()
            if not common
        ]
    if problems:
        raise LoadTestError(problems)
    return [
        Comparison(
            baseline=baseline,
            candidate=candidate,
            loads=tuple(_load(before, after, threshold) for before, after in found[candidate.name]),
            threshold=threshold,
        )
        for candidate in candidates
    ]


def _load(before: Point, after: Point, threshold: float) -> LoadComparison:
    found = [_change(one, before, after, threshold) for one in MEASURES]
    return LoadComparison(before=before, after=after, changes=tuple(change for change in found if change is not None))


def _change(one: Measure, before: Point, after: Point, threshold: float) -> Change | None:
    estimates = before.estimate(one), after.estimate(one)
    if estimates[0] is None or estimates[1] is None:
        return None
    values = estimates[0].estimate, estimates[1].estimate
    found = _ratio_change(one, before, after) if one.unit == "ratio" else _relative_change(one, before, after, values)
    verdict, regression = judge(one, found, 0.0 if one is ERRORS else threshold)
    return Change(
        measure=one, before=values[0], after=values[1], interval=found, verdict=verdict, regression=regression
    )


def judge(one: Measure, change: Interval | None, threshold: float) -> tuple[Verdict, bool]:
    """The verdict, and whether even the interval's better end is worse by more than the threshold."""
    if change is None:
        return Verdict.UNCLEAR, False
    if change.holds(0.0):
        small = max(-change.low, change.high) <= max(threshold, _SMALL)
        return (Verdict.SAME if small else Verdict.UNCLEAR), False
    grew = change.low > 0
    if grew == (one.better == "higher"):
        return Verdict.BETTER, False
    nearest = change.low if grew else -change.high
    return Verdict.WORSE, nearest > threshold


def _ratio_change(one: Measure, before: Point, after: Point) -> Interval | None:
    """Of the difference of two shares. Source: Newcombe, Statistics in Medicine 17 (1998), 873, method 10."""
    ends = []
    for point in (before, after):
        counts = point.total.counts
        found = ratio_interval(counts.failed if one is ERRORS else counts.good, judged(point.total))
        if found is None:
            return None
        ends.append(found)
    a, b = ends
    change = b.estimate - a.estimate
    low = change - math.hypot(b.estimate - b.low, a.high - a.estimate)
    high = change + math.hypot(b.high - b.estimate, a.estimate - a.low)
    return Interval(low, change, high)


def _relative_change(one: Measure, before: Point, after: Point, values: tuple[float, float]) -> Interval | None:
    if not all(math.isfinite(value) and value > 0 for value in values):
        return Interval(0.0, 0.0, 0.0) if values[0] == values[1] else None
    runs = before.runs, after.runs
    # A single run beside two says too little of what differs from run to run.
    repeated = min(map(len, runs)) > 1 or max(map(len, runs)) > 2
    found = _of_repeats(one, runs) if repeated else _within_runs(one, before, after)
    return None if found is None else _moved(found, values[1] / values[0] - 1)


def _of_repeats(one: Measure, runs: tuple[Sequence[RunResult], Sequence[RunResult]]) -> Interval | None:
    sides = [[found.estimate for run in side if (found := estimate(one, [run])) is not None] for side in runs]
    if not all(sides) or not all(math.isfinite(value) for side in sides for value in side):
        return None
    before, after = sides
    return compare_means(before, after, resolution=RELATIVE_ERROR if one.unit == "s" else 0.0).change


def _within_runs(one: Measure, before: Point, after: Point) -> Interval | None:
    if one.latency is None or one.share is None:
        counter = "tokens" if one is OUTPUT_TOKENS else "ok"
        was, now = ([float(getattr(second, counter)) for second in _window(point)] for point in (before, after))
        seconds = compare_seconds(was, now) if sum(was) and sum(now) else None
        return seconds.change if seconds else None
    requests = before.total.counts.ok, after.total.counts.ok
    blocks = _blocks(one.latency, before), _blocks(one.latency, after)
    found = compare_percentiles(blocks[0], blocks[1], one.share, independent=requests)
    return found.change if found else None


def _blocks(latency: Latency, point: Point) -> list[Histogram]:
    """Neighbours in time share their fate: where the time line has the latency, its seconds are the blocks."""
    if latency in (TTFT, TPOT):
        found = [Histogram.of(getattr(second, latency.name)) for second in _window(point)]
        if sum(histogram.count > 0 for histogram in found) > 1:
            return found
    return [Histogram.of(latency.data(point.first, point.total))]


def _window(point: Point) -> list[Second]:
    return [
        second
        for run in point.runs
        for second in run.timeline
        if run.warmup_seconds <= second.at and second.at + 1 <= run.warmup_seconds + run.duration_seconds
    ]


def _moved(change: Interval, estimate: float) -> Interval:
    """Around the numbers that stand beside it: seconds and window are cut a little differently."""
    factor = (1 + estimate) / (1 + change.estimate) if change.estimate > -1 else 1.0
    return Interval((1 + change.low) * factor - 1, estimate, (1 + change.high) * factor - 1, change.level)


def single_runs(comparisons: Sequence[Comparison]) -> bool:
    """Whether an interval rests on single runs, so that it holds nothing of what differs from run to run."""
    return any(len(point.runs) < 2 for one in comparisons for load in one.loads for point in (load.before, load.after))
