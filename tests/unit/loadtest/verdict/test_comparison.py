"""One run against one other."""

import random
from statistics import fmean

import pytest

from loadtest.clock.histogram import Histogram
from loadtest.verdict.batches import batch_means
from loadtest.verdict.comparison import compare_percentiles, compare_seconds


def seconds(chance: random.Random, mean: float, count: int = 60) -> list[float]:
    """Tokens of each second, of which neighbours resemble each other (correlation 0.6)."""
    drift, values = 0.0, []
    for _ in range(count):
        drift = 0.6 * drift + chance.gauss(0, 0.04 * mean)
        values.append(mean + drift)
    return values


def block(chance: random.Random, median: float, values: int = 10) -> Histogram:
    """A second's latencies, which are long or short together."""
    made, together = Histogram(), chance.gauss(0, 0.15)
    made.record_all(median * chance.lognormvariate(together, 0.2) for _ in range(values))
    return made


def test_batches_are_consecutive_and_of_one_length() -> None:
    assert batch_means([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9.0]) == [2.0, 5.0]
    assert len(batch_means([1.0] * 600)) == 10
    assert batch_means([1.0] * 5) == []


def test_equal_servers_seldom_seem_to_differ_although_their_seconds_are_not_independent() -> None:
    chance, alarms = random.Random(1), []
    for _ in range(300):
        found = compare_seconds(seconds(chance, 500), seconds(chance, 500))
        assert found is not None
        alarms.append(found.significant)

    # Six seconds a batch leave a little of the correlation: nominal is 0.05, and single seconds would give 0.3.
    assert fmean(alarms) <= 0.12


def test_a_seventh_less_throughput_shows_in_a_minute() -> None:
    chance, found = random.Random(2), []
    for _ in range(50):
        comparison = compare_seconds(seconds(chance, 500), seconds(chance, 430))
        assert comparison is not None
        found.append(comparison.significant and comparison.change.high < 0)

    assert fmean(found) >= 0.9


def test_windows_of_a_few_seconds_cannot_be_compared() -> None:
    assert compare_seconds([500.0] * 5, [400.0] * 60) is None


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_equal_latencies_seldom_seem_to_differ_although_a_seconds_share_their_fate(share: float) -> None:
    chance, alarms = random.Random(3), []
    for seed in range(60):
        before, after = ([block(chance, 0.1) for _ in range(30)] for _ in range(2))
        found = compare_percentiles(before, after, share, seed=seed)
        assert found is not None
        alarms.append(found.significant)

    assert fmean(alarms) <= 0.1


def test_a_slower_first_token_shows_and_the_same_seed_says_the_same() -> None:
    chance = random.Random(4)
    before, after = [block(chance, 0.1) for _ in range(60)], [block(chance, 0.13) for _ in range(60)]

    found = compare_percentiles(before, after, 0.5, seed=7)

    assert found is not None
    assert found.change.low > 0.1
    assert found.change.low < 0.3 < found.change.high
    assert compare_percentiles(before, after, 0.5, seed=7) == found


def test_without_a_time_line_values_are_taken_as_independent_and_as_many_as_is_said() -> None:
    chance = random.Random(5)
    before, after = block(chance, 0.1, 5000), block(chance, 0.1, 5000)

    wide = compare_percentiles([before], [after], 0.95, independent=(50, 50))
    narrow = compare_percentiles([before], [after], 0.95)

    assert wide is not None
    assert narrow is not None
    assert wide.change.estimate == narrow.change.estimate
    assert wide.change.high - wide.change.low > 3 * (narrow.change.high - narrow.change.low)


def test_the_width_of_a_bucket_is_no_change() -> None:
    before, after = Histogram(), Histogram()
    before.record(0.1, 1000)
    after.record(0.1009, 1000)

    found = compare_percentiles([before], [after], 0.5)

    assert found is not None
    assert not found.significant


def test_a_single_value_bounds_nothing_and_none_gives_nothing() -> None:
    one, none = Histogram(), Histogram()
    one.record(0.1)

    found = compare_percentiles([one], [one], 0.5)

    assert found is not None
    assert not found.significant
    assert compare_percentiles([none], [one], 0.5) is None
