"""How sure a measured number is: intervals, comparison of repeats, and the knee of a curve."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist, fmean, variance

from loadtest.clock.histogram import Histogram
from loadtest.verdict.distributions import binomial_quantile, student_t

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A number and the range that holds the true one with probability ``level``; an unknown end is infinite."""

    low: float
    estimate: float
    high: float
    level: float = LEVEL

    def holds(self, value: float) -> bool:
        """Whether ``value`` is inside, the ends included."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Comparison:
    """Two sets of runs, b against a."""

    change: Interval
    """Of b/a − 1: 0.1 is 10 % more."""

    @property
    def significant(self) -> bool:
        """Whether the interval leaves no change out."""
        return not self.change.holds(0.0)


def percentile(histogram: Histogram, share: float, *, infinite: int = 0) -> float | None:
    """The value that ``share`` (0 to 1) of all values do not exceed, ``infinite`` further ones being above all others.

    None without values; infinity if it falls among the infinite ones.
    """
    total = histogram.count + infinite
    if not total:
        return None
    return _at_rank(histogram, max(1, math.ceil(share * total - 1e-9)))


def percentile_interval(
    histogram: Histogram,
    share: float,
    level: float = LEVEL,
    *,
    infinite: int = 0,
    independent: int | None = None,
) -> Interval | None:
    """Distribution-free interval of a percentile, from two order statistics; None without values.

    The number of values below the true percentile is binomial, so the ranks of the ends are its quantiles. Source: Hahn
    and Meeker, Statistical Intervals (1991), section 5.2; Le Boudec, Performance Evaluation (2010), theorem 2.1.

    Args:
        histogram: The values.
        share: Of the percentile, 0 to 1.
        level: Probability that the interval holds the true percentile, at least; exceeded a little for few values.
        infinite: Further values that are above all others: requests that failed.
        independent: How many values tell something new. Tokens of one request share their fate, so for the inter-token
            latency it is the number of requests. None: all.

    With too few values for an end it is 0 or infinity.
    """
    total = histogram.count + infinite
    estimate = percentile(histogram, share, infinite=infinite)
    if estimate is None:
        return None
    trials = total if independent is None else max(1, min(independent, total))
    tail = (1 - level) / 2
    # P(X_(l) > true) = P(fewer than l below) must be at most the tail: l is the lower quantile itself; above likewise.
    lower, upper = binomial_quantile(tail, trials, share), binomial_quantile(1 - tail, trials, share) + 1
    low_rank = lower if trials == total else math.floor(lower / trials * total)
    high_rank = upper if trials == total else math.ceil(upper / trials * total)
    low = 0.0 if low_rank < 1 else _at_rank(histogram, low_rank)
    high = math.inf if upper > trials else _at_rank(histogram, high_rank)
    return Interval(min(low, estimate), estimate, max(high, estimate), level)


def _at_rank(histogram: Histogram, rank: int) -> float:
    if rank > histogram.count:
        return math.inf
    value = histogram.quantile(rank / histogram.count)
    return math.inf if value is None else value


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Interval of the mean of independent repeats; None for fewer than two.

    Source: Student, The probable error of a mean, Biometrika 6 (1908).
    """
    if len(values) < 2:
        return None
    return _around(fmean(values), math.sqrt(variance(values) / len(values)), len(values) - 1, level)


def histogram_mean_interval(
    histogram: Histogram, level: float = LEVEL, *, independent: int | None = None
) -> Interval | None:
    """As ``mean_interval``, of the values in a histogram; None without values, unbounded for a single one."""
    mean = histogram.mean
    if mean is None:
        return None
    trials = histogram.count if independent is None else max(1, min(independent, histogram.count))
    if trials < 2:
        return Interval(0.0, mean, math.inf, level)
    spread = histogram_variance(histogram)
    return _around(mean, math.sqrt(spread / trials), trials - 1, level)


def histogram_variance(histogram: Histogram) -> float:
    """Variance of the values, within the histogram's relative error; 0 for fewer than two."""
    if histogram.count < 2 or histogram.mean is None:
        return 0.0
    squares, seen = 0.0, 0
    for index in sorted(histogram.buckets):
        times = histogram.buckets[index]
        seen += times
        squares += times * (_at_rank(histogram, seen) - histogram.mean) ** 2
    return squares / (histogram.count - 1)


def _around(estimate: float, error: float, degrees: float, level: float) -> Interval:
    reach = student_t((1 + level) / 2, degrees) * error
    return Interval(estimate - reach, estimate, estimate + reach, level)


def ratio_interval(successes: int, trials: int, level: float = LEVEL) -> Interval | None:
    """Interval of a share of independent trials, 0 to 1; None without trials.

    Source: Wilson, Probable inference, Journal of the American Statistical Association 22 (1927).
    """
    if trials <= 0:
        return None
    share = successes / trials
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    reach = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # At 0 and 1 the ends are the share itself, but for rounding.
    low = 0.0 if successes == 0 else middle - reach
    high = 1.0 if successes == trials else middle + reach
    return Interval(low, share, high, level)


def difference(a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> Interval:
    """Interval of mean(b) / mean(a) − 1, of repeats of two variants with positive means.

    Welch's test on the logarithm of the means (delta method), with Satterthwaite's degrees of freedom: the variants may
    differ in spread. Source: Welch, The generalization of Student's problem, Biometrika 34 (1947). A variant with
    one repeat borrows the other's relative spread; with one repeat each nothing bounds the interval.

    Raises:
        ValueError: a variant has no values.
    """
    if not a or not b:
        raise ValueError("a comparison needs values on both sides")
    before, after = fmean(a), fmean(b)
    if before <= 0 or after <= 0:
        return _difference_at_zero(before, after, level)
    ratio = after / before
    spread_a, spread_b = _relative_variance(a), _relative_variance(b)
    if spread_a is None and spread_b is None:
        return Interval(-1.0, ratio - 1, math.inf, level)
    if spread_a is None or spread_b is None:
        spread = spread_a if spread_a is not None else spread_b or 0.0
        error, degrees = spread / len(a) + spread / len(b), float(len(a) + len(b) - 2)
    else:
        part_a, part_b = spread_a / len(a), spread_b / len(b)
        error = part_a + part_b
        shares = part_a**2 / (len(a) - 1) + part_b**2 / (len(b) - 1)
        degrees = error**2 / shares if shares else float(len(a) + len(b) - 2)
    reach = math.exp(student_t((1 + level) / 2, degrees) * math.sqrt(error))
    return Interval(ratio / reach - 1, ratio - 1, ratio * reach - 1, level)


def _difference_at_zero(before: float, after: float, level: float) -> Interval:
    """Ratios of what is zero: no change if both are, else unbounded."""
    if before == after:
        return Interval(0.0, 0.0, 0.0, level)
    return Interval(-1.0, after / before - 1 if before else math.inf, math.inf, level)


def _relative_variance(values: Sequence[float]) -> float | None:
    return variance(values) / fmean(values) ** 2 if len(values) > 1 else None


def compare_means(
    a: Sequence[float], b: Sequence[float], level: float = LEVEL, *, resolution: float = 0.0
) -> Comparison:
    """Repeats of b against repeats of a: one value a run, for example output tokens a second.

    ``resolution`` is the relative error of each value: ``histogram.RELATIVE_ERROR`` for percentiles, which would else
    seem to differ by a bucket. For one run each use ``comparison.compare_seconds`` and ``compare_percentiles``.

    Raises:
        ValueError: a side has no values.
    """
    return Comparison(widened(difference(a, b, level), resolution))


def widened(change: Interval, resolution: float) -> Interval:
    """A relative change between two values that each have the relative error ``resolution``."""
    factor = (1 + resolution) / (1 - resolution)
    return Interval((1 + change.low) / factor - 1, change.estimate, (1 + change.high) * factor - 1, change.level)


def knee(points: Sequence[tuple[float, float]], sensitivity: float = 1.0) -> int | None:
    """Where a throughput–latency curve bends: index of the point after which latency grows faster than throughput.

    ``points`` are (throughput, latency) in the order of growing load. None if the curve does not bend: a straight line,
    fewer than three finite points, or a bend that is not followed by a decline.

    Source: Satopää and others, Finding a "Kneedle" in a Haystack, ICDCS Workshops 2011, for a convex curve that grows;
    without its smoothing, since a sweep has few points. The point of the largest distance counts.
    """
    known = [index for index, point in enumerate(points) if all(map(math.isfinite, point))]
    throughputs, latencies = [points[index][0] for index in known], [points[index][1] for index in known]
    if len(known) < 3 or max(throughputs) == min(throughputs) or max(latencies) == min(latencies):
        return None
    x, y = _to_unit(throughputs), _to_unit(latencies)
    distances = [across - up for across, up in zip(x, y, strict=True)]
    best = max(range(len(known)), key=distances.__getitem__)
    step = fmean(abs(after - before) for before, after in pairwise(x))
    threshold = distances[best] - sensitivity * step
    if best == 0 or not any(distance < threshold for distance in distances[best + 1 :]):
        return None
    return known[best]


def _to_unit(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    return [(value - low) / (high - low) for value in values]
