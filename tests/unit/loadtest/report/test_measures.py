"""The numbers of a report are the verdict's."""

import math

from loadtest.report.measures import BY_KEY, ERRORS, GOODPUT, MEASURES, OUTPUT_TOKENS, TTFT, estimate
from tests.unit.loadtest.runs import make_run


def test_every_measure_of_a_good_run_has_a_value_inside_its_interval() -> None:
    run = make_run(limits={"ttft": 1.0})

    found = {one.key: estimate(one, [run]) for one in MEASURES}

    assert len(found) == 16
    assert all(interval is not None and interval.holds(interval.estimate) for interval in found.values())


def test_an_open_loop_counts_from_when_a_request_was_due() -> None:
    closed, opened = make_run(concurrency=4), make_run(rate=4)

    assert TTFT.data(closed) == closed.total.latencies.ttft
    assert TTFT.data(opened) == opened.total.latencies.ttft_scheduled


def test_a_percentile_among_failed_requests_is_more_than_every_answer() -> None:
    run = make_run(requests=200, failed=10)

    p50, p99 = estimate(BY_KEY["ttft_seconds.p50"], [run]), estimate(BY_KEY["ttft_seconds.p99"], [run])

    assert p50 is not None
    assert math.isfinite(p50.estimate)
    assert p99 is not None
    assert math.isinf(p99.estimate)


def test_goodput_without_limits_says_nothing() -> None:
    assert estimate(GOODPUT, [make_run()]) is None


def test_a_run_without_requests_has_no_error_ratio() -> None:
    assert estimate(ERRORS, [make_run(requests=0)]) is None


def test_repeats_give_the_mean_throughput() -> None:
    runs = [make_run(requests=count, seed=count) for count in (190, 200, 210)]

    found = estimate(OUTPUT_TOKENS, runs)

    assert found is not None
    assert math.isclose(found.estimate, sum(run.total.output_tokens_per_second for run in runs) / 3, rel_tol=1e-9)
