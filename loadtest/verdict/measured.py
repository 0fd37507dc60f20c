"""What runs of one load say about one limit: the number, and how sure it is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.clock.histogram import RELATIVE_ERROR, Histogram
from loadtest.results import LoadKind, RunResult, Series
from loadtest.verdict.batches import batch_means
from loadtest.verdict.limits import Limit
from loadtest.verdict.pooling import pooled, series_of
from loadtest.verdict.statistics import (
    Interval,
    histogram_mean_interval,
    mean_interval,
    percentile_interval,
    ratio_interval,
)

ENOUGH_REPEATS = 3
"""From so many on, what differs from run to run is known, and not only what varies inside one."""


@dataclass(frozen=True)
class Measurement:
    """Repeats of one load, and what the model in question did in them."""

    runs: Sequence[RunResult]
    parts: Sequence[Series]
    whole: Series
    tolerates_failures: bool = False
    """The target says how many requests may fail: then a mean is one of answers."""

    @classmethod
    def of(cls, runs: Sequence[RunResult], model: str, *, tolerates_failures: bool = False) -> "Measurement":
        """The runs, of which only ``model`` counts."""
        parts = [series_of(run, model) for run in runs]
        return cls(runs, parts, pooled(parts), tolerates_failures)

    @property
    def judged_requests(self) -> int:
        """Requests that could succeed or fail: all but those that the scenario abandoned."""
        return self.whole.counts.sent - self.whole.counts.abandoned

    @property
    def by_schedule(self) -> bool:
        """Whether latencies count from when a request was due: then nobody waits for a slow server's answers."""
        return any(run.load.kind is LoadKind.OPEN for run in self.runs)


def measure(limit: Limit, measurement: Measurement) -> Interval | None:
    """The number that the limit is about, over all repeats together; None if nothing was measured.

    The interval is Student's over the repeats where there are enough of them, else that of what varies inside the runs.
    Failed requests count as slower than every answer, so that a latency may be infinite.
    """
    found = _measure(limit, measurement)
    if found is None or limit.share is None:
        return found
    # A histogram's percentile is as exact as its buckets.
    return Interval(found.low * (1 - RELATIVE_ERROR), found.estimate, found.high * (1 + RELATIVE_ERROR), found.level)


def _measure(limit: Limit, measurement: Measurement) -> Interval | None:
    within = _within(limit, measurement)
    if within is None or len(measurement.parts) < ENOUGH_REPEATS:
        return within
    values = [_value(limit, part, measurement) for part in measurement.parts]
    known = [value for value in values if value is not None and math.isfinite(value)]
    repeats = mean_interval(known) if len(known) == len(values) else None
    if repeats is None or math.isinf(within.estimate):
        return within
    low, high = max(repeats.low, 0.0), repeats.high
    if limit.unit == "ratio":
        # Repeats without a failure agree perfectly, and still say little about a failure in a thousand.
        low, high = min(low, within.low), min(max(high, within.high), 1.0)
    return Interval(min(low, within.estimate), within.estimate, max(high, within.estimate), within.level)


def infinitely_slow(latency: str, series: Series) -> int:
    """Values above all others that stand for the failed requests: one each, and for tokens as many as an answer has."""
    failed = series.counts.failed
    answers = series.counts.ok
    if latency == "itl" and answers:
        return round(failed * series.latencies.itl.count / answers)
    return failed


def _within(limit: Limit, measurement: Measurement) -> Interval | None:
    whole, counts = measurement.whole, measurement.whole.counts
    if limit.latency is not None:
        return _latency(limit, whole, measurement)
    if limit.key == "error_ratio":
        return ratio_interval(counts.failed, measurement.judged_requests)
    if limit.key == "goodput_ratio":
        return ratio_interval(counts.good, measurement.judged_requests)
    if limit.key == "output_tokens_per_second":
        return _rate(whole.output_tokens_per_second, measurement.runs, "tokens")
    return _rate(whole.requests_per_second, measurement.runs, "ok")


def _value(limit: Limit, part: Series, measurement: Measurement) -> float | None:
    if limit.latency is None:
        value: float = getattr(part, limit.key)
        return value
    found = _latency(limit, part, measurement)
    return found.estimate if found else None


def _latency(limit: Limit, series: Series, measurement: Measurement) -> Interval | None:
    latency = limit.latency or ""
    field = f"{latency}_scheduled" if measurement.by_schedule and latency in ("ttft", "e2e") else latency
    histogram = Histogram.of(getattr(series.latencies, field))
    failed = infinitely_slow(latency, series)
    if not histogram.count and not failed:
        return None
    # The tokens of one request share its fate; other latencies have a value a request.
    requests = series.counts.ok + series.counts.failed
    if limit.share is None:
        if failed and not (histogram.count and measurement.tolerates_failures):
            return Interval(math.inf, math.inf, math.inf)
        found = histogram_mean_interval(histogram, independent=requests)
        return Interval(max(found.low, 0.0), found.estimate, found.high, found.level) if found else None
    return percentile_interval(histogram, limit.share, infinite=failed, independent=requests)


def _rate(estimate: float, runs: Sequence[RunResult], counter: str) -> Interval:
    """The window's own rate; its relative spread is that of the time line, which knows only all models together."""
    means: list[float] = []
    for run in runs:
        start, end = run.warmup_seconds, run.warmup_seconds + run.duration_seconds
        means += batch_means(
            [getattr(second, counter) for second in run.timeline if start <= second.at and second.at + 1 <= end]
        )
    found = mean_interval(means)
    if found is None:
        return Interval(0.0, estimate, math.inf)
    if not found.estimate:
        return Interval(estimate, estimate, estimate)
    scale = estimate / found.estimate
    return Interval(max(found.low * scale, 0.0), estimate, found.high * scale, found.level)
