"""Lengths and pauses: how they may be written, what is drawn, and that drawing keeps to the bounds and the mean."""

import statistics
from typing import Any

import pytest
from pydantic import ValidationError

from loadtest.workload.amounts import Seconds, Whole
from loadtest.workload.randomness import source

LOGNORMAL = {"distribution": "lognormal", "mean": 120, "deviation": 60, "min": 1, "max": 100000}


@pytest.mark.parametrize(
    ("written", "same"),
    [
        (512, {"value": 512}),
        ("512", {"value": 512}),
        ("50-250", {"distribution": "uniform", "min": 50, "max": 250}),
        ("normal:mean=100:deviation=20:min=50:max=150",
         {"distribution": "normal", "mean": 100, "deviation": 20, "min": 50, "max": 150}),
        ("choices:1000*3:8000",
         {"distribution": "choices", "choices": [{"value": 1000, "weight": 3}, {"value": 8000, "weight": 1}]}),
    ],
)  # fmt: skip
def test_short_forms_mean_the_same_as_mappings(written: object, same: dict[str, Any]) -> None:
    assert Whole.model_validate(written) == Whole.model_validate(same)


@pytest.mark.parametrize("written", [512, "50-250", LOGNORMAL, "choices:1000*3:131072*1", "exponential:mean=3:max=9"])
def test_an_amount_as_text_gives_the_same_amount_again(written: object) -> None:
    amount = Whole.model_validate(written)
    assert not set(" ,") & set(str(amount))
    assert Whole.model_validate(str(amount)) == amount


def test_seconds_may_be_fractions() -> None:
    assert Seconds.model_validate(1.5).draw(source("any")) == 1.5
    assert 0.1 <= Seconds.model_validate("0.1-2").draw(source("any")) <= 2


@pytest.mark.parametrize("written", [-1, "1-2-3", "uniform:min=x:max=3", "normal", "uniform:3:9", True, None, [3]])
def test_what_is_no_amount_is_refused(written: object) -> None:
    with pytest.raises(ValidationError):
        Whole.model_validate(written)


@pytest.mark.parametrize(
    ("written", "mean", "deviation"),
    [
        ("50-250", 150, 201 / 12**0.5),
        (LOGNORMAL, 120, 60),
        ("normal:mean=500:deviation=100:min=1:max=9999", 500, 100),
        ("exponential:mean=200:max=100000", 200, 200),
        ("choices:100*3:500*1", 200, 173.2),
    ],
)
def test_many_draws_have_the_mean_and_the_deviation(written: object, mean: float, deviation: float) -> None:
    amount, numbers = Whole.model_validate(written), source("statistics")
    values = [amount.pick(numbers) for _ in range(20_000)]
    # Five standard errors of the mean; the deviation of these distributions within 5 %.
    assert statistics.fmean(values) == pytest.approx(mean, abs=5 * deviation / 20_000**0.5)
    assert statistics.stdev(values) == pytest.approx(deviation, rel=0.05)


@pytest.mark.parametrize(
    ("written", "fewest", "most"),
    [
        ("50-60", 50, 60),
        ("lognormal:mean=100:deviation=300:min=80:max=120", 80, 120),
        ("normal:mean=100:deviation=300:min=80:max=120", 80, 120),
        ("exponential:mean=100:max=120", 1, 120),
        ("choices:3*1:9*1:5000*0", 3, 9),
        (7, 7, 7),
        # So far from the mean that no draw is within: the nearest bound.
        ("normal:mean=1000:deviation=1:min=1:max=5", 5, 5),
    ],
)
def test_draws_are_within_bounds_and_reach_them(written: object, fewest: int, most: int) -> None:
    amount, numbers = Whole.model_validate(written), source("bounds")
    values = {amount.pick(numbers) for _ in range(3000)}
    assert min(values) >= fewest
    assert max(values) <= most
    assert {min(values), max(values)} <= set(range(fewest, fewest + 5)) | set(range(most - 8, most + 1))
    assert amount.most == most


def test_the_same_source_draws_the_same() -> None:
    amount = Whole.model_validate(LOGNORMAL)
    assert [amount.pick(source("same")) for _ in range(3)] == [amount.pick(source("same"))] * 3
    assert amount.pick(source("same", 1)) != amount.pick(source("same", 2))
