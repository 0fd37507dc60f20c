"""The engines' own counters, read from captures of both releases and from servers that die, hang and lie."""

import math
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loadtest.results import EngineDelta, Flag
from loadtest.stack import Engine, ServedModel, StackFacts
from loadtest.trust import engines
from loadtest.trust.engines import COUNTERS, HISTOGRAMS, EngineWatch, Peaks, bucket_quantile, delta, snapshot
from tests.attempts import attempts
from tests.awaiting import wait_until
from tests.unit.conftest import FakeGateway
from vllmstack.engine_metrics import EngineNumbers, Reading, read

CAPTURES = Path(__file__).parents[3] / "captures"
ROOT = Path(__file__).parents[4]
PATCHED = """
from gevent import monkey
monkey.patch_all()
import gevent, sys
from loadtest.stack import Engine, ServedModel, StackFacts
from loadtest.trust.engines import EngineWatch
model = ServedModel(name="m", engines=(Engine(name="e", metrics=sys.argv[1]),))
ticks = 0
def load():
    global ticks
    while True:
        gevent.sleep(0.01)
        ticks += 1
gevent.spawn(load)
stack = StackFacts(deployment="d", url="http://127.0.0.1:1", models=(model,))
EngineWatch(stack, timeout_seconds=0.5).start()
print(ticks)
"""
NEW = (CAPTURES / "vllm-0.32.0-metrics.txt").read_text()
OLD = (CAPTURES / "vllm-0.26.0-metrics.txt").read_text()
"""Two requests of 150 prompt and 10 output tokens; written by the release's own logger."""


def reading(text: str) -> Reading:
    return read(text, (*COUNTERS.values(), "process_start_time_seconds"), HISTOGRAMS.values())


def counted(**sums: float) -> Reading:
    """As if the engine had only these counters."""
    return Reading(sums={COUNTERS.get(name, name): value for name, value in sums.items()})


def with_value(text: str, metric: str, value: float) -> str:
    changed, count = re.subn(rf"^({re.escape(metric)}(?:\{{[^}}]*}})?) .*$", rf"\1 {value}", text, flags=re.MULTILINE)
    assert count
    return changed


def stack(*urls: str) -> StackFacts:
    found = tuple(Engine(name=f"engine-m-{number}", metrics=url) for number, url in enumerate(urls, start=1))
    return StackFacts(deployment="d", url="http://gateway:8080", models=(ServedModel(name="m", engines=found),))


def watch_of(*urls: str) -> EngineWatch:
    """Patient: engines of this process stand still with it."""
    return EngineWatch(stack(*urls), timeout_seconds=60)


def watched(watch: EngineWatch, during: Callable[[], object] = lambda: None) -> tuple[list[EngineDelta], list[Flag]]:
    watch.start()
    during()
    return watch.stop()


@pytest.mark.parametrize("text", [OLD, NEW], ids=["0.26.0", "0.32.0"])
def test_both_releases_have_every_counter_and_histogram(text: str) -> None:
    seen = reading(text)

    assert set(COUNTERS.values()) <= set(seen.sums)
    assert all(math.inf in seen.buckets[name] and f"{name}_sum" in seen.sums for name in HISTOGRAMS.values())


def test_since_its_start_the_older_release_counted_what_it_was_given() -> None:
    grown = delta(Reading(sums={"process_start_time_seconds": reading(OLD).sums["process_start_time_seconds"]}),
                  reading(OLD), replica="engine-m-1", model="m")  # fmt: skip

    assert (grown.requests, grown.prompt_tokens, grown.generation_tokens) == (2, 300, 20)
    assert (grown.prefix_queries, grown.prefix_hits, grown.preemptions) == (300, 100, 0)
    assert grown.mean_seconds == pytest.approx(
        {"ttft": 0.085, "queue": 0.01, "prefill": 0.075, "decode": 0.108, "itl": 0.012, "e2e": 0.193}
    )
    assert not grown.restarted


def test_only_what_was_added_between_two_looks_counts() -> None:
    later = with_value(NEW, "vllm:generation_tokens_total", 669)
    later = with_value(later, "vllm:time_to_first_token_seconds_count", 20)
    later = with_value(later, "vllm:time_to_first_token_seconds_sum", 0.8409271240234375 + 1)

    grown = delta(reading(NEW), reading(later), replica="r", model="m", peaks=Peaks(running=3, kv_cache_ratio=0.5))

    assert (grown.generation_tokens, grown.prompt_tokens, grown.requests) == (100, 0, 0)
    assert grown.mean_seconds["ttft"] == pytest.approx(0.5)
    assert grown.mean_seconds["itl"] is None
    assert grown.quantiles_seconds["itl"] == {"p50": None, "p95": None, "p99": None}
    assert (grown.peak_running, grown.peak_waiting, grown.peak_kv_cache_ratio) == (3, 0, 0.5)


def test_quantiles_are_of_what_was_added() -> None:
    name = HISTOGRAMS["ttft"]
    before = Reading(sums={}, buckets={name: {0.1: 50.0, 0.2: 50.0, math.inf: 50.0}})
    after = Reading(sums={}, buckets={name: {0.1: 50.0, 0.2: 60.0, math.inf: 60.0}})

    assert delta(before, after, replica="r", model="m").quantiles_seconds["ttft"]["p50"] == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.25, 0.05), (0.5, 0.1), (0.6, 0.15), (0.7, 0.2), (0.99, 0.2)],
)
def test_a_quantile_is_interpolated_in_its_bucket(share: float, expected: float) -> None:
    # 10 values: 5 up to 0.1, 2 more up to 0.2; the highest finite limit is all that is known of those above.
    assert bucket_quantile({0.1: 5, 0.2: 7, math.inf: 10}, share) == pytest.approx(expected)


def test_no_values_have_no_quantile() -> None:
    assert bucket_quantile({}, 0.5) is None
    assert bucket_quantile({0.1: 0, math.inf: 0}, 0.5) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (counted(requests=100, generation_tokens=5000), counted(requests=3, generation_tokens=60)),
        # So fast that it has already counted more than before: only its age tells.
        (
            counted(requests=2, process_start_time_seconds=1000),
            counted(requests=3, generation_tokens=60, process_start_time_seconds=1500),
        ),
    ],
)
def test_an_engine_that_began_anew_is_said_to_have_and_counts_from_zero(before: Reading, after: Reading) -> None:
    grown = delta(before, after, replica="r", model="m")

    assert grown.restarted
    assert (grown.requests, grown.generation_tokens) == (3, 60)


def test_ranks_of_one_engine_are_added() -> None:
    text = NEW + NEW.replace('engine="0"', 'engine="1"')

    assert reading(text).sums[COUNTERS["generation_tokens"]] == 2 * 569


def test_peaks_are_the_highest_of_each() -> None:
    peaks = Peaks()
    for running, waiting, ratio in ((2, 0, 0.1), (1, 5, 0.4), (0, 0, 0.0)):
        peaks.add(EngineNumbers(running=running, waiting=waiting, kv_cache_ratio=ratio, generation_tokens=0))

    assert (peaks.running, peaks.waiting, peaks.kv_cache_ratio) == (2, 5, 0.4)


def test_a_run_is_what_was_counted_between_start_and_stop(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "SAMPLE_SECONDS", 0.02)
    gateway.answer("/metrics", NEW, kind="text/plain")
    busy = with_value(with_value(NEW, "vllm:num_requests_running", 7), "vllm:kv_cache_usage_perc", 0.25)

    def run() -> None:
        gateway.answer("/metrics", busy, kind="text/plain")
        before = len(gateway.requests)
        # The first of them has its answer when the second is here.
        wait_until(lambda: len(gateway.requests) >= before + 2, seconds=30)
        gateway.answer("/metrics", with_value(NEW, "vllm:generation_tokens_total", 1569), kind="text/plain")

    deltas, flags = watched(watch_of(f"{gateway.url}/metrics"), run)

    assert flags == []
    (only,) = deltas
    assert (only.replica, only.model, only.generation_tokens) == ("engine-m-1", "m", 1000)
    assert (only.peak_running, only.peak_kv_cache_ratio) == (7, 0.25)


def test_the_last_look_waits_until_the_engine_has_nothing_more_to_do(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "SETTLE_SECONDS", 60.0)
    gateway.answer("/metrics", NEW, kind="text/plain")

    def leave() -> None:
        still = with_value(with_value(NEW, "vllm:num_requests_running", 1), "vllm:generation_tokens_total", 600)
        gateway.answer("/metrics", still, kind="text/plain")
        threading.Timer(
            0.2, gateway.answer, ("/metrics", with_value(NEW, "vllm:generation_tokens_total", 700)), {"kind": "text"}
        ).start()

    deltas, _ = watched(watch_of(f"{gateway.url}/metrics"), leave)

    assert deltas[0].generation_tokens == 700 - 569


def test_engines_out_of_reach_are_one_note_and_no_crash() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    urls = [f"http://127.0.0.1:{port}/metrics", f"http://127.0.0.1:{port}/metrics"]

    deltas, flags = watched(watch_of(*urls))

    assert deltas == []
    assert [(flag.kind, flag.severity) for flag in flags] == [("server", "note")]
    assert flags[0].fact == "the metrics of engine-m-1, engine-m-2 could not be read: Connection refused"


def test_an_engine_that_dies_during_the_run_leaves_the_others_numbers(gateway: FakeGateway) -> None:
    gateway.answer("/metrics", NEW, kind="text/plain")
    gateway.answer("/dying", NEW, kind="text/plain")

    deltas, flags = watched(
        watch_of(f"{gateway.url}/metrics", f"{gateway.url}/dying"),
        lambda: gateway.answer("/dying", "", status=502),
    )

    assert [one.replica for one in deltas] == ["engine-m-1"]
    assert [flag.fact for flag in flags] == ["the metrics of engine-m-2 could not be read: HTTP status 502"]


def test_a_restart_is_flagged(gateway: FakeGateway) -> None:
    gateway.answer("/metrics", NEW, kind="text/plain")

    deltas, flags = watched(
        watch_of(f"{gateway.url}/metrics"),
        lambda: gateway.answer("/metrics", with_value(NEW, "vllm:prompt_tokens_total", 12), kind="text/plain"),
    )

    assert deltas[0].prompt_tokens == 12
    assert [(flag.severity, flag.fact) for flag in flags] == [("warning", "engine-m-1 began anew during the run")]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("# nothing of vLLM\nprocess_cpu_seconds_total 1.0\n", "the answer holds none of vLLM's counters"),
        ("vllm:generation_tokens_total{ 5\n", None),
    ],
)
def test_an_answer_that_is_no_engines_is_an_error_and_not_zero(
    gateway: FakeGateway, body: str, error: str | None
) -> None:
    gateway.answer("/metrics", body, kind="text/plain")

    seen = snapshot(Engine(name="e", metrics=f"{gateway.url}/metrics"))

    assert seen.reading is None
    assert seen.error if error is None else seen.error == error


@pytest.fixture
def silent() -> Iterator[str]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/metrics"


def test_an_engine_that_hangs_is_given_up_in_time(silent: str) -> None:
    for attempt in attempts():
        before = time.monotonic()

        seen = snapshot(Engine(name="e", metrics=silent), timeout_seconds=0.1)

        assert seen.error == "no answer in time"
        with attempt:
            assert time.monotonic() - before < 1.5


def test_in_a_process_that_gevent_has_patched_the_load_goes_on_while_an_engine_hangs(silent: str) -> None:
    for attempt in attempts():
        ticks = subprocess.run(
            [sys.executable, "-c", PATCHED, silent], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
        ).stdout

        with attempt:
            assert int(ticks) >= 10
