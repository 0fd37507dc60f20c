"""Quantiles against printed tables and exact sums."""

import math

import pytest

from loadtest.verdict.distributions import binomial_at_most, binomial_quantile, incomplete_beta, student_t


@pytest.mark.parametrize(
    ("share", "degrees", "printed"),
    [
        # Abramowitz and Stegun, table 26.10.
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 4, 2.776),
        (0.975, 10, 2.228),
        (0.995, 5, 4.032),
        (0.95, 30, 1.697),
        (0.975, 1e9, 1.960),
    ],
)
def test_students_t_is_that_of_the_printed_table(share: float, degrees: float, printed: float) -> None:
    assert student_t(share, degrees) == pytest.approx(printed, abs=5e-4)
    assert student_t(1 - share, degrees) == pytest.approx(-printed, abs=5e-4)


@pytest.mark.parametrize("trials", [1, 7, 100])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.95])
def test_the_binomial_is_the_sum_of_its_terms(trials: int, share: float) -> None:
    for successes in range(trials + 1):
        exact = math.fsum(
            math.comb(trials, count) * share**count * (1 - share) ** (trials - count) for count in range(successes + 1)
        )
        assert binomial_at_most(successes, trials, share) == pytest.approx(exact, abs=1e-11)


def test_a_binomial_quantile_is_the_smallest_count_that_is_likely_enough() -> None:
    for probability in (0.025, 0.5, 0.975):
        count = binomial_quantile(probability, 500, 0.99)

        assert binomial_at_most(count, 500, 0.99) >= probability > binomial_at_most(count - 1, 500, 0.99)


def test_millions_of_values_are_as_their_normal_limit() -> None:
    trials, share = 5_000_000, 0.95
    reach = 1.959964 * math.sqrt(trials * share * (1 - share))

    assert binomial_quantile(0.975, trials, share) == pytest.approx(trials * share + reach, abs=2)


def test_the_incomplete_beta_has_its_closed_forms() -> None:
    assert incomplete_beta(1, 3, 0.2) == pytest.approx(1 - 0.8**3, abs=1e-12)
    assert incomplete_beta(4, 1, 0.7) == pytest.approx(0.7**4, abs=1e-12)
    assert incomplete_beta(0.5, 0.5, 0.25) == pytest.approx(2 / math.pi * math.asin(0.5), abs=1e-12)
    assert (incomplete_beta(2, 3, 0), incomplete_beta(2, 3, 1)) == (0, 1)
