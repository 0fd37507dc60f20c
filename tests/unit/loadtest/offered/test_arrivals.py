"""Schedules have the rate and the irregularity that were asked for. Seeds are fixed: a failure is not bad luck."""

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Callable

import pytest

from loadtest.errors import LoadTestError
from loadtest.offered.arrivals import mean_rate, parse_steps, schedule, steps_seconds

SEEDS = (1, 2, 3)


def times(
    kind: str = "poisson", *, rate: float = 20, seconds: float = 500, seed: int = 1, **more: object
) -> list[float]:
    arrivals = schedule(kind, rate=rate, duration_seconds=seconds, seed=seed, **more)  # type: ignore[arg-type]
    return [arrival.at for arrival in arrivals]


def gaps(at: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(at)]


def variation(values: list[float]) -> float:
    """The coefficient of variation: 0 evenly spaced, 1 Poisson."""
    return statistics.stdev(values) / statistics.fmean(values)


def between(at: list[float], begin: float, end: float) -> int:
    return sum(begin <= one < end for one in at)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("burstiness", [0.25, 0.5, 1.0, 4.0, None])
def test_gaps_have_the_mean_and_the_variation_of_their_gamma_distribution(burstiness: float | None, seed: int) -> None:
    kind = "poisson" if burstiness is None else "gamma"
    at = times(kind, seed=seed, burstiness=burstiness)
    expected = 1 / math.sqrt(burstiness or 1.0)
    # Five standard errors of the count, 10,000 ± cv·√10,000.
    assert len(at) == pytest.approx(10_000, abs=5 * expected * 100)
    assert variation(gaps(at)) == pytest.approx(expected, rel=0.08)


@pytest.mark.parametrize("seed", SEEDS)
def test_poisson_counts_of_a_second_vary_as_much_as_their_mean(seed: int) -> None:
    by_second = Counter(map(int, times(seed=seed)))
    counts = [by_second[second] for second in range(500)]
    # The index of dispersion of n = 500 counts has a standard error of √(2/n) = 0.063.
    assert statistics.variance(counts) / statistics.fmean(counts) == pytest.approx(1, abs=0.3)


def test_poisson_gaps_are_exponential() -> None:
    share_below = [sum(gap < limit for gap in gaps(times())) / 10_000 for limit in (0.01, 0.05, 0.1, 0.2)]
    assert share_below == pytest.approx([1 - math.exp(-20 * limit) for limit in (0.01, 0.05, 0.1, 0.2)], abs=0.02)


def test_a_constant_rate_is_evenly_spaced_from_the_beginning() -> None:
    assert times("constant", rate=4, seconds=2) == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75]


@pytest.mark.parametrize("kind", ["poisson", "constant", "ramp", "steps"])
def test_arrivals_are_in_order_within_the_duration(kind: str) -> None:
    at = times(kind, seconds=50, until_rate=40, steps=[(30, 20), (0, 5), (10, 100)])
    assert at == sorted(at)
    assert at[0] >= 0
    assert 45 < at[-1] < 50


def test_a_seed_is_one_schedule() -> None:
    assert times(seed=1) == times(seed=1)
    assert times(seed=1)[:10] != times(seed=2)[:10]


def test_a_number_of_requests_ends_the_schedule() -> None:
    assert times(requests=7) == times()[:7]
    assert len(times(requests=7, seconds=0.001)) < 7


@pytest.mark.parametrize(("first", "last"), [(10, 30), (30, 10), (5, 0), (20, 20)])
def test_a_ramp_brings_what_the_integral_of_its_rate_says(first: float, last: float) -> None:
    at = times("ramp", rate=first, until_rate=last, seconds=400, burstiness=math.inf)
    for begin, end in ((0, 400), (0, 100), (100, 200), (300, 400)):
        mean = first + (last - first) * (begin + end) / 800
        assert between(at, begin, end) == pytest.approx(mean * (end - begin), abs=1.01)


def test_a_ramp_is_poisson_unless_it_is_told_otherwise() -> None:
    at = times("ramp", rate=10, until_rate=30, seconds=500)
    assert len(at) == pytest.approx(10_000, abs=500)
    # Over gaps of changing length the variation is a little above that of each.
    assert variation(gaps(at)) == pytest.approx(1.05, abs=0.1)
    assert variation(gaps(times("ramp", rate=10, until_rate=30, burstiness=math.inf))) < 0.4


def test_steps_have_their_own_rates_one_after_the_other() -> None:
    steps = [(1.0, 30.0), (0.0, 10.0), (4.0, 30.0)]
    at = times("steps", steps=steps, seconds=1000, burstiness=math.inf)
    assert [between(at, 0, 30), between(at, 30, 40), between(at, 40, 70), between(at, 70, 1000)] == [30, 0, 120, 0]
    assert at[30] == 40
    assert gaps(at[30:]) == pytest.approx([0.25] * 119)


def test_steps_are_poisson_each_with_its_rate() -> None:
    at = times("steps", steps=[(10, 400), (40, 100)], seconds=500)
    assert between(at, 0, 400) == pytest.approx(4000, abs=5 * math.sqrt(4000))
    assert between(at, 400, 500) == pytest.approx(4000, abs=5 * math.sqrt(4000))


def test_steps_may_be_cut_off() -> None:
    assert times("steps", steps=[(1, 10), (4, 10)], seconds=12, burstiness=math.inf) == [
        *map(float, range(10)), *(10 + number / 4 for number in range(8)),
    ]  # fmt: skip


def test_the_mean_rate_is_that_of_the_whole_schedule() -> None:
    steps = [(1.0, 30.0), (4.0, 10.0)]
    assert (mean_rate("poisson", rate=3), mean_rate("ramp", rate=2, until_rate=10)) == (3, 6)
    assert (mean_rate("steps", rate=0, steps=steps), steps_seconds(steps)) == (1.75, 40)


def test_steps_are_read_from_a_command_line() -> None:
    assert parse_steps("1x30,2x30s, 4.5 x 0.5,8:60") == [(1, 30), (2, 30), (4.5, 0.5), (8, 60)]


def test_every_wrong_step_is_told() -> None:
    with pytest.raises(LoadTestError) as caught:
        parse_steps("1x30,fast,2x0,3")
    assert [problem.fact for problem in caught.value.problems] == [
        "'fast' is no step",
        "'2x0' lasts no time",
        "'3' is no step",
    ]
    with pytest.raises(LoadTestError, match="no step has a rate above 0"):
        parse_steps("0x30")


@pytest.mark.parametrize(
    ("asked", "facts"),
    [
        ({"kind": "poison"}, ["--arrivals: no arrivals are called 'poison'"]),
        ({"rate": 0}, ["--rate: 0 sessions a second cannot be scheduled"]),
        ({"rate": math.nan, "seconds": math.inf}, [
            "--rate: nan sessions a second cannot be scheduled", "--duration: inf seconds cannot be scheduled"]),
        ({"kind": "gamma"}, ["--burstiness: gamma arrivals need it"]),
        ({"kind": "gamma", "burstiness": 0}, ["--burstiness: 0 is not above 0"]),
        ({"kind": "ramp"}, ["--until-rate: a ramp needs the rate that it ends with"]),
        ({"kind": "ramp", "until_rate": -1}, ["--until-rate: -1 is no rate"]),
        ({"kind": "steps"}, ["--steps: steps need it"]),
        ({"rate": 1e6, "seconds": 3600}, ["--rate: the schedule would have 3,600,000,000 sessions"]),
    ],
)  # fmt: skip
def test_what_cannot_be_scheduled_is_told(asked: dict[str, object], facts: list[str]) -> None:
    make: Callable[..., list[float]] = times
    with pytest.raises(LoadTestError) as caught:
        make(**asked)
    assert [str(problem).startswith(fact) for problem, fact in zip(caught.value.problems, facts, strict=True)] == [
        True
    ] * len(facts)


def test_a_misspelt_kind_has_what_was_perhaps_meant() -> None:
    with pytest.raises(LoadTestError, match="Perhaps you meant `poisson`"):
        times("poison")
