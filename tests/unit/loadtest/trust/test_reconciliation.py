"""The client's totals against the engines': what agrees is silent, every difference names both numbers."""

from typing import Any

import pytest

from loadtest.clock.histogram import Histogram
from loadtest.clock.histogram_data import HistogramData
from loadtest.results import EngineDelta, Flag, ModelFacts, RunResult, WholeRun
from loadtest.trust.reconciliation import reconcile
from tests.unit.loadtest.runs import COMPLETION_TOKENS, PROMPT_TOKENS, make_run

REQUESTS = 240
TTFT, E2E, ITL = 0.060, 0.560, 0.005
"""Means that the engines measured; the client saw 3 ms more of the first two."""
NETWORK = 0.003


def engines(replicas: int = 2, **changes: Any) -> list[EngineDelta]:
    """Replicas that share 240 requests of 200 prompt and 100 output tokens evenly."""
    share = REQUESTS / replicas
    fields: dict[str, Any] = {
        "model": "smoke",
        "requests": share,
        "prompt_tokens": share * PROMPT_TOKENS,
        "generation_tokens": share * COMPLETION_TOKENS,
        "mean_seconds": {"ttft": TTFT, "e2e": E2E, "itl": ITL, "queue": 0.0, "prefill": 0.05, "decode": 0.5},
    }
    return [EngineDelta(**(fields | {"replica": f"engine-smoke-{number + 1}"} | changes)) for number in range(replicas)]


def whole(**changes: Any) -> WholeRun:
    """The client's view of the same: 200 requests in the window, 40 in warm-up and drain."""
    fields: dict[str, Any] = {
        "sent": REQUESTS,
        "ok": REQUESTS,
        "prompt_tokens": REQUESTS * PROMPT_TOKENS,
        "completion_tokens": REQUESTS * COMPLETION_TOKENS,
        "ttft_count": REQUESTS,
        "ttft_sum_seconds": REQUESTS * (TTFT + NETWORK),
        "e2e_sum_seconds": REQUESTS * (E2E + NETWORK),
    }
    return WholeRun(**(fields | changes))


def run(seen: WholeRun | None = None, counted: list[EngineDelta] | None = None, **changes: Any) -> RunResult:
    result = make_run(
        tpot=ITL, ttft=TTFT, whole=seen or whole(), engines=engines() if counted is None else counted, **changes
    )
    result.environment.models[0].replicas = 2
    return result


def latency(seconds: float, count: int) -> HistogramData:
    histogram = Histogram()
    histogram.record(seconds, count)
    return histogram.data()


def facts(result: RunResult) -> list[tuple[str, str]]:
    flags = reconcile(result)
    assert all(flag.kind == "reconciliation" and flag.hint for flag in flags)
    return [(flag.severity, flag.fact) for flag in flags]


def hint(flags: list[Flag]) -> str:
    return flags[0].hint


def test_a_run_that_both_sides_counted_alike_is_silent() -> None:
    assert facts(run()) == []


@pytest.mark.parametrize(
    "changes",
    [
        # 10 clients left: the engines had done all, some or nothing of what they asked.
        {"prompt_tokens": 120 * PROMPT_TOKENS, "generation_tokens": 115 * COMPLETION_TOKENS},
        {"requests": 115, "prompt_tokens": 115 * PROMPT_TOKENS, "generation_tokens": 115 * COMPLETION_TOKENS},
        {"requests": 118, "prompt_tokens": 119 * PROMPT_TOKENS, "generation_tokens": 117 * COMPLETION_TOKENS},
    ],
)
def test_what_unfinished_requests_cost_the_engines_is_no_difference(changes: dict[str, Any]) -> None:
    seen = whole(ok=230, abandoned=10, prompt_tokens=230 * PROMPT_TOKENS, completion_tokens=230 * COMPLETION_TOKENS,
                 e2e_sum_seconds=230 * (E2E + NETWORK))  # fmt: skip

    assert facts(run(seen, engines(**changes))) == []


def test_one_request_of_several_prompts_is_several_of_an_engine() -> None:
    assert facts(run(counted=engines(requests=480))) == []


def test_the_whole_traffic_of_another_client_is_seen_with_both_numbers() -> None:
    more = engines(requests=150, prompt_tokens=150 * PROMPT_TOKENS, generation_tokens=150 * COMPLETION_TOKENS)

    assert facts(run(counted=more)) == [
        ("warning", "prompt tokens: the client counted 48,000, the engines 60,000 (+12,000)"),
        ("warning", "output tokens: the client counted 24,000, the engines 30,000 (+6,000)"),
        ("warning", "finished requests: the client counted 240, the engines 300 (+60)"),
    ]
    assert "someone else used the engines" in hint(reconcile(run(counted=more)))


def test_tokens_that_no_engine_made_are_a_warning() -> None:
    fewer = engines(generation_tokens=100 * COMPLETION_TOKENS)

    assert facts(run(counted=fewer)) == [
        ("warning", "output tokens: the client counted 24,000, the engines 20,000 (-4,000)")
    ]
    assert "answers came from elsewhere" in hint(reconcile(run(counted=fewer)))


def test_a_difference_of_a_single_token_is_a_note_and_not_hidden() -> None:
    seen = whole(prompt_tokens=REQUESTS * PROMPT_TOKENS + 1)

    assert facts(run(seen)) == [("note", "prompt tokens: the client counted 48,001, the engines 48,000 (-1)")]


def test_engines_that_answered_nothing_are_not_the_ones_that_were_measured() -> None:
    idle = engines(requests=0, prompt_tokens=0, generation_tokens=0, mean_seconds={})

    assert facts(run(counted=idle)) == [
        ("warning", "the client had 240 whole answers, and engine-smoke-1, engine-smoke-2 finished none")
    ]


def test_a_difference_of_a_few_milliseconds_between_client_and_engines_is_usual() -> None:
    seen = whole(ttft_sum_seconds=REQUESTS * (TTFT + 0.019), e2e_sum_seconds=REQUESTS * (E2E + 0.1))

    assert facts(run(seen)) == []


def test_time_that_is_lost_between_client_and_engines_is_flagged() -> None:
    seen = whole(ttft_sum_seconds=REQUESTS * 0.120, e2e_sum_seconds=REQUESTS * 0.720)

    assert facts(run(seen)) == [
        ("warning", "mean TTFT: 120.0 ms at the client, 60.0 ms in the engines: 60.0 ms lie between them"),
        ("warning", "mean end-to-end time: 720.0 ms at the client, 560.0 ms in the engines: 160.0 ms lie between them"),
    ]


def test_a_client_that_sees_a_token_before_the_engine_made_it_is_wrong() -> None:
    seen = whole(ttft_sum_seconds=REQUESTS * 0.050)

    assert facts(run(seen)) == [
        (
            "warning",
            "mean TTFT: 50.0 ms at the client, 60.0 ms in the engines: the client saw less than the engines took",
        )
    ]


def test_the_engines_means_are_weighted_by_what_each_did() -> None:
    busy, idle = engines()
    busy = busy.model_copy(update={"requests": 216.0, "prompt_tokens": 216.0 * 200, "generation_tokens": 216.0 * 100})
    idle = idle.model_copy(
        update={"requests": 24.0, "prompt_tokens": 24.0 * 200, "generation_tokens": 24.0 * 100,
                "mean_seconds": {"ttft": 0.660, "e2e": 1.160, "itl": ITL}},
    )  # fmt: skip
    # 0.9 × 60 ms + 0.1 × 660 ms
    seen = whole(ttft_sum_seconds=REQUESTS * 0.123, e2e_sum_seconds=REQUESTS * 0.623)

    assert facts(run(seen, [busy, idle])) == []


def test_tokens_that_were_held_back_on_the_way_show_in_the_inter_token_latency() -> None:
    result = run(counted=engines(mean_seconds={"ttft": TTFT, "e2e": E2E, "itl": 0.020}))

    ((severity, fact),) = facts(result)

    assert severity == "warning"
    assert fact.endswith("at the client, 20.0 ms in the engines")


def test_with_speculative_decoding_an_engines_step_is_a_chunk_and_no_token() -> None:
    result = run(counted=engines(mean_seconds={"ttft": TTFT, "e2e": E2E, "itl": 0.020}))
    result.environment.models[0] = ModelFacts(name="smoke", replicas=2, options={"speculative_config": {"method": "x"}})
    result.total.latencies.inter_chunk = latency(0.020, 5000)

    assert facts(result) == []


def test_without_streaming_the_client_has_no_first_token_to_compare() -> None:
    seen = whole(ttft_count=0, ttft_sum_seconds=0.0)

    assert facts(run(seen, engines(mean_seconds={"ttft": 5.0, "e2e": E2E, "itl": 1.0}))) == []


def test_means_of_unlike_requests_are_not_compared() -> None:
    seen = whole(sent=480, abandoned=240, ttft_count=480, ttft_sum_seconds=480 * 3.0)

    assert facts(run(seen)) == []


@pytest.mark.parametrize(
    "counted",
    [
        [],
        engines()[:1],
        [engines()[0], engines(requests=3, generation_tokens=5, restarted=True)[1]],
    ],
    ids=["none", "one of two", "one began anew"],
)
def test_what_is_not_known_of_every_engine_is_not_compared(counted: list[EngineDelta]) -> None:
    assert facts(run(counted=counted)) == []


def test_engines_of_other_models_are_left_out() -> None:
    assert facts(run(counted=[*engines(), *engines(model="other")])) == []


def test_a_run_whose_window_saw_no_answer_does_not_guess_what_the_failures_cost() -> None:
    result = run(whole(ok=1, failed=239, prompt_tokens=200, completion_tokens=100), requests=0)

    assert facts(result) == []


def test_cached_tokens_of_the_answers_are_those_that_the_engines_counted() -> None:
    agreeing = run(whole(cached_tokens=9600), engines(prefix_hits=4800))
    other = run(whole(cached_tokens=9600), engines(prefix_hits=1000))

    assert facts(agreeing) == []
    assert facts(other) == [("note", "answers spoke of 9,600 cached prompt tokens, the engines counted 2,000")]
