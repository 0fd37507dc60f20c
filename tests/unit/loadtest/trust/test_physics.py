"""What cannot be: each contradiction is flagged, and no run of a server that obeys its physics is."""

from typing import Any

import pytest

from loadtest.clock.histogram import Histogram
from loadtest.clock.histogram_data import HistogramData
from loadtest.results import EngineDelta, ModelFacts, RunResult
from loadtest.trust.physics import check_physics, least_tpot_seconds
from tests.unit.loadtest.runs import make_run
from tests.unit.loadtest.trust.simulated import closed, opened

SEVEN_BILLION: dict[str, Any] = {
    "name": "smoke",
    "weights_bytes": 13.2e9,
    "memory_bytes_per_second": 4800e9,
    "gpu": "NVIDIA H200",
}
"""Llama-2-7B in bfloat16: 2.75 ms a token at least."""


def facts(result: RunResult, *, expects_prefix_hits: bool = False) -> list[tuple[str, str]]:
    flags = check_physics(result, expects_prefix_hits=expects_prefix_hits)
    assert all(flag.kind == "physics" and flag.hint for flag in flags)
    return [(flag.severity, flag.fact) for flag in flags]


def of_model(tpot: float, *, tokens: int = 100, shortest: float | None = None, **changes: Any) -> RunResult:
    """Answers of the model ``smoke`` with a TPOT of ``tpot`` seconds."""
    result = make_run()
    result.environment.models = [ModelFacts(**(SEVEN_BILLION | changes))]
    (series,) = result.series
    series.latencies.tpot = histogram(*[tpot] * 199, tpot if shortest is None else shortest)
    series.lengths_completion = histogram(*[float(tokens)] * 200)
    return result


def histogram(*values: float) -> HistogramData:
    made = Histogram()
    made.record_all(values)
    return made.data()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("users", [1, 16])
def test_users_of_a_server_that_obeys_its_physics_raise_no_flag(users: int, seed: int) -> None:
    assert facts(closed(users, seed=seed)) == []
    assert facts(closed(users, seed=seed, abandoned=0.3)) == []


@pytest.mark.parametrize(("rate", "arrivals"), [(0.5, "poisson"), (20, "poisson"), (2, "constant"), (7, "constant")])
def test_a_schedule_of_a_server_that_obeys_its_physics_raises_no_flag(rate: float, arrivals: str) -> None:
    for seed in range(3):
        assert facts(opened(rate, seed=seed, arrivals=arrivals)) == []


def test_failures_raise_no_flag_of_physics() -> None:
    assert facts(make_run(failed=40)) == []
    assert facts(make_run(rate=6, failed=200)) == []


def test_a_run_without_requests_raises_no_flag() -> None:
    assert facts(make_run(requests=0)) == []


def test_a_median_below_the_time_that_the_weights_take_is_impossible() -> None:
    assert facts(of_model(0.0020)) == [
        (
            "invalid",
            "chat, smoke: TPOT p50 is 2.00 ms, and NVIDIA H200 needs 2.75 ms to read the weights (13.2 GB) once",
        )
    ]


@pytest.mark.parametrize(
    "result",
    [
        of_model(0.0028),
        of_model(0.0026),  # the weights' size is not known to the last percent
        of_model(0.0005, tokens=8),  # a late first chunk makes a short answer look fast
        of_model(0.0005, options={"speculative_config": {"method": "ngram"}}),
        of_model(0.0005, weights_bytes=None),
        of_model(0.0005, memory_bytes_per_second=None),
        of_model(0.0005, name="other"),
        of_model(0.0030, shortest=0.0010, tokens=32),
    ],
    ids=["slower", "close", "short answers", "speculative", "no weights", "no bandwidth", "another model", "one short"],
)
def test_a_token_that_takes_its_time_is_believed(result: RunResult) -> None:
    assert facts(result) == []


def test_a_single_long_answer_in_a_burst_is_a_warning() -> None:
    ((severity, fact),) = facts(of_model(0.0030, shortest=0.0010))

    assert severity == "warning"
    assert fact.startswith("chat, smoke: the lowest TPOT is 1.00 ms, and NVIDIA H200 needs 2.75 ms")


def test_the_least_time_a_token_is_weights_over_bandwidth() -> None:
    assert least_tpot_seconds(ModelFacts(**SEVEN_BILLION)) == pytest.approx(0.00275)


@pytest.mark.parametrize(
    ("wrong", "fact"),
    [
        ({"sum": 1e6}, "chat, smoke: TTFT: the mean, 5,000,000.0 ms, is not between the lowest, "),
        ({"sum": 0.0}, "chat, smoke: TTFT: the mean, 0.00 ms, is not between the lowest, "),
        ({"minimum": -0.25}, "chat, smoke: TTFT: a request took -250.0 ms"),
        ({"buckets": {0: 7}}, "chat, smoke: TTFT: the histogram contradicts itself"),
    ],
)
def test_a_histogram_that_contradicts_itself_is_said_once(wrong: dict[str, Any], fact: str) -> None:
    result = make_run()
    for series in (result.total, *result.series):
        series.latencies.ttft = series.latencies.ttft.model_copy(update=wrong)

    found = [found for found in facts(result) if "TTFT: " in found[1]]

    assert len(found) == 1
    assert found[0][0] == "invalid"
    assert found[0][1].startswith(fact)


def test_a_total_that_its_parts_do_not_explain_is_seen() -> None:
    result = make_run()
    result.series = [part.model_copy(deep=True) for part in result.series]
    result.total = result.total.model_copy(deep=True)
    result.total.latencies.tpot.sum *= 100

    ((severity, fact),) = facts(result)

    assert (severity, fact.startswith("TPOT: the mean, ")) == ("invalid", True)


@pytest.mark.parametrize(
    ("earlier", "later", "words"),
    [
        ("ttft", "e2e", "chat, m: TTFT p50, "),
        ("ttft_scheduled", "e2e_scheduled", "chat, m: TTFT from the scheduled time p50, "),
        ("e2e", "e2e_scheduled", "chat, m: end-to-end time p50, "),
    ],
)
def test_what_comes_first_cannot_take_longer(earlier: str, later: str, words: str) -> None:
    result = opened(10)
    series = result.series[0].latencies
    slower = Histogram()
    slower.record(10.0, getattr(series, later).count)
    setattr(series, earlier, slower.data())

    found = [fact for severity, fact in facts(result) if severity == "invalid"]

    assert any(fact.startswith(words) for fact in found)


def test_first_tokens_of_answers_that_clients_left_may_come_later_than_others_ended() -> None:
    result = closed(8, abandoned=0.2)
    latencies = result.series[0].latencies
    latencies.ttft = histogram(*[10.0] * latencies.e2e.count)
    latencies.ttft_scheduled = latencies.ttft

    assert [fact for _, fact in facts(result) if "end-to-end" in fact] == []


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ({"completion_tokens": {"distribution": "fixed", "value": 99}}, {}, "99 were asked for at most"),
        ({"completion_tokens": {"distribution": "uniform", "min": 5, "max": 99}}, {}, "99 were asked for at most"),
        (
            {"completion_tokens": {"distribution": "choices", "choices": [{"value": 10}, {"value": 99}]}},
            {},
            "99 were asked for at most",
        ),
        ({"completion_tokens": 99}, {}, "99 were asked for at most"),
        ({}, {"max_model_len": 64}, "the context holds 64"),
    ],
)
def test_more_tokens_than_can_have_been_made_are_impossible(
    text: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    result = make_run(scenario_text=text)
    result.environment.models[0].options = options

    assert facts(result) == [("invalid", f"an answer had 100 tokens, and {words}")]


@pytest.mark.parametrize(
    "text", [{}, {"completion_tokens": 100}, {"completion_tokens": {"distribution": "normal", "max": 100}}]
)
def test_answers_up_to_what_was_asked_are_possible(text: dict[str, Any]) -> None:
    assert facts(make_run(scenario_text=text)) == []


def test_a_trace_brings_lengths_of_its_own() -> None:
    result = opened(10)
    result.load.arrivals = "trace"
    result.scenario_text = {"completion_tokens": 5}

    assert facts(result) == []


def test_more_tokens_in_chunks_than_in_answers_were_counted_twice() -> None:
    result = closed(4)
    itl = result.total.latencies.itl
    result.total.latencies.itl = itl.model_copy(
        update={"count": itl.count * 2, "sum": itl.sum * 2, "buckets": {k: 2 * n for k, n in itl.buckets.items()}}
    )

    ((severity, fact),) = facts(result)

    assert (severity, fact.startswith("the chunks after the first of each answer held ")) == ("invalid", True)


def test_answers_that_come_in_one_piece_are_no_streams() -> None:
    result = closed(4)
    result.total.latencies.itl = HistogramData()

    assert facts(result) == [("warning", "every answer came in a single chunk, 20 tokens on average")]


def test_one_token_is_one_chunk() -> None:
    assert facts(closed(4, tokens=1)) == []


@pytest.mark.parametrize(
    ("hits", "expects", "flag"),
    [
        (0, False, None),
        (40, False, None),  # chat templates begin alike
        (600, True, None),
        (600, False, ("warning", "the prefix cache held 60.0% of the prompt tokens (600 of 1,000), and scenario chat "
                                 "shares no prefixes")),
        (2, True, ("note", "the prefix cache held 0.2% of the prompt tokens (2 of 1,000), though scenario chat "
                           "shares prefixes")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("source", ["engines", "answers"])
def test_the_prefix_cache_helps_where_the_scenario_means_it_to(
    source: str, hits: int, expects: bool, flag: tuple[str, str] | None
) -> None:
    result = make_run()
    if source == "engines":
        one = EngineDelta(replica="engine-smoke-1", model="smoke", prefix_queries=1000, prefix_hits=hits)
        result.engines = [one, one.model_copy(update={"model": "other", "prefix_hits": 900.0})]
    else:
        result.total.tokens.prompt, result.total.tokens.cached = 1000, hits

    assert facts(result, expects_prefix_hits=expects) == ([flag] if flag else [])


def test_where_nobody_counts_prefix_hits_nothing_is_said_of_them() -> None:
    assert facts(make_run(), expects_prefix_hits=True) == []
