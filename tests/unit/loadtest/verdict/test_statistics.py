"""Intervals hold the truth as often as they say, in seeded simulations, and at their edges."""

import math
import random
from statistics import NormalDist, fmean

import pytest

from loadtest.clock.histogram import RELATIVE_ERROR, Histogram
from loadtest.verdict.statistics import (
    Interval,
    compare_means,
    difference,
    histogram_mean_interval,
    histogram_variance,
    knee,
    mean_interval,
    percentile,
    percentile_interval,
    ratio_interval,
)

Z95 = 1.6448536


def histogram(*values: float) -> Histogram:
    made = Histogram()
    made.record_all(values)
    return made


def covered(interval: Interval | None, truth: float, error: float = 0.0) -> bool:
    assert interval is not None
    return interval.low * (1 - error) <= truth <= interval.high * (1 + error)


def test_a_percentiles_interval_covers_the_true_one_at_least_as_often_as_it_says() -> None:
    chance, truth = random.Random(1), math.exp(0.5 * Z95)
    trials = [
        covered(
            percentile_interval(histogram(*(chance.lognormvariate(0, 0.5) for _ in range(200))), 0.95),
            truth,
            RELATIVE_ERROR,
        )
        for _ in range(600)
    ]

    # Ranks are whole, so that the interval is a little too wide: here exactly 0.964.
    assert 0.94 <= fmean(trials) <= 0.985


def test_failed_requests_keep_the_coverage_of_what_all_requests_saw() -> None:
    # 3 % fail: the 95th percentile of all is the share 0.95 / 0.97 of the answers.
    chance = random.Random(2)
    truth = math.exp(0.5 * NormalDist().inv_cdf(0.95 / 0.97))
    trials = []
    for _ in range(600):
        failed = sum(chance.random() < 0.03 for _ in range(300))
        answers = histogram(*(chance.lognormvariate(0, 0.5) for _ in range(300 - failed)))
        trials.append(covered(percentile_interval(answers, 0.95, infinite=failed), truth, RELATIVE_ERROR))

    assert 0.94 <= fmean(trials) <= 0.985


def test_tokens_of_a_request_that_share_its_fate_need_to_be_counted_once() -> None:
    chance, truth = random.Random(3), math.exp(0.5 * Z95)
    naive, careful = [], []
    for _ in range(300):
        tokens = Histogram()
        for _ in range(100):
            tokens.record(chance.lognormvariate(0, 0.5), 50)
        naive.append(covered(percentile_interval(tokens, 0.95), truth, RELATIVE_ERROR))
        careful.append(covered(percentile_interval(tokens, 0.95, independent=100), truth, RELATIVE_ERROR))

    assert fmean(naive) < 0.5
    assert fmean(careful) >= 0.94


@pytest.mark.parametrize("repeats", [3, 8])
def test_a_means_interval_covers_the_true_mean(repeats: int) -> None:
    chance = random.Random(4)
    trials = [covered(mean_interval([chance.gauss(10, 2) for _ in range(repeats)]), 10) for _ in range(4000)]

    assert fmean(trials) == pytest.approx(0.95, abs=0.012)


def test_a_shares_interval_covers_the_true_share() -> None:
    # Averaged over shares: at a single one the whole numbers make coverage jump (Brown, Cai, DasGupta 2001).
    chance = random.Random(5)
    trials = []
    for _ in range(3000):
        share = chance.uniform(0.005, 0.1)
        trials.append(covered(ratio_interval(sum(chance.random() < share for _ in range(200)), 200), share))

    assert fmean(trials) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(("count_a", "count_b"), [(5, 5), (3, 8)])
def test_a_relative_difference_covers_the_true_one_although_spreads_differ(count_a: int, count_b: int) -> None:
    chance = random.Random(6)
    trials = [
        covered(
            difference([chance.gauss(100, 2) for _ in range(count_a)], [chance.gauss(120, 8) for _ in range(count_b)]),
            0.2,
        )
        for _ in range(500)
    ]

    assert fmean(trials) == pytest.approx(0.95, abs=0.03)


def test_a_percentile_counts_what_is_infinite_above_all() -> None:
    values = histogram(*(float(value) for value in range(1, 96)))

    assert percentile(values, 0.95, infinite=5) == 95
    assert percentile(values, 0.96, infinite=5) == math.inf
    assert percentile(Histogram(), 0.5, infinite=1) == math.inf
    assert percentile(Histogram(), 0.5) is None


def test_the_ends_are_the_order_statistics_of_the_binomial() -> None:
    found = percentile_interval(histogram(*(float(value) for value in range(1, 1001))), 0.5)

    # Hahn and Meeker: n/2 ± 1.96 √n/2, so 469 and 532.
    assert found is not None
    assert found.low == pytest.approx(469, rel=RELATIVE_ERROR)
    assert found.high == pytest.approx(532, rel=RELATIVE_ERROR)


def test_too_few_values_leave_the_upper_end_open() -> None:
    fifty = histogram(*(float(value) for value in range(1, 51)))

    found = percentile_interval(fifty, 0.99)

    assert found is not None
    assert found.estimate == 50
    assert found.high == math.inf
    assert percentile_interval(histogram(3.0), 0.5) == Interval(0.0, 3.0, math.inf)


def test_nothing_has_no_interval() -> None:
    assert percentile_interval(Histogram(), 0.95) is None
    assert histogram_mean_interval(Histogram()) is None
    assert mean_interval([1.0]) is None
    assert ratio_interval(0, 0) is None


def test_a_mean_of_a_histogram_is_as_sure_as_that_of_its_values() -> None:
    chance = random.Random(7)
    values = [chance.lognormvariate(-3, 0.5) for _ in range(100)]

    exact, found = mean_interval(values), histogram_mean_interval(histogram(*values))

    assert exact is not None
    assert found is not None
    assert found.estimate == pytest.approx(exact.estimate, rel=1e-9)
    assert found.high - found.low == pytest.approx(exact.high - exact.low, rel=0.02)
    assert histogram_mean_interval(histogram(2.0)) == Interval(0.0, 2.0, math.inf)
    assert histogram_variance(histogram(2.0)) == 0


def test_wilson_is_what_its_paper_gives() -> None:
    none, half, all_of_seven = ratio_interval(0, 200), ratio_interval(50, 100), ratio_interval(7, 7)

    assert none is not None
    assert half is not None
    assert all_of_seven is not None
    assert [none.low, none.high] == pytest.approx([0, 0.01884], abs=1e-5)
    assert [half.low, half.high] == pytest.approx([0.40383, 0.59617], abs=1e-5)
    assert [all_of_seven.low, all_of_seven.high] == pytest.approx([0.64567, 1], abs=1e-5)


def test_one_repeat_borrows_the_spread_of_the_other_side() -> None:
    several, alone = [100.0, 102.0, 98.0], [110.0]

    found = difference(several, alone)

    assert found.estimate == pytest.approx(0.1)
    assert -0.02 < found.low < 0.1 < found.high < 0.25


def test_one_repeat_each_bounds_nothing() -> None:
    assert difference([2.0], [3.0]) == Interval(-1.0, 0.5, math.inf)
    assert not compare_means([2.0], [3.0]).significant


def test_zeros_have_no_ratio() -> None:
    assert difference([0.0, 0.0], [0.0, 0.0]).estimate == 0
    assert difference([0.0, 0.0], [1.0, 1.0]).estimate == math.inf
    assert difference([1.0, 1.0], [0.0, 0.0]).estimate == -1
    with pytest.raises(ValueError, match="both sides"):
        difference([], [1.0])


def test_a_clear_change_is_significant_and_noise_is_not() -> None:
    before = [100.0, 101.0, 99.0]

    assert compare_means(before, [90.0, 91.0, 89.0]).significant
    assert not compare_means(before, [100.5, 98.5, 101.5]).significant


def test_neighbouring_buckets_are_no_change() -> None:
    a_bucket_apart = [0.1] * 3, [0.1009] * 3

    assert compare_means(*a_bucket_apart).significant
    assert not compare_means(*a_bucket_apart, resolution=RELATIVE_ERROR).significant


def test_the_knee_is_where_latency_begins_to_outgrow_throughput() -> None:
    curve = [(1.0, 1.0), (2.0, 1.0), (3.8, 1.1), (6.5, 1.3), (8.0, 2.0), (8.3, 4.0), (8.2, 8.0)]

    assert knee(curve) == 4


def test_a_server_that_never_saturates_has_no_knee() -> None:
    assert knee([(1.0, 1.0), (2.0, 2.0), (3.0, 3.0), (4.0, 4.0)]) is None
    assert knee([(1.0, 1.0), (2.0, 1.0), (4.0, 1.0)]) is None
    assert knee([(1.0, 1.0), (2.0, 5.0)]) is None


def test_points_that_were_not_measured_do_not_move_the_knee() -> None:
    curve = [(1.0, 1.0), (math.nan, 1.0), (4.0, 1.1), (7.0, 1.3), (8.0, 3.0), (8.1, 9.0), (8.1, math.inf)]

    assert knee(curve) == 3
