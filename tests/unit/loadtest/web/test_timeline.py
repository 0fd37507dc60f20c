import pytest

from loadtest.clock.histogram import Histogram
from loadtest.clock.histogram_data import HistogramData
from loadtest.results import Second
from loadtest.web.timeline import GROUPS_SECONDS, MAXIMUM_POINTS, Timeline, group_size
from tests.unit.loadtest.runs import make_run


def histogram(*values: float) -> HistogramData:
    made = Histogram()
    made.record_all(values)
    return made.data()


def long_run(seconds: int, run_id: str = "long") -> list[Second]:
    return [
        Second(at=at, due=4, sent=3, ok=2, failed=1, good=1, tokens=100, in_flight=at, ttft=histogram(at + 1.0))
        for at in range(seconds)
    ]


@pytest.mark.parametrize("seconds", [0, 1, MAXIMUM_POINTS, MAXIMUM_POINTS + 1, 3600, 12 * 3600])
def test_a_run_of_any_length_has_few_enough_points_and_no_second_is_lost(seconds: int) -> None:
    size = group_size(seconds)
    assert -(-seconds // size) <= MAXIMUM_POINTS
    finer = [one for one in GROUPS_SECONDS if one < size]
    assert not finer or -(-seconds // finer[-1]) > MAXIMUM_POINTS


def test_a_short_run_is_shown_second_by_second() -> None:
    run = make_run(duration=10, requests=30)
    columns = Timeline().columns(run)
    assert columns["group_seconds"] == 1
    assert columns["at"] == [second.at for second in run.timeline]
    assert columns["tokens"] == [second.tokens for second in run.timeline]
    assert sum(columns["due"]) == 30


def test_an_hour_is_grouped_counts_become_means_and_percentiles_are_of_all_values_of_the_group() -> None:
    run = make_run(timeline=long_run(3600))
    columns = Timeline().columns(run)
    size = columns["group_seconds"]
    assert len(columns["at"]) == 3600 / size
    assert [set(columns[name]) for name in ("due", "ended", "tokens", "good")] == [{4}, {3}, {100}, {1 / 3}]
    assert columns["in_flight"][0] == size - 1
    assert columns["ttft_p50"][0] == pytest.approx((size + 1) // 2, rel=0.01)
    assert columns["ttft_p99"][0] == size
    assert set(columns["tpot_p50"]) == {None}


def test_without_ended_requests_goodput_is_unknown_and_not_zero() -> None:
    columns = Timeline().columns(make_run(timeline=[Second(at=0, sent=1, in_flight=1)]))
    assert columns["good"] == [None]


def test_the_second_that_goes_on_is_left_out_and_a_stall_has_seconds_of_its_own() -> None:
    run = make_run(timeline=long_run(5))
    assert Timeline().columns(run, until=3.9)["at"] == [0, 1, 2]
    stalled = Timeline().columns(run, until=8.0)
    assert stalled["at"] == list(range(8))
    assert stalled["tokens"][5:] == [0, 0, 0]
    assert stalled["in_flight"][5:] == [4, 4, 4]
    assert Timeline().columns(run, until=-1.0)["at"] == []


def test_only_young_seconds_are_computed_again() -> None:
    timeline = Timeline()
    seconds = long_run(100)
    timeline.columns(make_run(id="a", timeline=seconds))
    seconds[0] = Second(at=0, tokens=7)
    seconds[99] = Second(at=99, tokens=7)
    again = timeline.columns(make_run(id="a", timeline=seconds))
    assert (again["tokens"][0], again["tokens"][99]) == (100, 7)
    of_another_run = timeline.columns(make_run(id="b", timeline=seconds))
    assert of_another_run["tokens"][0] == 7


def test_others_may_run_while_an_hour_is_grouped() -> None:
    pauses: list[None] = []
    Timeline(pause=lambda: pauses.append(None)).columns(make_run(timeline=long_run(3600)))
    assert len(pauses) > 5
