"""What is measured, what only warms up, and that workers' parts add up exactly."""

import random

import pytest

from loadtest.clock.histogram import Histogram
from loadtest.clock.observation import Observation, Outcome
from loadtest.clock.recorder import Recorded, Recorder
from loadtest.results import ROW_FIELDS


def observation(
    scheduled_at: float, *, tokens: int = 5, ttft: float = 0.1, gap: float = 0.02, **changes: object
) -> Observation:
    times = [scheduled_at + ttft + index * gap for index in range(tokens)]
    one = Observation(
        scenario="chat", model="smoke", scheduled_at=scheduled_at, sent_at=scheduled_at, first_token_at=times[0],
        last_token_at=times[-1], ended_at=times[-1], prompt_tokens=10, completion_tokens=tokens,
        chunk_times=times, chunk_tokens=[1] * tokens, finish_reason="stop",
    )  # fmt: skip
    for name, value in changes.items():
        setattr(one, name, value)
    return one


def record(recorder: Recorder, *observations: Observation) -> None:
    for one in observations:
        recorder.due(one.scheduled_at)
        recorder.begin(one)
        recorder.end(one)


def test_requests_due_in_the_warm_up_are_not_measured() -> None:
    recorder = Recorder(window_start=1, window_end=3)

    record(recorder, observation(0.5), observation(1.5), observation(2.999), observation(3.0))

    total, _ = recorder.series(window_seconds=2)
    assert total.counts.sent == 2
    assert recorder.whole.sent == 4


def test_a_request_due_in_the_window_counts_however_late_it_ends() -> None:
    recorder = Recorder(window_start=0, window_end=1)

    record(recorder, observation(0.9, ttft=50.0))

    total, _ = recorder.series(window_seconds=1)
    assert total.counts.ok == 1
    assert total.latencies.ttft.maximum == pytest.approx(50)


def test_throughput_counts_tokens_that_arrive_in_the_window_of_whichever_request() -> None:
    recorder = Recorder(window_start=1, window_end=2)

    # Sent in warm-up, five tokens at 0.95, 1.15, 1.35, 1.55, 1.75; and one whose last two come after the end.
    record(recorder, observation(0.85, ttft=0.1, gap=0.2), observation(1.3, ttft=0.1, gap=0.25))

    total, _ = recorder.series(window_seconds=1)
    assert total.window_tokens == 4 + 3
    assert total.counts.sent == 1


def test_tokens_of_requests_in_flight_are_reported_before_they_end_and_never_twice() -> None:
    recorder = Recorder()
    one = observation(0.0, tokens=4)
    later_times, later_tokens = one.chunk_times[2:], one.chunk_tokens[2:]
    one.chunk_times, one.chunk_tokens = one.chunk_times[:2], one.chunk_tokens[:2]
    recorder.begin(one)

    first = recorder.take()
    one.chunk_times += later_times
    one.chunk_tokens += later_tokens
    recorder.end(one)
    second = recorder.take()

    assert [part.window_tokens for part in first.series] == [2]
    assert [part.window_tokens for part in second.series] == [2]


def test_inter_token_latency_shares_a_gap_among_the_tokens_of_a_chunk() -> None:
    recorder = Recorder()
    one = observation(0.0)
    one.chunk_times, one.chunk_tokens, one.completion_tokens = [0.1, 0.4], [1, 3], 4
    one.last_token_at = one.ended_at = 0.4

    record(recorder, one)

    latencies = recorder.series(1)[0].latencies
    assert (latencies.inter_chunk.count, latencies.itl.count) == (1, 3)
    assert latencies.inter_chunk.maximum == pytest.approx(0.3)
    assert latencies.itl.maximum == pytest.approx(0.1)
    assert latencies.tpot.maximum == pytest.approx(0.1)


def test_failures_are_counted_and_have_no_latency() -> None:
    recorder = Recorder()

    record(recorder, observation(0), observation(0, outcome=Outcome.TRUNCATED, error="the stream ended early"))

    total, _ = recorder.series(1)
    assert (total.counts.ok, total.counts.failed) == (1, 1)
    assert total.counts.errors == {"truncated: the stream ended early": 1}
    assert total.latencies.e2e.count == 1
    assert total.error_ratio == 0.5


def test_who_leaves_on_purpose_is_no_failure_and_keeps_the_first_token() -> None:
    recorder = Recorder()

    record(recorder, observation(0, outcome=Outcome.ABANDONED))

    total, _ = recorder.series(1)
    assert (total.counts.abandoned, total.counts.failed, total.error_ratio) == (1, 0, 0)
    assert total.latencies.ttft.count == 1
    assert total.latencies.e2e.count == 0


def test_goodput_counts_from_the_scheduled_time_in_the_open_loop() -> None:
    late = observation(0.0, ttft=0.1)
    late.sent_at, late.first_token_at = 2.0, 2.1
    late.chunk_times = [2.1, 2.2, 2.3, 2.4, 2.5]
    late.last_token_at = late.ended_at = 2.5
    by_schedule, by_sending = Recorder(limits={"ttft": 0.5}, by_schedule=True), Recorder(limits={"ttft": 0.5})

    record(by_schedule, late)
    record(by_sending, late)

    assert by_schedule.series(1)[0].counts.good == 0
    assert by_sending.series(1)[0].counts.good == 1


@pytest.mark.parametrize(("name", "limit"), [("ttft", 0.09), ("tpot", 0.019), ("itl", 0.019), ("e2e", 0.17)])
def test_each_limit_spoils_a_request_by_itself(name: str, limit: float) -> None:
    spoiled, kept = Recorder(limits={name: limit}), Recorder(limits={name: limit * 1.2})

    for recorder in (spoiled, kept):
        record(recorder, observation(0))

    assert spoiled.series(1)[0].counts.good == 0
    assert kept.series(1)[0].counts.good == 1


def test_what_was_due_and_not_sent_in_the_window_shows() -> None:
    recorder = Recorder(window_start=0, window_end=1)
    late = observation(0.5)
    late.sent_at = 1.2
    recorder.due(0.1)  # never sent
    recorder.due(late.scheduled_at)
    recorder.begin(late)

    offered = recorder.offered(window_seconds=1)

    assert (offered.asked, offered.sent) == (2, 0)
    assert offered.lateness.maximum == pytest.approx(0.7)


def test_workers_parts_add_up_to_what_one_process_records() -> None:
    generator = random.Random(5)
    observations = [
        observation(generator.uniform(0, 20), tokens=generator.randint(1, 9), ttft=generator.uniform(0.01, 3))
        for _ in range(300)
    ]
    alone, merged = Recorder(window_start=2, window_end=15), Recorder(window_start=2, window_end=15)
    workers = [Recorder(window_start=2, window_end=15) for _ in range(3)]

    record(alone, *observations)
    for index, one in enumerate(observations):
        record(workers[index % 3], one)
        if index % 40 == 0:  # reports in between, as Locust's workers send them
            merged.merge(Recorded.model_validate_json(workers[index % 3].take().model_dump_json()))
    for worker in workers:
        merged.merge(worker.take())

    mine, its = merged.series(13)[0], alone.series(13)[0]
    assert mine.counts == its.counts
    assert mine.window_tokens == its.window_tokens
    assert mine.latencies.ttft.buckets == its.latencies.ttft.buckets
    assert mine.latencies.itl.count == its.latencies.itl.count
    assert [second.model_dump(exclude={"ttft", "tpot"}) for second in merged.timeline()] == [
        second.model_dump(exclude={"ttft", "tpot"}) for second in alone.timeline()
    ]
    assert merged.span == alone.span
    assert merged.whole.model_dump() == pytest.approx(alone.whole.model_dump())
    assert len(list(merged.rows)) == len(observations)


def test_the_time_line_has_every_second_and_the_requests_in_flight() -> None:
    recorder = Recorder()

    record(recorder, observation(0.2, ttft=4.0))

    line = recorder.timeline()
    assert [second.at for second in line] == [0, 1, 2, 3, 4]
    assert [second.in_flight for second in line] == [1, 1, 1, 1, 0]
    assert Histogram.of(line[4].ttft).quantile(0.5) == pytest.approx(4.0)


def test_a_row_has_a_value_for_each_field() -> None:
    recorder = Recorder()

    record(recorder, observation(0))

    (row,) = recorder.rows
    assert len(row) == len(ROW_FIELDS)
    assert dict(zip(ROW_FIELDS, row, strict=True))["ttft_seconds"] == pytest.approx(0.1)
