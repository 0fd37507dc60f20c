"""What a target asks, as single limits."""

import math

import pytest

from loadtest.results import Load, LoadKind
from loadtest.verdict.limits import Limit, limits_in, limits_of, load_of
from vllmstack.deployment.model import Percentiles, Target, TargetLoad


def target(**fields: object) -> Target:
    return Target.model_validate({"load": {"concurrency": 4}, **fields})


def test_every_limit_of_a_target_becomes_one() -> None:
    percentiles = {"mean": 1, "p50": 1, "p90": 2, "p95": 3, "p99": 4}
    full = target(
        output_tokens_per_second=400,
        requests_per_second=2,
        **{f"{name}_seconds": percentiles for name in ("ttft", "tpot", "itl", "e2e")},
        error_ratio=0.01,
        goodput_ratio=0.9,
    )

    limits = limits_in(full)

    assert len(limits) == 2 + 4 * len(Percentiles.model_fields) + 2
    assert [(limit.name, limit.asked, limit.unit, limit.at_most) for limit in limits[:4]] == [
        ("output tokens", 400, "tok/s", False),
        ("requests", 2, "req/s", False),
        ("ttft mean", 1, "s", True),
        ("ttft p50", 1, "s", True),
    ]
    assert limits[6].key == "ttft_seconds.p99"
    assert [limit.name for limit in limits[-2:]] == ["error ratio", "goodput ratio"]


def test_what_is_not_asked_is_no_limit() -> None:
    assert limits_in(target()) == []
    assert limits_of(target(error_ratio=0)) == {}


def test_a_good_request_keeps_the_loosest_percentile() -> None:
    asked = target(
        ttft_seconds={"p50": 0.2, "p99": 1.0}, tpot_seconds={"mean": 0.02}, itl_seconds={"mean": 9, "p90": 0.1}
    )

    assert limits_of(asked) == {"ttft": 1.0, "tpot": 0.02, "itl": 0.1}


def test_the_load_is_users_or_poisson_arrivals() -> None:
    assert load_of(target()) == Load(kind=LoadKind.CLOSED, concurrency=4)
    assert load_of(Target(load=TargetLoad(requests_per_second=2.5))) == Load(
        kind=LoadKind.OPEN, rate=2.5, arrivals="poisson"
    )


@pytest.mark.parametrize(
    ("asked", "at_most", "value", "met", "margin"),
    [
        (2.0, True, 1.5, True, 0.25),
        (2.0, True, 2.0, True, 0.0),
        (2.0, True, 3.0, False, -0.5),
        (2.0, True, math.inf, False, -math.inf),
        (0.0, True, 0.0, True, 0.0),
        (0.0, True, 0.1, False, -math.inf),
        (400.0, False, 500.0, True, 0.25),
        (400.0, False, 300.0, False, -0.25),
    ],
)
def test_the_margin_is_what_is_left_over_the_limit(
    asked: float, at_most: bool, value: float, met: bool, margin: float
) -> None:
    limit = Limit(key="k", name="n", asked=asked, unit="s", at_most=at_most)

    assert limit.met_by(value) is met
    assert limit.margin(value) == margin
