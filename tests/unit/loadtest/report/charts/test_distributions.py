"""Percentile curves."""

import pytest

from loadtest.clock.histogram import Histogram
from loadtest.report.charts.distributions import Curve, distribution, points, rarity
from loadtest.report.measures import ITL, TTFT
from tests.unit.loadtest.report.charts.pictures import words


def histogram(*values: float) -> Histogram:
    made = Histogram()
    made.record_all(values)
    return made


HUNDRED = histogram(*(at / 1000 for at in range(1, 101)))


def test_each_step_right_is_ten_times_rarer() -> None:
    assert [rarity(share) for share in (0, 0.9, 0.99)] == [pytest.approx(place) for place in (0, 1, 2)]


def test_the_curve_passes_through_every_percentile() -> None:
    places, values = points(Curve(name="", histogram=HUNDRED, colour="k"), 1000)

    before_p90 = max(value for place, value in zip(places, values, strict=True) if place < rarity(0.895))
    assert before_p90 == pytest.approx(90, rel=0.02)
    assert values == sorted(values)


def test_failures_push_the_answers_left() -> None:
    curve = Curve(name="", histogram=HUNDRED, colour="k", infinite=100)

    places, values = points(curve)

    assert max(places) == pytest.approx(rarity(0.5))
    assert max(values) == pytest.approx(0.1)


def test_a_lone_curve_has_its_percentiles_written_beside_it() -> None:
    found = words(distribution(TTFT, [Curve(name="", histogram=HUNDRED, colour="k")]))

    beside = [text.split() for text in found if text.startswith("p") and text.endswith("ms")]
    assert [(name, round(float(value), -1)) for name, value, _ in beside] == [("p50", 50), ("p95", 90), ("p99", 100)]


def test_several_curves_have_their_names_and_a_limit_its_value() -> None:
    curves = [Curve(name=name, histogram=HUNDRED, colour="k") for name in ("before", "after")]

    found = words(distribution(ITL, curves, limit=0.08))

    assert {"before", "after", "limit 80.0 ms", "percentile of tokens"} <= set(found)
    assert not any(text.startswith("p50 ") for text in found)


def test_a_limit_far_above_everything_is_left_out() -> None:
    found = words(distribution(TTFT, [Curve(name="", histogram=HUNDRED, colour="k")], limit=30))

    assert not any("limit" in text for text in found)


def test_the_share_that_failed_is_shaded_and_told() -> None:
    curve = Curve(name="", histogram=HUNDRED, colour="k", infinite=25)

    assert {"20 %", "failed"} <= set(words(distribution(TTFT, [curve])))


@pytest.mark.parametrize("values", [(), (0.01,), (0.01, 0.01), (1e-9, 100.0)])
def test_few_and_strange_values_break_nothing(values: tuple[float, ...]) -> None:
    assert "TTFT by percentile" in words(distribution(TTFT, [Curve(name="", histogram=histogram(*values), colour="k")]))
