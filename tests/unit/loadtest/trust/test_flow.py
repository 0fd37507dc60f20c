"""The load as it was offered, and Little's law."""

from typing import Any

import pytest

from loadtest.clock.histogram import Histogram
from loadtest.clock.histogram_data import HistogramData
from loadtest.results import ClientHealth, Flag, Offered, RunResult
from loadtest.trust.flow import check_flow, check_offered
from tests.unit.loadtest.trust.simulated import closed, opened


def lateness(*seconds: float) -> HistogramData:
    histogram = Histogram()
    histogram.record_all(seconds)
    return histogram.data()


def offered(sent: int, asked: int = 1000, late: tuple[float, ...] = (0.0005,), **client: Any) -> list[Flag]:
    result = opened(10)
    result.offered = Offered(
        asked=asked, sent=sent, asked_per_second=asked / 20, sent_per_second=sent / 20, lateness=lateness(*late)
    )
    result.client = ClientHealth(**client)
    return list(check_offered(result))


def flow(result: RunResult) -> list[tuple[str, str]]:
    return [(flag.severity, flag.fact) for flag in check_flow(result)]


@pytest.mark.parametrize(("sent", "asked"), [(1000, 1000), (980, 1000), (19, 20), (0, 0)])
def test_a_load_that_was_offered_raises_no_flag(sent: int, asked: int) -> None:
    assert offered(sent, asked) == []


def test_below_98_percent_a_run_is_invalid_and_says_both_rates() -> None:
    (flag,) = offered(979)

    assert (flag.kind, flag.severity) == ("offered", "invalid")
    assert flag.fact.startswith("only 97.9% of the load was offered (48.95 of 50.00 a second): ")
    assert "--processes" in flag.hint


@pytest.mark.parametrize(
    ("client", "late", "why"),
    [
        ({"cpu_ratio": 0.97, "loop_lag_p99_seconds": 0.3}, (0.5,), "the client used 97% of a core"),
        ({"loop_lag_p99_seconds": 0.3}, (0.5,), "the client's event loop was late, by 300 ms in 1 % of cases"),
        ({}, (2.5, 3.0), "the client started late, even the first request by 2.50 s"),
        ({}, (0.0, 3.0), "the client had time, but was kept from sending (too few connections or open files?)"),
    ],
)
def test_it_says_why_the_load_was_not_offered(client: dict[str, Any], late: tuple[float, ...], why: str) -> None:
    (flag,) = offered(500, late=late, **client)

    assert flag.fact.endswith(f": {why}")


def test_requests_that_are_sent_late_are_a_warning_even_if_all_are_sent() -> None:
    (flag,) = offered(1000, late=(0.0,) * 90 + (0.05,) * 10)

    assert (flag.severity, flag.fact.partition(":")[0]) == (
        "warning",
        "1 % of the requests were sent more than 50 ms after they were due",
    )


@pytest.mark.parametrize("seed", range(3))
def test_what_a_simulated_server_does_obeys_littles_law(seed: int) -> None:
    assert flow(closed(12, seed=seed)) == []
    assert flow(opened(12, seed=seed)) == []


def test_answers_as_long_as_the_window_obey_it_too() -> None:
    assert flow(closed(5, tokens=500)) == []
    assert flow(opened(0.4, tokens=500)) == []


def test_users_cannot_have_more_requests_than_one_each_in_flight() -> None:
    result = closed(10)
    result.total.counts.ok *= 2

    ((severity, fact),) = flow(result)

    assert severity == "invalid"
    assert fact.endswith(" at a time, and there were 10 users")


def test_users_that_were_added_during_the_run_are_users() -> None:
    result = closed(10)
    assert result.load.concurrency is not None
    result.load.concurrency = 2

    assert flow(result) == []


def test_users_cannot_get_more_tokens_than_one_each_at_a_time() -> None:
    result = closed(10)
    result.total.window_tokens *= 2

    ((severity, fact),) = flow(result)

    assert severity == "invalid"
    assert " tokens a second: 10 users, each token taking " in fact


def test_the_first_chunk_may_hold_many_tokens() -> None:
    result = closed(10)
    result.total.window_tokens *= 2
    itl = result.total.latencies.itl
    result.total.latencies.itl = itl.model_copy(update={"count": itl.count // 30})

    assert flow(result) == []


@pytest.mark.parametrize("factor", [0.2, 2.0])
def test_a_rate_that_does_not_explain_what_is_in_flight_is_a_warning(factor: float) -> None:
    result = opened(40)
    e2e = result.total.latencies.e2e
    result.total.latencies.e2e = e2e.model_copy(update={"sum": e2e.sum * factor})

    ((severity, fact),) = flow(result)

    assert severity == "warning"
    assert "requests were in flight on average, and rate times end-to-end time makes" in fact


def test_an_interrupted_schedule_is_not_judged_by_what_never_ended() -> None:
    result = opened(20)
    result.interrupted = True
    result.total.counts.ok //= 3

    assert flow(result) == []


def test_failures_hold_places_whose_time_is_not_in_the_mean() -> None:
    result = opened(20)
    result.total.counts.ok //= 3

    assert flow(result) == []


def test_a_window_of_a_few_seconds_is_too_short_to_judge() -> None:
    result = opened(20)
    result.timeline = result.timeline[:9]
    result.total.latencies.e2e.sum *= 10

    assert flow(result) == []
