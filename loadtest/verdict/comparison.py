"""One run against one other: without repeats, what varies inside each run tells how sure a difference is."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from loadtest.clock.histogram import RELATIVE_ERROR, Histogram
from loadtest.verdict.batches import batch_means
from loadtest.verdict.distributions import student_t
from loadtest.verdict.statistics import LEVEL, Comparison, Interval, compare_means, widened

DRAWS = 2000
SMALLEST_SECONDS = 1e-7


def compare_seconds(a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> Comparison | None:
    """Figures of every second of two windows, for example tokens: Welch's test on their batch means.

    It knows nothing of what differs from run to run, so repeats tell more. None if a window is shorter than
    two batches (6 s).
    """
    before, after = batch_means(a), batch_means(b)
    return compare_means(before, after, level) if before and after else None


def compare_percentiles(
    a: Sequence[Histogram],
    b: Sequence[Histogram],
    share: float,
    level: float = LEVEL,
    *,
    independent: tuple[int, int] | None = None,
    seed: int = 0,
) -> Comparison | None:
    """Change of a percentile from a to b; None if a side has no values.

    Each side is a list of blocks: a window's seconds (their histograms), since neighbours within one share their fate.
    Blocks are drawn with replacement, and percentile intervals expanded for few of them: Hesterberg, What teachers
    should know about the bootstrap, The American Statistician 69 (2015), section 5.3. A side of one block is taken as
    independent values, ``independent`` of them (for the inter-token latency the number of requests): the rank of a
    drawn sample's percentile then has a beta distribution (David and Nagaraja, Order Statistics, 2003, 2.1).
    """
    blocks_a, blocks_b = [one for one in a if one.count], [one for one in b if one.count]
    if not blocks_a or not blocks_b:
        return None
    chance = np.random.default_rng(seed)
    count_a, count_b = independent or (None, None)
    ratios = _draws(blocks_b, share, chance, count_b) / _draws(blocks_a, share, chance, count_a)
    estimate = _estimate(blocks_b, share) / _estimate(blocks_a, share)
    fewest = min(
        len(blocks) if len(blocks) > 1 else count or blocks[0].count
        for blocks, count in ((blocks_a, count_a), (blocks_b, count_b))
    )
    if fewest < 2:
        return Comparison(Interval(-1.0, estimate - 1, math.inf, level))
    reach = student_t((1 + level) / 2, fewest - 1) * math.sqrt(fewest / (fewest - 1))
    tail = NormalDist().cdf(-reach)
    low, high = np.quantile(ratios, (tail, 1 - tail))
    change = Interval(min(float(low), estimate) - 1, estimate - 1, max(float(high), estimate) - 1, level)
    return Comparison(widened(change, RELATIVE_ERROR))


def _merged(blocks: Sequence[Histogram]) -> Histogram:
    whole = Histogram()
    for block in blocks:
        whole.merge(block)
    return whole


def _estimate(blocks: Sequence[Histogram], share: float) -> float:
    value = _merged(blocks).quantile(share)
    return max(value or 0.0, SMALLEST_SECONDS)


def _draws(
    blocks: Sequence[Histogram], share: float, chance: np.random.Generator, independent: int | None
) -> NDArray[np.float64]:
    """The percentile of samples as this side's run might have given them."""
    whole = _merged(blocks)
    indexes = sorted(whole.buckets)
    upto = np.cumsum([whole.buckets[index] for index in indexes])
    # A zero would divide; the histogram's smallest bucket is as small.
    values = np.array([max(whole.quantile(int(seen) / whole.count) or 0.0, SMALLEST_SECONDS) for seen in upto])
    if len(blocks) == 1:
        trials = min(independent or whole.count, whole.count)
        rank = max(1, math.ceil(share * trials - 1e-9))
        shares = chance.beta(rank, trials + 1 - rank, DRAWS)
        return _at(values, np.searchsorted(upto, shares * whole.count))
    matrix = np.array([[block.buckets.get(index, 0) for index in indexes] for block in blocks])
    weights = chance.multinomial(len(blocks), [1 / len(blocks)] * len(blocks), size=DRAWS)
    sums = np.cumsum(weights @ matrix, axis=1)
    ranks = np.maximum(1, np.ceil(share * sums[:, -1:] - 1e-9))
    return _at(values, (sums < ranks).sum(axis=1))


def _at(values: NDArray[np.float64], positions: NDArray[np.intp]) -> NDArray[np.float64]:
    return np.asarray(values[np.minimum(positions, len(values) - 1)], dtype=np.float64)
