"""The load generator's own health: what is measured, and from when on a run is not believed."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gevent
import pytest

from loadtest.clock.histogram import Histogram
from loadtest.results import Calibration, ClientHealth
from loadtest.trust.health import (
    HIGHEST_CPU_RATIO,
    HIGHEST_LAG_SECONDS,
    HIGHEST_THROTTLED_RATIO,
    LONGEST_STALL_SECONDS,
    TICK_SECONDS,
    ClientMonitor,
    ClientReading,
    cpu_stat_files,
    judge_client,
    merge_readings,
    read_throttling,
    throttled_ratio,
)
from tests.attempts import attempts

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[4]
STARVED = """
import json, os, subprocess, sys, time
import gevent
from loadtest.trust.health import ClientMonitor, judge_client, merge_readings

def work(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

def client():
    while True:
        work(0.002)
        gevent.sleep(0.002)

def hog():  # the load generator's own code, too slow for what is asked of it
    while True:
        work(0.05)
        gevent.sleep(0.001)

core = min(os.sched_getaffinity(0))
burn = f"import os, time; os.sched_setaffinity(0, {{{core}}}); end = time.monotonic() + 60"
burn += "\\nprint(flush=True)\\nwhile time.monotonic() < end: pass"
competitor = None
if sys.argv[1] == "hog":
    gevent.spawn(hog)
else:  # one core, and another program that is seventy times as important
    os.sched_setaffinity(0, {core})
    competitor = subprocess.Popen([sys.executable, "-c", burn], stdout=subprocess.PIPE)
    competitor.stdout.readline()  # it burns from now on
    os.nice(19)
    gevent.spawn(client)
monitor = ClientMonitor()
monitor.start()
gevent.sleep(0.7)
health = merge_readings([monitor.stop()])
if competitor:
    competitor.kill()
    competitor.wait()
print(json.dumps([health.model_dump(), [flag.model_dump() for flag in judge_client(health)]]))
"""
HEALTHY = ClientHealth(
    processes=2, chunks=100_000, microseconds_a_chunk=15, cpu_ratio=0.6,
    loop_lag_p50_seconds=0.001, loop_lag_p99_seconds=0.008, loop_lag_max_seconds=0.05,
)  # fmt: skip
CALIBRATION = Calibration(
    streams=256, ttft_true_seconds=0.1, itl_true_seconds=0.01, ttft_error_seconds={"p50": 0.002, "p99": 0.009},
    itl_error_seconds={"p50": 0.0001, "p99": 0.0006}, microseconds_a_chunk=12, headroom_chunks_per_second=70_000,
    loop_lag_p99_seconds=0.004, counts_exact=True,
)  # fmt: skip


def reading(*, cpu_seconds: float = 1.0, lags: tuple[float, ...] = (0.001,), throttled: float = 0.0) -> dict[str, Any]:
    lag = Histogram()
    lag.record_all(lags)
    one = ClientReading(wall_seconds=10, cpu_seconds=cpu_seconds, lag=lag.data(), throttled_ratio=throttled)
    return json.loads(one.model_dump_json())  # type: ignore[no-any-return]


@pytest.mark.parametrize("how", ["hog", "competitor"])
def test_a_client_that_gets_too_little_cpu_says_that_its_numbers_are_invalid(how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STARVED, how], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    )

    health, flags = json.loads(done.stdout)

    assert health["loop_lag_p99_seconds"] > HIGHEST_LAG_SECONDS
    late = [flag for flag in flags if flag["fact"].startswith("the client was late itself")]
    assert [(flag["kind"], flag["severity"]) for flag in late] == [("client", "invalid")]


def test_a_monitor_counts_every_tick_that_a_busy_loop_misses() -> None:
    monitor = ClientMonitor()
    monitor.start()
    gevent.sleep(0)
    busy = 0.2
    end = time.perf_counter() + busy
    while time.perf_counter() < end:
        pass

    seen = ClientReading.model_validate(monitor.stop())

    # A stall of ten ticks is ten samples, from nearly all of it down to nearly nothing.
    assert seen.lag.count >= busy / TICK_SECONDS - 2
    assert seen.lag.maximum is not None
    assert seen.lag.maximum > busy - 3 * TICK_SECONDS
    assert seen.lag.minimum is not None
    assert seen.lag.minimum < 3 * TICK_SECONDS
    assert seen.cpu_seconds > 0


def test_a_monitor_that_is_started_again_forgets_what_was_before() -> None:
    monitor = ClientMonitor()
    for attempt in attempts():
        monitor.start()
        gevent.sleep(3 * TICK_SECONDS)

        monitor.start()

        with attempt:
            assert monitor.reading()["lag"]["count"] == 0
            assert monitor.stop()["wall_seconds"] < 3 * TICK_SECONDS


def test_after_its_end_a_monitor_keeps_its_last_reading() -> None:
    monitor = ClientMonitor()
    monitor.start()
    gevent.sleep(2 * TICK_SECONDS)
    last = monitor.stop()
    gevent.sleep(2 * TICK_SECONDS)

    assert monitor.reading() == last


def test_of_several_processes_the_worst_counts_and_their_cpu_is_shared_by_all_chunks() -> None:
    calm = reading(cpu_seconds=2, lags=(0.001,) * 100)
    late = reading(cpu_seconds=1, lags=(0.001,) * 90 + (0.03,) * 10, throttled=0.2)

    health = merge_readings([calm, late], chunks=100_000)

    assert health.processes == 2
    assert health.cpu_ratio == pytest.approx(0.2)
    assert health.microseconds_a_chunk == pytest.approx(30)
    assert health.loop_lag_p50_seconds == pytest.approx(0.001, rel=0.01)
    assert health.loop_lag_p99_seconds == pytest.approx(0.03, rel=0.01)
    assert health.loop_lag_max_seconds == pytest.approx(0.03)
    assert health.throttled_ratio == 0.2


def test_without_a_reading_there_is_no_health_to_judge() -> None:
    assert merge_readings([]).processes == 0
    assert merge_readings([reading()]).microseconds_a_chunk is None


@pytest.mark.parametrize("health", [HEALTHY, HEALTHY.model_copy(update={"calibration": CALIBRATION}), ClientHealth()])
def test_a_client_with_time_to_spare_is_believed(health: ClientHealth) -> None:
    assert judge_client(health) == []


@pytest.mark.parametrize(
    ("field", "limit", "fact"),
    [
        ("cpu_ratio", HIGHEST_CPU_RATIO, "a load process used 9"),
        ("loop_lag_p99_seconds", HIGHEST_LAG_SECONDS, "the client was late itself"),
        ("throttled_ratio", HIGHEST_THROTTLED_RATIO, "the CPU limit stopped the load process"),
    ],
)
def test_beyond_each_limit_a_run_is_invalid_and_at_it_not_yet(field: str, limit: float, fact: str) -> None:
    at_limit = judge_client(HEALTHY.model_copy(update={field: limit}))
    (beyond,) = judge_client(HEALTHY.model_copy(update={field: limit * 1.05}))

    assert at_limit == []
    assert (beyond.kind, beyond.severity) == ("client", "invalid")
    assert beyond.fact.startswith(fact)


def test_a_single_stall_is_a_warning() -> None:
    (flag,) = judge_client(HEALTHY.model_copy(update={"loop_lag_max_seconds": LONGEST_STALL_SECONDS * 8}))

    assert (flag.severity, flag.fact) == ("warning", "once the client itself stood still for 800 ms")


def test_the_hint_tells_a_busy_client_from_one_whose_core_was_taken() -> None:
    late = HEALTHY.model_copy(update={"loop_lag_p99_seconds": 0.2})

    busy = judge_client(late.model_copy(update={"cpu_ratio": 0.99}))

    assert "--processes" in busy[-1].hint
    assert "something else took its core" in judge_client(late)[0].hint


def test_a_client_that_cannot_count_is_invalid() -> None:
    wrong = CALIBRATION.model_copy(update={"counts_exact": False})

    (flag,) = judge_client(HEALTHY.model_copy(update={"calibration": wrong}))

    assert flag.severity == "invalid"


def test_a_client_whose_own_error_is_large_says_how_large() -> None:
    wrong = CALIBRATION.model_copy(
        update={"ttft_error_seconds": {"p50": 0.002, "p99": 0.0312}, "itl_error_seconds": {"p50": -0.0021, "p99": 0.0}}
    )

    (flag,) = judge_client(HEALTHY.model_copy(update={"calibration": wrong}))

    assert flag.severity == "warning"
    assert "TTFT p99 +31.2 ms (limit 15 ms), ITL p50 -2.1 ms (limit 1 ms) at 256 streams" in flag.fact


@pytest.mark.parametrize(
    ("membership", "stat"),
    [
        ("0::/", "cpu.stat"),  # version 2, inside a container
        ("0::/system.slice/docker-ab12.scope", "system.slice/docker-ab12.scope/cpu.stat"),
        ("0::/system.slice/docker-ab12.scope", "system.slice/cpu.stat"),  # the limit is on the group above
        ("4:cpu,cpuacct:/docker/ab12\n0::/", "cpu,cpuacct/docker/ab12/cpu.stat"),  # version 1
        ("4:cpu,cpuacct:/docker/ab12", "cpu,cpuacct/cpu.stat"),  # inside a container, which sees its own as the root
        ("2:cpu:/docker/ab12", "cpu/docker/ab12/cpu.stat"),
    ],
)
def test_the_group_that_limits_the_cpu_is_found(tmp_path: Path, membership: str, stat: str) -> None:
    file = tmp_path / "cgroup" / stat
    file.parent.mkdir(parents=True)
    file.write_text("usage_usec 5\nnr_periods 200\nnr_throttled 50\nthrottled_usec 7\n")
    (tmp_path / "membership").write_text(f"9:name=systemd:/\n3:cpuset:/elsewhere\n{membership}\n")

    found = cpu_stat_files(tmp_path / "cgroup", tmp_path / "membership")

    assert read_throttling(found) == {str(file): (200, 50)}


def test_a_machine_without_control_groups_is_never_throttled(tmp_path: Path) -> None:
    assert cpu_stat_files(tmp_path, tmp_path / "none") == []
    (tmp_path / "cpu.stat").write_text("usage_usec 5\n")
    assert read_throttling([tmp_path / "cpu.stat", tmp_path / "gone"]) == {}
    assert throttled_ratio({}, {}) == 0


def test_throttling_is_the_share_of_the_runs_own_periods_in_the_group_that_suffered_most() -> None:
    before = {"inner": (100, 90), "outer": (1000, 0), "still": (5, 5)}
    after = {"inner": (200, 115), "outer": (1100, 3), "still": (5, 5)}

    assert throttled_ratio(before, after) == pytest.approx(0.25)
