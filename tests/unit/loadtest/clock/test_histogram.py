"""Percentiles stay within the stated error, and merging loses nothing."""

import math
import random

import numpy as np
import pytest

from loadtest.clock.histogram import RELATIVE_ERROR, Histogram


def filled(values: list[float]) -> Histogram:
    histogram = Histogram()
    histogram.record_all(values)
    return histogram


@pytest.mark.parametrize("scale", [1e-4, 1e-3, 0.1, 10.0, 3000.0])
def test_every_percentile_is_within_the_stated_error(scale: float) -> None:
    generator = random.Random(7)
    values = sorted(generator.lognormvariate(0, 1.5) * scale for _ in range(20_000))
    histogram = filled(values)

    for share in (0.001, 0.01, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999):
        exact = values[math.ceil(share * len(values)) - 1]
        assert histogram.quantile(share) == pytest.approx(exact, rel=RELATIVE_ERROR * 1.0001)


def test_minimum_maximum_mean_and_count_are_exact() -> None:
    histogram = filled([0.25, 0.5, 1.0])

    assert (histogram.quantile(0), histogram.quantile(1)) == (0.25, 1.0)
    assert histogram.mean == pytest.approx(1.75 / 3, rel=1e-12)
    assert histogram.count == 3


def test_merging_parts_equals_recording_everything_in_one() -> None:
    generator = random.Random(3)
    values = [generator.expovariate(8) for _ in range(9_999)]
    whole, merged = filled(values), Histogram()

    for start in range(7):
        merged.merge(filled(values[start::7]))

    assert merged.buckets == whole.buckets
    assert merged.data().minimum == whole.data().minimum
    assert merged.quantile(0.99) == whole.quantile(0.99)


def test_a_weighted_value_counts_as_often_as_said() -> None:
    weighted, single = Histogram(), filled([0.01] * 4 + [0.5])
    weighted.record(0.01, times=4)
    weighted.record(0.5)

    assert weighted.data().buckets == single.data().buckets
    assert weighted.count == single.count


def test_an_empty_histogram_has_no_percentile() -> None:
    assert Histogram().quantile(0.5) is None
    assert Histogram().mean is None
    assert Histogram().share_at_most(1) is None


def test_data_makes_the_same_histogram_again() -> None:
    histogram = filled([0.1, 0.2, 0.3, 4.0])

    assert Histogram.of(histogram.data()).data() == histogram.data()


def test_zero_and_negative_values_are_counted_not_refused() -> None:
    histogram = filled([0.0, -1e-9, 0.1])

    assert histogram.count == 3
    assert histogram.quantile(0.5) == pytest.approx(0, abs=1e-6)


def test_the_share_below_a_limit() -> None:
    histogram = filled([0.01 * n for n in range(1, 101)])

    assert histogram.share_at_most(0.505) == pytest.approx(0.5, abs=0.011)
    assert histogram.share_at_most(2) == 1


def test_an_array_counts_as_its_values_do() -> None:
    generator = random.Random(9)
    values = [generator.lognormvariate(-4, 1) for _ in range(2_000)]
    times = [generator.randint(1, 5) for _ in values]
    together, single = Histogram(), Histogram()

    together.record_array(np.array(values), np.array(times))
    for value, count in zip(values, times, strict=True):
        single.record(value, count)

    assert together.buckets == single.buckets
    assert together.count == single.count
    assert together.sum == pytest.approx(single.sum)
    assert (together.minimum, together.maximum) == (single.minimum, single.maximum)
