"""What a run says about a server whose times are known."""

import contextlib
import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loadtest.clock.histogram import Histogram
from loadtest.clock.histogram_data import HistogramData
from loadtest.errors import LoadTestError
from loadtest.options import RunOptions
from loadtest.results import ROWS_FILE, RunResult, load
from loadtest.run import LOCUSTFILE
from tests.attempts import attempts
from tests.awaiting import wait_until
from tests.loadtest.conftest import ROOT, Mock, run_options

StartMock = Callable[..., Mock]
Run = Callable[..., RunResult]
FIXED = {"prompt_tokens": "40", "completion_tokens": "20"}


def quantile(data: HistogramData, share: float) -> float:
    value = Histogram.of(data).quantile(share)
    assert value is not None
    return value


def rows(result_folder: Path) -> list[dict[str, str]]:
    with (result_folder / ROWS_FILE).open(newline="") as file:
        return list(csv.DictReader(file))


def locust(options: RunOptions) -> list[str]:
    return [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", *options.arguments()]


@contextlib.contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Locust, once its users are there."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        for line in process.stderr:
            if "All users spawned" in line:
                break
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_the_closed_loop_keeps_its_users_busy_and_counts_exactly(
    start_mock: StartMock, run: Run, tmp_path: Path
) -> None:
    mock = start_mock("--ttft-seconds", "0.1", "--itl-seconds", "0.01")

    for attempt in attempts():
        result = run(
            mock.url, scenario="random-512-256", parameters=FIXED, concurrency=8, duration_seconds=4, warmup_seconds=1
        )

        total = result.total
        assert total.counts.failed == 0
        assert total.tokens.completion == 20 * total.counts.ok
        assert result.whole.sent == len(rows(tmp_path / "run")) > total.counts.sent
        assert max(second.in_flight for second in result.timeline) == 8
        with attempt:
            # 0.1 s + 19 × 0.01 s a request: 8 users send 27.6 a second.
            assert total.counts.ok / result.duration_seconds == pytest.approx(8 / 0.29, rel=0.1)
            assert total.output_tokens_per_second == pytest.approx(8 * 20 / 0.29, rel=0.1)
            assert quantile(total.latencies.ttft, 0.5) == pytest.approx(0.1, abs=0.02)
            assert quantile(total.latencies.itl, 0.5) == pytest.approx(0.01, abs=0.003)


def test_a_fixed_number_of_requests_is_sent_and_measured_as_a_whole(
    start_mock: StartMock, run: Run, tmp_path: Path
) -> None:
    mock = start_mock("--ttft-seconds", "0.05", "--itl-seconds", "0.005")

    result = run(mock.url, scenario="lab-200-200", parameters={"completion_tokens": "50"}, concurrency=100)

    assert (result.total.counts.sent, result.total.counts.ok) == (100, 100)
    assert result.total.tokens.completion == result.total.window_tokens == 100 * 50
    requests = rows(tmp_path / "run")
    first, last = min(float(row["sent_at"]) for row in requests), max(float(row["ended_at"]) for row in requests)
    assert result.duration_seconds == pytest.approx(last - first, abs=1e-6)
    # One answer takes 0.295 s; one after the other they would take half a minute.
    assert 0.295 <= result.duration_seconds < 10


def test_processes_split_the_load_and_add_up(start_mock: StartMock, run: Run) -> None:
    mock = start_mock("--ttft-seconds", "0.05", "--itl-seconds", "0.005")

    result = run(mock.url, scenario="random-512-256", parameters=FIXED, concurrency=6, requests=61, processes=2, seed=4)

    assert result.total.counts.ok == 61
    assert result.total.tokens.completion == 61 * 20
    assert result.client.processes == 2
    (engine,) = result.engines
    assert (engine.requests, engine.generation_tokens) == (61, 61 * 20)


def test_the_open_loop_sends_what_its_schedule_says(start_mock: StartMock, run: Run) -> None:
    mock = start_mock("--ttft-seconds", "0.3", "--itl-seconds", "0.01")

    for attempt in attempts():
        result = run(
            mock.url, scenario="random-512-256", parameters=FIXED, rate=30, arrivals="constant", duration_seconds=4,
            warmup_seconds=1,
        )  # fmt: skip

        # Each takes half a second and 30 come a second: a closed loop of few users could not do this.
        assert result.offered.asked == pytest.approx(120, abs=1)
        with attempt:
            assert result.offered.ratio == 1
            assert result.total.counts.ok == result.offered.asked
            assert quantile(result.offered.lateness, 0.5) < 0.02


def test_a_stall_shows_in_every_request_that_it_delayed(start_mock: StartMock, run: Run, tmp_path: Path) -> None:
    for attempt in attempts():
        # A stall comes once, after a mock's first request.
        mock = start_mock("--ttft-seconds", "0.05", "--itl-seconds", "0.005", "--stall-at", "2", "--stall-seconds", "2")

        result = run(
            mock.url, scenario="random-512-256", parameters=FIXED, rate=25, arrivals="constant", duration_seconds=8
        )

        measured = [
            (float(row["scheduled_at"]), float(row["first_token_at"]) - float(row["scheduled_at"]))
            for row in rows(tmp_path / "run")
        ]
        assert quantile(result.total.latencies.ttft_scheduled, 0.99) > 1.8
        end = max(scheduled + ttft for scheduled, ttft in measured if ttft > 0.5)
        delayed = [(scheduled, ttft) for scheduled, ttft in measured if end - 2 + 0.1 < scheduled < end - 0.2]
        with attempt:
            assert len(delayed) > 35
            # Who was due a second before the stall's end waited a second: nobody was left out, nobody sent later.
            assert all(ttft == pytest.approx(end - scheduled, abs=0.25) for scheduled, ttft in delayed)


def test_who_waits_for_the_server_to_send_again_hides_the_stall(start_mock: StartMock, run: Run) -> None:
    """The closed loop, for comparison: it sends nothing while the server stalls. This is why there is an open one."""
    for attempt in attempts():
        mock = start_mock("--ttft-seconds", "0.05", "--itl-seconds", "0.005", "--stall-at", "2", "--stall-seconds", "2")

        result = run(mock.url, scenario="random-512-256", parameters=FIXED, concurrency=2, duration_seconds=8)

        slow = 1 - (Histogram.of(result.total.latencies.ttft).share_at_most(1.0) or 0)
        with attempt:
            assert slow < 0.05


def test_a_conversation_sends_its_history_and_thinks_in_between(
    start_mock: StartMock, run: Run, tmp_path: Path
) -> None:
    mock = start_mock("--ttft-seconds", "0.02", "--itl-seconds", "0.001")

    result = run(
        mock.url, scenario="conversation", parameters={"conversation.think_seconds": "0.2"}, concurrency=3, requests=4
    )

    sessions: dict[str, list[dict[str, str]]] = {}
    for row in rows(tmp_path / "run"):
        sessions.setdefault(row["session"], []).append(row)
    assert result.total.counts.failed == 0, result.total.counts.errors
    assert len(sessions) == 4
    for turns in sessions.values():
        lengths = [int(turn["prompt_tokens"]) for turn in sorted(turns, key=lambda one: int(one["turn"]))]
        assert len(lengths) > 1
        assert lengths == sorted(lengths)


def test_clients_that_leave_are_told_apart_from_failures(start_mock: StartMock, run: Run) -> None:
    mock = start_mock("--ttft-seconds", "0.3", "--itl-seconds", "0.02")

    result = run(mock.url, scenario="abandonment", concurrency=10, duration_seconds=5)

    assert result.total.counts.abandoned > 0
    assert result.total.counts.failed == 0, result.total.counts.errors


def test_a_client_with_too_little_cpu_says_that_its_numbers_are_invalid(start_mock: StartMock, tmp_path: Path) -> None:
    mock = start_mock("--ttft-seconds", "0.05", "--itl-seconds", "0.01")
    options = run_options(
        tmp_path, mock.url, scenario="random-512-256", parameters=FIXED, concurrency=64, duration_seconds=5
    )
    core = max(os.sched_getaffinity(0))
    command = ["taskset", "--cpu-list", str(core), "nice", "-n", "10", *locust(options)]

    with started(command) as client, contextlib.ExitStack() as ending:
        for _ in range(3):
            competitor = subprocess.Popen(
                ["taskset", "--cpu-list", str(core), sys.executable, "-c", "while True: pass"]
            )
            ending.callback(competitor.wait)
            ending.callback(competitor.kill)
        client.communicate(timeout=300)

    result = load(tmp_path / "run")
    assert client.returncode == 2
    assert not result.valid
    assert any(flag.kind == "client" and flag.severity == "invalid" for flag in result.flags), result.flags


def test_an_interrupted_run_keeps_what_it_measured(start_mock: StartMock, tmp_path: Path) -> None:
    mock = start_mock("--ttft-seconds", "0.02", "--itl-seconds", "0.002")
    options = run_options(
        tmp_path, mock.url, scenario="random-512-256", parameters=FIXED, concurrency=2, duration_seconds=60
    )

    with started(locust(options)) as client:
        # What is measured until then must be there afterwards.
        wait_until(lambda: mock.truth()["finished"] >= 60, seconds=60, every=0.05)
        client.send_signal(signal.SIGINT)
        client.communicate(timeout=120)

    result = load(tmp_path / "run")
    assert result.interrupted
    assert result.total.counts.ok > 10
    assert 0.5 < result.duration_seconds < 30


def test_a_server_that_is_down_is_one_clear_line(run: Run) -> None:
    with pytest.raises(LoadTestError, match=r"^http://127\.0\.0\.1:9 cannot be reached: .*refused") as caught:
        run("http://127.0.0.1:9", concurrency=1, duration_seconds=1)

    assert len(caught.value.problems) == 1
    assert caught.value.exit_code == 2


def test_a_refused_key_is_one_clear_line(start_mock: StartMock, run: Run, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("sk-right\n")
    mock = start_mock("--api-key-file", str(tmp_path / "keys"))

    with pytest.raises(LoadTestError, match="asks for an API key"):
        run(mock.url, concurrency=1, duration_seconds=1)


def test_an_unknown_scenario_and_a_wrong_parameter_are_refused_before_anything_is_sent(
    start_mock: StartMock, run: Run
) -> None:
    mock = start_mock()

    with pytest.raises(LoadTestError, match="chatt"):
        run(mock.url, scenario="chatt", concurrency=1, duration_seconds=1)
    with pytest.raises(LoadTestError, match="prompt_token"):
        run(mock.url, parameters={"prompt_token": "5"}, concurrency=1, duration_seconds=1)


def test_a_trace_is_replayed_with_its_times_and_lengths_to_the_last_arrival(
    start_mock: StartMock, run: Run, tmp_path: Path
) -> None:
    mock = start_mock("--ttft-seconds", "0.02", "--itl-seconds", "0.001")
    trace = tmp_path / "trace.csv"
    trace.write_text("at,prompt_tokens,completion_tokens\n0,40,5\n0.5,60,6\n1.0,80,7\n")

    result = run(mock.url, scenario="random-512-256", arrivals="trace", trace=str(trace))

    sent = sorted(rows(tmp_path / "run"), key=lambda row: float(row["scheduled_at"]))
    assert [float(row["scheduled_at"]) for row in sent] == [0, 0.5, 1.0]
    assert [(int(row["prompt_tokens"]), int(row["completion_tokens"])) for row in sent] == [(40, 5), (60, 6), (80, 7)]
    assert (result.offered.asked, result.total.counts.ok) == (3, 3)
    assert result.duration_seconds == pytest.approx(1.0, abs=0.01)
