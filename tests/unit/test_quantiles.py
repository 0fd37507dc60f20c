"""Quantiles by nearest rank."""

import pytest

from vllmstack.quantiles import quantile


@pytest.mark.parametrize(
    ("count", "share", "value"),
    [(1, 0.99, 1), (2, 0.5, 1), (3, 0.5, 2), (20, 0.95, 19), (100, 0.99, 99), (101, 0.99, 100), (5, 0, 1), (5, 1, 5)],
)
def test_a_quantile_is_the_least_value_that_so_many_are_at_or_below(count: int, share: float, value: int) -> None:
    assert quantile(range(1, count + 1), share) == value
