"""Numbers as people read them."""

import math

import pytest

from loadtest.verdict.numbers import quantity, span
from loadtest.verdict.statistics import Interval


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.254, "s", "1.25 s"),
        (0.0813, "s", "81.3 ms"),
        (0.00052, "s", "0.52 ms"),
        (99.96, "req/s", "100 req/s"),
        (2, "s", "2 s"),
        (120.4, "s", "120 s"),
        (3712.4, "tok/s", "3,712 tok/s"),
        (0.015, "ratio", "1.5 %"),
        (1, "ratio", "100 %"),
        (0, "ratio", "0 %"),
        (0, "s", "0 ms"),
        (math.inf, "s", "more than every answer"),
        (math.inf, "tok/s", "∞"),
    ],
)
def test_three_digits_at_least_and_a_unit_that_suits(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


@pytest.mark.parametrize(
    ("low", "high", "unit", "text"),
    [
        (0.0781, 0.085, "s", "78.1–85 ms"),
        (0.9, 1.1, "s", "0.9–1.1 s"),
        (0.0813, math.inf, "s", "81.3–∞ ms"),
        (math.inf, math.inf, "s", "∞"),
        (0, 0.0188, "ratio", "0–1.88 %"),
        (3650, 3710, "tok/s", "3,650–3,710 tok/s"),
    ],
)
def test_both_ends_share_a_unit(low: float, high: float, unit: str, text: str) -> None:
    assert span(Interval(low, low, high), unit) == text
