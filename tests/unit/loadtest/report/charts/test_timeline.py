"""What happened when."""

from loadtest.report.charts.timeline import MOST_BINS, bin_seconds, bins, timelines
from loadtest.results import RunResult, Second
from tests.unit.loadtest.report.charts.pictures import words
from tests.unit.loadtest.runs import make_run


def long_run(seconds: int) -> RunResult:
    timeline = [Second(at=at, due=2, sent=2, ok=1, tokens=10, in_flight=at % 7) for at in range(seconds)]
    return make_run(requests=20).model_copy(update={"timeline": timeline, "duration_seconds": seconds - 5})


def test_a_short_run_is_shown_second_by_second() -> None:
    run = make_run()

    assert bin_seconds(run) == 1
    assert [piece.tokens for piece in bins(run)] == [second.tokens for second in run.timeline]


def test_a_long_run_is_shown_in_steps_that_keep_rates_and_the_highest_number_in_flight() -> None:
    found = bins(long_run(3600))

    assert len(found) <= MOST_BINS
    assert all((piece.due, piece.tokens, piece.in_flight) == (2, 10, 6) for piece in found)


def test_no_first_token_is_lost_between_steps() -> None:
    run = make_run(duration=300, requests=900)

    assert bin_seconds(run) > 1
    assert sum(piece.ttft.count for piece in bins(run)) == sum(second.ttft.count for second in run.timeline)


def test_an_open_loop_shows_what_was_asked_and_what_failed() -> None:
    tokens, requests, in_flight, ttft = timelines(make_run(rate=6, failed=20))

    assert {"Requests asked and sent", "asked", "sent", "succeeded", "failed"} <= set(words(requests))
    assert {"Time to first token", "p50", "p95", "p99"} <= set(words(ttft))
    assert "warm-up" in words(tokens)
    assert any(text.startswith("peak ") for text in words(in_flight))


def test_a_closed_loop_without_failures_shows_neither() -> None:
    found = words(timelines(make_run())[1])

    assert not {"asked", "failed"} & set(found)


def test_a_run_of_an_hour_counts_in_minutes() -> None:
    assert "minutes since the start" in words(timelines(long_run(3600))[0])


def test_a_run_without_a_time_line_has_no_charts() -> None:
    assert timelines(make_run(timeline=[])) == []


def test_a_run_in_which_nothing_came_is_drawn_all_the_same() -> None:
    silent = make_run(timeline=[Second(at=0, sent=1, in_flight=1), Second(at=1, in_flight=1)])

    assert "no first token came" in words(timelines(silent)[3])
