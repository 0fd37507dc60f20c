"""Numbers as people read them."""

import math

import pytest

from loadtest.report import wording
from loadtest.verdict.statistics import Interval
from tests.unit.loadtest.runs import make_run


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12345.6, "12,346"),
        (0.012345, "0.0123"),
        (7.7, "7.70"),
        (0, "0"),
        (-4.25, "−4.25"),
        (math.inf, "∞"),
        (None, "–"),
    ],
)
def test_a_number_has_three_digits_that_count(value: float | None, text: str) -> None:
    assert wording.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0402, "40.2 ms"), (1.944, "1.94 s"), (0.000085, "85.0 µs"), (5e-8, "< 1 µs"), (0, "0 ms"), (None, "–")],
)
def test_a_latency_has_the_unit_that_fits(value: float | None, text: str) -> None:
    assert wording.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "100 %"), (0.9999, "99.99 %"), (0.99706, "99.7 %"), (0.0366, "3.66 %"), (0.607, "61 %"), (0, "0 %")],
)
def test_nearly_all_is_not_written_as_all(value: float, text: str) -> None:
    assert wording.share(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0423, "+4.2 %"), (-0.12, "−12.0 %"), (2.0, "+200 %"), (0.0001, "0.0 %"), (math.inf, "∞"), (math.nan, "–")],
)
def test_a_change_has_its_sign(value: float, text: str) -> None:
    assert wording.change(value) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.401, 0.423, "401–423 ms"),
        (0.9, 1.2, "900 ms – 1.20 s"),
        (0.2, math.inf, "≥ 200 ms"),
        (0.0, math.inf, "too few for an interval"),
        (math.inf, math.inf, ""),
    ],
)
def test_an_interval_names_its_unit_once_and_unknown_ends_as_unknown(low: float, high: float, text: str) -> None:
    assert wording.interval(Interval(low, low, high), "s") == text


def test_a_span_is_told_in_the_units_of_a_clock() -> None:
    assert [wording.span(value) for value in (45, 150, 3600, 7500)] == ["45.0 s", "2 min 30 s", "60 min", "2 h 5 min"]


def test_a_load_says_how_requests_arrive() -> None:
    closed, opened = make_run(concurrency=16), make_run(rate=4)
    bursty = opened.load.model_copy(update={"arrivals": "gamma", "burstiness": 0.5})
    counted = closed.load.model_copy(update={"requests": 1000})

    assert wording.load_name(closed) == "concurrency 16"
    assert wording.load_name(opened) == "4/s poisson"
    assert wording.load_name(opened.model_copy(update={"load": bursty})) == "4/s gamma, burstiness 0.5"
    assert wording.load_name(closed.model_copy(update={"load": counted})) == "concurrency 16, 1,000 requests"
