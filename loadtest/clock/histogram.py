"""Latencies in logarithmic buckets: percentiles with a bounded relative error, merged exactly."""

import math
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from loadtest.clock.histogram_data import HistogramData

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

RELATIVE_ERROR = 0.005
"""Of every percentile; the bound is met exactly (Masson, Rim, Lee: DDSketch, VLDB 2019, proposition 3)."""

_GROWTH = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_INVERSE_LOG_GROWTH = 1 / math.log(_GROWTH)
_SMALLEST_SECONDS = 1e-7
"""Everything below, zero and what a clock's step makes negative too, is counted in one bucket."""


class Histogram:
    """Counts of positive values, seconds mostly. Merging is exact: bucket limits never depend on what was recorded."""

    __slots__ = ("buckets", "count", "maximum", "minimum", "sum")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.count = 0
        self.sum = 0.0
        self.minimum = math.inf
        self.maximum = -math.inf

    def record(self, value: float, times: int = 1) -> None:
        """Counts ``value`` (seconds) ``times`` times."""
        index = _bucket(value)
        self.buckets[index] = self.buckets.get(index, 0) + times
        self.count += times
        self.sum += value * times
        self.minimum = min(self.minimum, value)
        self.maximum = max(self.maximum, value)

    def record_all(self, values: Iterable[float]) -> None:
        """Counts each value once."""
        for value in values:
            self.record(value)

    def record_array(self, values: FloatArray, times: IntArray | None = None) -> None:
        """``record`` for many values at once, at a twentieth of the cost for each; shapes (n,) and (n,)."""
        if not values.size:
            return
        counts = np.ones(values.size, dtype=np.int64) if times is None else times
        indexes = np.ceil(np.log(np.maximum(values, _SMALLEST_SECONDS)) * _INVERSE_LOG_GROWTH).astype(np.int64)
        lowest = int(indexes.min())
        totals = np.bincount(indexes - lowest, weights=counts)
        for offset in np.flatnonzero(totals):
            index = lowest + int(offset)
            self.buckets[index] = self.buckets.get(index, 0) + int(totals[offset])
        self.count += int(counts.sum())
        self.sum += float((values * counts).sum())
        self.minimum = min(self.minimum, float(values.min()))
        self.maximum = max(self.maximum, float(values.max()))

    def merge(self, other: Self) -> None:
        """Adds the other's counts to this one's."""
        for index, times in other.buckets.items():
            self.buckets[index] = self.buckets.get(index, 0) + times
        self.count += other.count
        self.sum += other.sum
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)

    @property
    def mean(self) -> float | None:
        """Exact; None without values."""
        return self.sum / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """The smallest recorded value that ``share`` (0 to 1) of all values do not exceed, within RELATIVE_ERROR.

        None without values.
        """
        if not self.count:
            return None
        rank = max(1, math.ceil(share * self.count - 1e-9))
        if rank == 1:
            return self.minimum
        if rank == self.count:
            return self.maximum
        seen = 0
        for index in sorted(self.buckets):
            seen += self.buckets[index]
            if seen >= rank:
                # The limits are exact, a bucket's middle is not: no percentile lies outside what was recorded.
                return min(max(_middle(index), self.minimum), self.maximum)
        return self.maximum

    def share_at_most(self, limit: float) -> float | None:
        """Share (0 to 1) of the values in buckets up to the limit's own; None without values."""
        if not self.count:
            return None
        last = _bucket(limit)
        return sum(times for index, times in self.buckets.items() if index <= last) / self.count

    def counts_at_most(self, limits: Sequence[float]) -> list[int]:
        """Values in buckets up to each limit's own; ``limits`` ascend. For many limits in one pass."""
        counts: list[int] = []
        indexes = sorted(self.buckets)
        seen = position = 0
        for last in map(_bucket, limits):
            while position < len(indexes) and indexes[position] <= last:
                seen += self.buckets[indexes[position]]
                position += 1
            counts.append(seen)
        return counts

    def data(self) -> HistogramData:
        """For a file or a message."""
        return HistogramData(
            count=self.count,
            sum=self.sum,
            minimum=self.minimum if self.count else None,
            maximum=self.maximum if self.count else None,
            buckets=dict(sorted(self.buckets.items())),
        )

    @classmethod
    def of(cls, data: HistogramData) -> Self:
        """The histogram that ``data`` was made of."""
        histogram = cls()
        histogram.buckets = dict(data.buckets)
        histogram.count = data.count
        histogram.sum = data.sum
        histogram.minimum = math.inf if data.minimum is None else data.minimum
        histogram.maximum = -math.inf if data.maximum is None else data.maximum
        return histogram


def _bucket(value: float) -> int:
    return math.ceil(math.log(max(value, _SMALLEST_SECONDS)) * _INVERSE_LOG_GROWTH)


def _middle(index: int) -> float:
    """The value whose relative distance to both limits of the bucket is the same."""
    return float(2 * _GROWTH**index / (_GROWTH + 1))
