"""What limited a run outside of the engines, and how the loads of a sweep share findings."""

from typing import Any

import pytest

from loadtest.results import Calibration, ClientHealth, EngineDelta, Flag, RunResult, Series
from tests.unit.loadtest.report.findings import engine, found, run_with, text
from tests.unit.loadtest.report.test_grouping import saturating
from tests.unit.loadtest.runs import make_run


def test_a_client_that_could_not_do_more_comes_first() -> None:
    flag = Flag(kind="client", severity="invalid", fact="the client was late", hint="give it a core")
    run = run_with(engine(peak_kv_cache_ratio=1.0, peak_waiting=3), flags=[flag])

    limits = found(run)

    assert next(iter(limits)) == "The load generator"
    assert limits["The load generator"].evidence == ("the client was late",)
    assert limits["The load generator"].advice == ("give it a core",)
    assert "The load itself" not in limits


@pytest.mark.parametrize("health", [ClientHealth(cpu_ratio=0.97), ClientHealth(throttled_ratio=0.2)])
def test_a_busy_client_is_seen_without_a_flag(health: ClientHealth) -> None:
    assert "The load generator" in found(run_with(engine(), client=health))


def test_a_note_about_the_client_is_no_limit() -> None:
    flag = Flag(kind="client", severity="note", fact="it has a core of its own", hint="nothing to do")

    assert "The load generator" not in found(run_with(engine(), flags=[flag]))


def test_failures_are_told_with_their_outcomes_and_what_each_means() -> None:
    finding = found(run_with(engine(), failed=6))["Errors"]

    assert finding.evidence == ("6 of 60 requests failed (10 %): 6 timed out", "6 × no answer within 60 s")
    assert "timed out: ask for less load or add replicas" in text(finding)
    assert "refused" not in text(finding)


def test_a_run_without_failures_has_none() -> None:
    assert "Errors" not in found(run_with(engine()))


def stalled(seconds: int) -> RunResult:
    """Three requests in flight all the time; from second 12 on no token comes for this long."""
    run = run_with(engine())
    timeline = [
        second.model_copy(update={"in_flight": 3, "tokens": 0 if 12 <= second.at < 12 + seconds else second.tokens})
        for second in run.timeline
    ]
    return run.model_copy(update={"timeline": timeline})


def test_seconds_without_a_token_are_a_stall() -> None:
    evidence = found(stalled(2))["A stall"].evidence[0]

    assert evidence == "hardly a token came for 2.00 s from second 12 of the run on, with 3 requests in flight"


def test_a_steady_run_has_no_stall() -> None:
    assert "A stall" not in found(stalled(0))


def test_who_waited_for_a_stall_is_not_told_to_change_the_batch() -> None:
    waiting = engine(peak_waiting=9, times={"queue": 0.5, "ttft": 0.6})

    limits = found(stalled(2).model_copy(update={"engines": [waiting]}))

    assert "A stall" in limits
    assert "Waiting for a step" not in limits


def test_time_between_client_and_engine_is_told() -> None:
    finding = found(run_with(engine(), ttft=0.2))["Between client and engine"]

    assert "in the engines (means)" in finding.evidence[0]
    assert "--api-server-count" in text(finding)


def test_a_client_that_was_late_explains_the_time_itself() -> None:
    flag = Flag(kind="client", severity="invalid", fact="the client was late", hint="give it a core")

    assert "Between client and engine" not in found(run_with(engine(), ttft=0.2, flags=[flag]))


def test_a_few_milliseconds_of_gateway_are_not() -> None:
    assert "Between client and engine" not in found(run_with(engine(), ttft=0.055))


def test_where_nothing_was_full_the_load_is_the_limit() -> None:
    closed, opened = found(run_with(engine())), found(run_with(engine(), rate=6))

    assert "raise the concurrency" in text(closed["The load itself"])
    assert "what was asked (6/s poisson) was served" in text(opened["The load itself"])
    assert "`vllmstack capacity`" in text(opened["The load itself"])


@pytest.mark.parametrize(
    "run",
    [
        run_with(engine(peak_waiting=20, times={"queue": 0.4, "ttft": 0.5})),
        run_with(engine(), failed=3),
        run_with(),
    ],
    ids=["a queue", "failures", "no metrics"],
)
def test_the_load_is_not_the_limit_with(run: RunResult) -> None:
    assert "The load itself" not in found(run)


def sweep(*counts: int) -> list[RunResult]:
    """16 at a time is all that the engine does."""
    return [
        saturating(count).model_copy(
            update={"engines": [_engine(count)], "environment": run_with(engine(), facts=_SIXTEEN).environment}
        )
        for count in counts
    ]


_SIXTEEN: dict[str, Any] = {"options": {"max_num_seqs": 16}}


def _engine(count: int) -> EngineDelta:
    waiting = max(0, count - 16)
    times = {"queue": 0.5, "ttft": 0.6} if waiting else {}
    return engine(peak_running=min(count, 16), peak_waiting=waiting, times=times)


def test_loads_that_show_the_same_limit_share_a_finding_with_the_highest_loads_numbers() -> None:
    finding = found(*sweep(1, 2, 4, 8, 16, 32, 64))["max_num_seqs"]

    assert finding.loads == ("32", "64")
    assert "up to 48 waited" in finding.evidence[0]


def test_the_knee_says_what_more_load_costs() -> None:
    finding = found(*sweep(1, 2, 4, 8, 16, 32, 64))["The knee"]

    assert finding.evidence[0].startswith("the knee is at concurrency 16: ")
    assert "run at concurrency 16 or below" in text(finding)


def test_a_sweep_that_ends_before_the_knee_says_so() -> None:
    limits = found(*sweep(1, 2, 4, 8))

    [evidence] = limits["Not at its limit"].evidence
    assert evidence.startswith("throughput still grew by +9")
    assert evidence.endswith("from concurrency 4 to concurrency 8")
    assert "The knee" not in limits


def test_a_single_run_has_neither_knee_nor_loads() -> None:
    limits = found(run_with(engine()))

    assert not {"The knee", "Not at its limit"} & set(limits)
    assert all(finding.loads == () for finding in limits.values())


def test_an_empty_run_has_no_findings_and_breaks_nothing() -> None:
    empty = make_run(requests=0, engines=[EngineDelta(replica="one", model="smoke")], client=ClientHealth())

    assert "Errors" not in found(empty.model_copy(update={"total": Series()}))


def test_calibration_is_no_limit() -> None:
    calibration = Calibration(
        streams=1,
        ttft_true_seconds=0.1,
        itl_true_seconds=0.01,
        ttft_error_seconds={},
        itl_error_seconds={},
        microseconds_a_chunk=900,
        headroom_chunks_per_second=10,
        loop_lag_p99_seconds=1,
        counts_exact=False,
    )

    assert "The load generator" not in found(run_with(engine(), client=ClientHealth(calibration=calibration)))
