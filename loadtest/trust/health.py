"""The load generator itself: a client that is too slow shows up as a slow server, unless it is measured too."""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gevent
from pydantic import BaseModel

from loadtest.clock.histogram import Histogram
from loadtest.clock.histogram_data import HistogramData
from loadtest.results import Calibration, ClientHealth, Flag

TICK_SECONDS = 0.02
"""Between two looks at the event loop. Each costs 50 µs where it must wake an idle process: 0.3 % of a core."""

HIGHEST_LAG_SECONDS = 0.020
"""p99. A TTFT or ITL in the result may be too long by the lag; beyond this, 10 % of the usual 200 ms limit of an
interactive service, a missed target could be the client's own."""

LONGEST_STALL_SECONDS = 0.1
"""A single stall can be shorter than 1 % of a run and yet be the highest TTFT of it."""

HIGHEST_CPU_RATIO = 0.9
"""Of one core. A loop that is busy for a share r of the time makes an event wait r / (1 − r) times as long as it works
(M/M/1 queue): nine times at 0.9."""

HIGHEST_THROTTLED_RATIO = 0.01
"""A throttled period stops the process for up to 100 ms: from one in a hundred on it is in the p99."""

CALIBRATION_LIMITS = {"ttft": {"p50": 0.005, "p99": 0.015}, "itl": {"p50": 0.001, "p99": 0.001}}
"""Errors, in seconds, that the client keeps to on a machine that leaves it a core."""

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


class ClientReading(BaseModel):
    """One process, as it travels to the one that judges."""

    wall_seconds: float
    cpu_seconds: float
    lag: HistogramData
    throttled_ratio: float = 0.0


class ClientMonitor:
    """Measures the process it runs in, from ``start`` to ``stop``: CPU time, throttling, and how late its loop is.

    A greenlet wants to run at every tick. Ticks that pass while the loop is busy are counted too, each with its own
    lateness, so that the quantiles are those of an event that comes at any moment.
    """

    def __init__(self) -> None:
        self._lag = Histogram()
        self._ticking: gevent.Greenlet[[], None] | None = None
        self._wall = self._cpu = self._due = 0.0
        self._throttling: Mapping[str, tuple[int, int]] = {}
        self._reading: dict[str, Any] | None = None

    def start(self) -> None:
        """Begins, or begins anew."""
        self._halt()
        self._lag = Histogram()
        self._reading = None
        self._throttling = read_throttling(cpu_stat_files())
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._due = self._wall + TICK_SECONDS
        self._ticking = gevent.spawn(self._tick)

    def stop(self) -> dict[str, Any]:
        """The last reading."""
        self._reading = self.reading()
        self._halt()
        return self._reading

    def reading(self) -> dict[str, Any]:
        """A ClientReading since ``start``, as plain values for a message."""
        if self._reading is not None:
            return self._reading
        self._count_ticks()  # of a stall that has only just ended, or has not
        throttling = read_throttling(Path(name) for name in self._throttling)
        return ClientReading(
            wall_seconds=time.perf_counter() - self._wall,
            cpu_seconds=time.process_time() - self._cpu,
            lag=self._lag.data(),
            throttled_ratio=throttled_ratio(self._throttling, throttling),
        ).model_dump(mode="json")

    def _tick(self) -> None:
        while True:
            gevent.sleep(max(self._due - time.perf_counter(), 0.0))
            self._count_ticks()

    def _count_ticks(self) -> None:
        now = time.perf_counter()
        while self._due <= now:
            self._lag.record(now - self._due)
            self._due += TICK_SECONDS

    def _halt(self) -> None:
        if self._ticking is not None:
            self._ticking.kill()
            self._ticking = None


def merge_readings(readings: Sequence[Mapping[str, Any]], *, chunks: int = 0) -> ClientHealth:
    """All processes as one: of each figure the worst process's own. ``chunks``: what all of them read together."""
    if not readings:
        return ClientHealth(processes=0, chunks=chunks)
    seen = [ClientReading.model_validate(reading) for reading in readings]
    lags = [Histogram.of(one.lag) for one in seen]
    cpu_seconds = sum(one.cpu_seconds for one in seen)
    return ClientHealth(
        processes=len(seen),
        chunks=chunks,
        microseconds_a_chunk=cpu_seconds / chunks * 1e6 if chunks else None,
        cpu_ratio=max(one.cpu_seconds / one.wall_seconds if one.wall_seconds > 0 else 0.0 for one in seen),
        loop_lag_p50_seconds=max(lag.quantile(0.50) or 0.0 for lag in lags),
        loop_lag_p99_seconds=max(lag.quantile(0.99) or 0.0 for lag in lags),
        loop_lag_max_seconds=max(one.lag.maximum or 0.0 for one in seen),
        throttled_ratio=max(one.throttled_ratio for one in seen),
    )


def judge_client(health: ClientHealth) -> list[Flag]:
    """Why the numbers must not be used, if the client had too little CPU; what it could not measure well."""
    flags = []
    busy = health.cpu_ratio > HIGHEST_CPU_RATIO
    more = "spread the load over more processes (`--processes`), each with a core of its own, or ask for less"
    if busy:
        fact = f"a load process used {health.cpu_ratio:.0%} of a core: from {HIGHEST_CPU_RATIO:.0%} on events wait"
        flags.append(_invalid(fact, more))
    if health.throttled_ratio > HIGHEST_THROTTLED_RATIO:
        fact = f"the CPU limit stopped the load process in {health.throttled_ratio:.0%} of the scheduler's periods"
        flags.append(_invalid(fact, "raise the CPU limit of the load test's container"))
    if health.loop_lag_p99_seconds > HIGHEST_LAG_SECONDS:
        fact = (
            f"the client was late itself: 1 % of its events by more than {health.loop_lag_p99_seconds * 1000:.0f} ms "
            f"(limit {HIGHEST_LAG_SECONDS * 1000:.0f} ms)"
        )
        idle = "something else took its core: give the load test cores of its own, or run it on another machine"
        flags.append(_invalid(fact, more if busy else idle))
    elif health.loop_lag_max_seconds > LONGEST_STALL_SECONDS:
        fact = f"once the client itself stood still for {health.loop_lag_max_seconds * 1000:.0f} ms"
        hint = "the highest latencies may be its own; look whether something else took its core"
        flags.append(Flag(kind="client", severity="warning", fact=fact, hint=hint))
    return flags + (_judge_calibration(health.calibration) if health.calibration else [])


def _judge_calibration(calibration: Calibration) -> list[Flag]:
    flags = []
    if not calibration.counts_exact:
        fact = "against the mock server, which sends a known number of tokens, the client counted another"
        flags.append(_invalid(fact, "this is a bug of the load test: please report it"))
    errors = {"ttft": calibration.ttft_error_seconds, "itl": calibration.itl_error_seconds}
    beyond = [
        f"{name.upper()} {label} {errors[name][label] * 1000:+.1f} ms (limit {limit * 1000:g} ms)"
        for name, limits in CALIBRATION_LIMITS.items()
        for label, limit in limits.items()
        if abs(errors[name].get(label, 0.0)) > limit
    ]
    if beyond:
        flags.append(
            Flag(
                kind="client",
                severity="warning",
                fact=f"before the run the client's own error was {', '.join(beyond)} at {calibration.streams} streams",
                hint="every latency may be wrong by so much: give the load test cores of its own",
            )
        )
    return flags


def _invalid(fact: str, hint: str) -> Flag:
    return Flag(kind="client", severity="invalid", fact=fact, hint=hint)


def cpu_stat_files(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> list[Path]:
    """``cpu.stat`` of the control groups that limit this process, its own and those above; v1 and v2.

    https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    files: dict[Path, None] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in (cgroups / controllers, cgroups / "cpu") if controllers else (cgroups, cgroups / "unified"):
            group = mount / path.lstrip("/")
            # A container sees its own group as the root, whatever path the kernel names.
            files |= dict.fromkeys(
                folder / "cpu.stat" for folder in (group, *group.parents) if folder.is_relative_to(mount)
            )
    return [file for file in files if file.is_file()]


def read_throttling(files: Iterable[Path]) -> dict[str, tuple[int, int]]:
    """Periods and throttled periods so far, by file; files without a CPU limit have none."""
    read: dict[str, tuple[int, int]] = {}
    for file in files:
        try:
            values = dict(line.split() for line in file.read_text().splitlines())
            read[str(file)] = (int(values["nr_periods"]), int(values["nr_throttled"]))
        except (OSError, ValueError, KeyError):
            continue
    return read


def throttled_ratio(before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]]) -> float:
    """Throttled periods over periods between two readings; of nested groups the one that was throttled most."""
    ratios = [0.0]
    for name, (periods, throttled) in after.items():
        earlier_periods, earlier_throttled = before.get(name, (0, 0))
        if periods > earlier_periods:
            ratios.append((throttled - earlier_throttled) / (periods - earlier_periods))
    return max(ratios)
