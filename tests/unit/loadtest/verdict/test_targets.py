"""Every way in which a target is met, missed, or cannot be judged."""

import math
from typing import Any

import pytest

from loadtest.clock.histogram import Histogram
from loadtest.results import Flag, Latencies, Load, LoadKind, RunResult
from loadtest.verdict.targets import Row, TargetVerdict, Verdict, exit_code, judge, limits_of
from tests.unit.loadtest.runs import make_run
from vllmstack.deployment.model import Target


def target(**fields: Any) -> Target:
    return Target.model_validate({"load": {"concurrency": 4}, **fields})


def only(verdict: TargetVerdict) -> Row:
    (row,) = verdict.rows
    return row


def estimate(row: Row) -> float:
    assert row.measured is not None
    return row.measured.estimate


@pytest.mark.parametrize(
    ("limit", "missed"),
    [
        ({"output_tokens_per_second": 600}, {"output_tokens_per_second": 700}),
        ({"requests_per_second": 6}, {"requests_per_second": 7}),
        ({"ttft_seconds": {"p95": 0.1}}, {"ttft_seconds": {"p95": 0.06}}),
        ({"ttft_seconds": {"mean": 0.06}}, {"ttft_seconds": {"mean": 0.04}}),
        ({"tpot_seconds": {"p50": 0.006}}, {"tpot_seconds": {"p50": 0.004}}),
        ({"itl_seconds": {"p90": 0.008}}, {"itl_seconds": {"p90": 0.005}}),
        ({"e2e_seconds": {"p99": 1.0}}, {"e2e_seconds": {"p99": 0.5}}),
        ({"error_ratio": 0.05}, {"error_ratio": 0.001}),
        ({"goodput_ratio": 0.9}, {"goodput_ratio": 0.999}),
    ],
)
def test_each_limit_is_met_on_one_side_and_missed_on_the_other(limit: dict[str, Any], missed: dict[str, Any]) -> None:
    run = make_run(failed=1)

    met, not_met = judge(target(**limit, **tolerant(limit)), [run], "smoke"), judge(target(**missed), [run], "smoke")

    assert (met.verdict, met.exit_code, met.reasons) == (Verdict.MET, 0, ())
    assert met.rows[0].margin is not None
    assert met.rows[0].margin > 0
    assert (not_met.verdict, not_met.exit_code) == (Verdict.MISSED, 1)
    assert not_met.reasons == (f"{not_met.rows[0].limit} is missed",)


def tolerant(limit: dict[str, Any]) -> dict[str, Any]:
    """A mean is one of answers only where failures are allowed."""
    return {"error_ratio": 0.05} if "mean" in str(limit) else {}


def test_a_measured_row_tells_everything() -> None:
    run = make_run()

    row = only(judge(target(ttft_seconds={"p95": 0.1}), [run], "smoke"))

    assert (row.key, row.limit, row.asked, row.at_most, row.unit) == ("ttft_seconds.p95", "ttft p95", 0.1, True, "s")
    assert estimate(row) == Histogram.of(run.total.latencies.ttft).quantile(0.95)
    assert row.margin == pytest.approx(1 - estimate(row) / 0.1)
    assert not row.close
    assert row.note == ""


def test_failures_are_slower_than_every_answer() -> None:
    # 4 % fail: the 95th percentile of all requests is the 99th of the answers.
    run = make_run(requests=1000, failed=40)

    row = only(judge(target(ttft_seconds={"p95": 0.1}), [run], "smoke"))

    assert estimate(row) == Histogram.of(run.total.latencies.ttft).quantile(0.95 / 0.96)
    assert "40 of 1000 requests failed: slower than every answer" in row.notes


@pytest.mark.parametrize("latency", ["ttft", "tpot", "itl", "e2e"])
def test_a_percentile_among_the_failures_is_more_than_every_answer(latency: str) -> None:
    row = only(judge(target(**{f"{latency}_seconds": {"p95": 100}}), [make_run(failed=12)], "smoke"))

    assert row.verdict is Verdict.MISSED
    assert estimate(row) == math.inf
    assert row.margin == -math.inf


def test_a_mean_over_failures_is_infinite_unless_the_target_allows_some() -> None:
    run = make_run(failed=2)

    strict = only(judge(target(ttft_seconds={"mean": 1}), [run], "smoke"))
    allowed = judge(target(ttft_seconds={"mean": 1}, error_ratio=0.05), [run], "smoke").rows[0]

    assert (strict.verdict, estimate(strict)) == (Verdict.MISSED, math.inf)
    assert allowed.verdict is Verdict.MET
    assert allowed.notes == ("2 of 200 requests failed and are not in the mean",)


def test_a_server_that_answers_nothing_misses_everything() -> None:
    asked = target(
        output_tokens_per_second=1, ttft_seconds={"mean": 9, "p50": 9}, error_ratio=0.5, itl_seconds={"p50": 9}
    )

    verdict = judge(asked, [make_run(failed=200)], "smoke")

    assert {row.verdict for row in verdict.rows} == {Verdict.MISSED}


def test_open_loop_counts_from_when_a_request_was_due_and_closed_loop_from_sending() -> None:
    late, prompt = Histogram(), Histogram()
    late.record(3.0, 200)
    prompt.record(0.1, 200)
    latencies = Latencies(ttft=prompt.data(), ttft_scheduled=late.data(), e2e=prompt.data(), e2e_scheduled=late.data())
    limits = {"ttft_seconds": {"p95": 1}, "e2e_seconds": {"p95": 1}}
    users, arrivals = make_run(), make_run(rate=5)
    for run in (users, arrivals):
        run.total.latencies = latencies

    closed = judge(target(**limits), [users], "smoke")
    opened = judge(target(load={"requests_per_second": 5}, **limits), [arrivals], "smoke")

    assert [estimate(row) for row in closed.rows] == [0.1, 0.1]
    assert [estimate(row) for row in opened.rows] == [3.0, 3.0]
    assert (closed.verdict, opened.verdict) == (Verdict.MET, Verdict.MISSED)


def test_three_repeats_bring_what_differs_from_run_to_run_into_the_interval() -> None:
    steady = [make_run(seed=seed) for seed in range(3)]
    moody = [make_run(seed=seed, ttft=ttft) for seed, ttft in enumerate((0.04, 0.05, 0.06))]
    asked = target(ttft_seconds={"p50": 1})

    narrow, wide = (only(judge(asked, runs, "smoke")).measured for runs in (steady, moody))

    assert narrow is not None
    assert wide is not None
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)
    assert wide.low <= wide.estimate <= wide.high


def test_repeats_are_judged_together() -> None:
    runs = [make_run(seed=1), make_run(seed=2, failed=4)]

    verdict = judge(target(error_ratio=0.015), runs, "smoke")

    assert estimate(only(verdict)) == 0.01
    assert verdict.verdict is Verdict.MET
    assert verdict.runs == ("chat-c4-1", "chat-c4-2")


def test_a_limit_inside_the_interval_is_too_close_to_call() -> None:
    run = make_run(requests=1000)
    median = Histogram.of(run.total.latencies.ttft).quantile(0.5)
    assert median is not None

    just_met = only(judge(target(ttft_seconds={"p50": median * 1.001}), [run], "smoke"))
    just_missed = only(judge(target(ttft_seconds={"p50": median * 0.999}), [run], "smoke"))

    assert (just_met.verdict, just_missed.verdict) == (Verdict.MET, Verdict.MISSED)
    assert just_met.close
    assert just_missed.close
    assert just_met.note == just_missed.note == "too close to call: repeat more"


def test_too_few_requests_for_a_percentile_are_told_how_many_it_takes() -> None:
    row = only(judge(target(ttft_seconds={"p99": 1}), [make_run(requests=200)], "smoke"))
    enough = only(judge(target(ttft_seconds={"p99": 1}), [make_run(requests=368)], "smoke"))

    assert row.verdict is Verdict.MET
    assert row.note == "too few requests to be sure: at least 368"
    assert enough.note == ""


def test_no_failure_at_all_is_not_called_close() -> None:
    row = only(judge(target(error_ratio=0), [make_run()], "smoke"))

    assert (row.verdict, row.close, row.note) == (Verdict.MET, False, "")


def test_throughput_is_as_sure_as_its_time_line_is_steady() -> None:
    run = make_run()
    nothing_known = make_run(timeline=[])
    asked = target(output_tokens_per_second=1)

    known, unknown = (only(judge(asked, [one], "smoke")).measured for one in (run, nothing_known))

    assert known is not None
    assert unknown is not None
    assert known.low > 0.9 * known.estimate
    assert (unknown.low, unknown.high) == (0, math.inf)
    assert known.estimate == run.total.output_tokens_per_second


def invalid_run(**changes: Any) -> RunResult:
    flag = Flag(kind="offered", severity="invalid", fact="only 91 % of the asked rate was sent", hint="more processes")
    return make_run(flags=[flag], **changes)


@pytest.mark.parametrize(
    ("runs", "fields", "reason"),
    [
        ([], {}, "nothing was measured"),
        ([make_run(requests=0)], {}, "no request was sent inside the window"),
        ([make_run(), invalid_run(seed=1)], {}, "chat-c4-1: only 91 % of the asked rate was sent"),
        ([make_run(interrupted=True)], {}, "chat-c4-0: was interrupted before its time"),
        (
            [make_run(concurrency=8)],
            {},
            "chat-c8-0: was measured at concurrency 8, and the target holds at concurrency 4",
        ),
        ([make_run(rate=4)], {}, "chat-r4-0: was measured at 4/s poisson, and the target holds at concurrency 4"),
        (
            [make_run(rate=4)],
            {"load": {"requests_per_second": 4.5}},
            "chat-r4-0: was measured at 4/s poisson, and the target holds at 4.5/s poisson",
        ),
        (
            [make_run(limits={"ttft": 5.0})],
            {"goodput_ratio": 0.9},
            "chat-c4-0: counted good requests by other latency limits than the target's",
        ),
        ([make_run(model="other", requests=9)], {}, "no request was sent inside the window"),
    ],
)
def test_a_measurement_that_cannot_tell_is_invalid_and_says_why(
    runs: list[RunResult], fields: dict[str, Any], reason: str
) -> None:
    verdict = judge(target(**{"ttft_seconds": {"p95": 1}, **fields}), runs, "smoke")

    assert verdict.reasons[0] == reason
    assert (verdict.verdict, verdict.exit_code) == (Verdict.INVALID, 2)
    assert {row.verdict for row in verdict.rows} == {Verdict.INVALID}


def test_only_abandoned_requests_cannot_be_judged() -> None:
    run = make_run(requests=5)
    run.total.counts.abandoned = 5

    verdict = judge(target(error_ratio=0.1), [run], "smoke")

    assert verdict.reasons == ("the scenario abandoned every request: none can be judged",)


def test_a_latency_that_a_scenario_does_not_have_is_invalid() -> None:
    embeddings = make_run()
    embeddings.total.latencies = Latencies(e2e=embeddings.total.latencies.e2e)

    verdict = judge(target(ttft_seconds={"p95": 1}, e2e_seconds={"p95": 9}), [embeddings], "smoke")

    assert [row.verdict for row in verdict.rows] == [Verdict.INVALID, Verdict.MET]
    assert verdict.reasons == ("ttft p95: no ttft was measured: this scenario has none",)
    assert verdict.exit_code == 2


def test_a_target_without_limits_is_invalid() -> None:
    assert judge(target(), [make_run()], "smoke").reasons == ("the target sets no limit",)


def test_good_requests_counted_by_the_targets_own_limits_are_judged() -> None:
    asked = target(ttft_seconds={"p95": 1}, goodput_ratio=0.9)

    assert judge(asked, [make_run(limits=limits_of(asked))], "smoke").verdict is Verdict.MET


def test_only_the_models_own_requests_count() -> None:
    good, bad = make_run().series[0], make_run(model="other", failed=200).series[0]
    both = make_run(series=[good, bad])

    assert judge(target(error_ratio=0), [both], "smoke").verdict is Verdict.MET
    assert judge(target(error_ratio=0), [both], "other").verdict is Verdict.MISSED


def test_a_warning_is_passed_on_once_though_each_run_has_numbers_of_its_own() -> None:
    def flagged(seed: int, fact: str) -> RunResult:
        flag = Flag(kind="reconciliation", severity="warning", fact=fact, hint="alone?")
        return make_run(seed=seed, flags=[flag])

    runs = [flagged(0, "the engines counted 3 more"), flagged(1, "the engines counted 41.5 more"), flagged(2, "odd")]

    verdict = judge(target(error_ratio=0), runs, "smoke")

    assert verdict.warnings == ("the engines counted 3 more (and alike in 1 more)", "odd")
    assert verdict.verdict is Verdict.MET


def test_the_binding_limit_has_the_least_margin() -> None:
    verdict = judge(target(ttft_seconds={"p50": 0.06, "p95": 0.5}, error_ratio=0.9), [make_run()], "smoke")

    assert verdict.binding is not None
    assert verdict.binding.limit == "ttft p50"
    assert judge(target(error_ratio=0), [], "smoke").binding is None


def test_one_target_missed_or_invalid_decides_for_all() -> None:
    met = judge(target(error_ratio=0), [make_run()], "smoke")
    missed = judge(target(error_ratio=0), [make_run(failed=1)], "smoke")
    invalid = judge(target(error_ratio=0), [], "smoke")

    assert [exit_code(verdicts) for verdicts in ([met], [met, missed], [missed, invalid, met], [])] == [0, 1, 2, 2]


def test_a_verdict_survives_its_file_infinite_numbers_too() -> None:
    verdict = judge(target(ttft_seconds={"p95": 1}), [make_run(failed=100)], "smoke")

    assert '"Infinity"' in verdict.model_dump_json()
    assert TargetVerdict.model_validate_json(verdict.model_dump_json()) == verdict


def test_a_verdict_names_its_model_scenario_and_load() -> None:
    verdict = judge(target(scenario="rag", error_ratio=0), [make_run()], "smoke")

    assert verdict.name == "smoke · rag · concurrency 4"
    assert verdict.load == Load(kind=LoadKind.CLOSED, concurrency=4)
