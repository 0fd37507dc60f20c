"""Several series as one."""

from loadtest.results import Series
from loadtest.verdict.pooling import pooled, series_of
from tests.unit.loadtest.runs import make_run


def test_repeats_add_up_over_their_windows() -> None:
    runs = [make_run(seed=1, requests=100), make_run(seed=2, requests=200, failed=20)]

    whole = pooled([run.total for run in runs])

    assert (whole.counts.sent, whole.counts.failed) == (300, 20)
    assert whole.window_seconds == 60
    assert whole.window_tokens == sum(run.total.window_tokens for run in runs)
    assert whole.latencies.ttft.count == 280
    assert whole.latencies.ttft.maximum == max(run.total.latencies.ttft.maximum or 0 for run in runs)


def test_scenarios_of_a_mix_share_their_window() -> None:
    chat, rag = make_run(scenario="chat").series[0], make_run(scenario="rag", requests=50).series[0]
    other = make_run(model="other", requests=70).series[0]
    mix = make_run(series=[chat, rag, other])

    mine = series_of(mix, "smoke")

    assert mine.counts.sent == 250
    assert mine.window_seconds == 30
    assert mine.output_tokens_per_second == chat.output_tokens_per_second + rag.output_tokens_per_second


def test_a_run_of_one_model_is_taken_whole() -> None:
    run = make_run()

    assert series_of(run, "smoke") is run.total


def test_a_model_that_nobody_asked_has_no_requests() -> None:
    assert series_of(make_run(), "other").counts == Series().counts
