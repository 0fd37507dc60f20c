"""What the engines' own metrics counted during a run: the second opinion that a result is compared with."""

import http.client
import math
import threading
import time
import urllib.parse
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from loadtest.results import EngineDelta, Flag
from loadtest.stack import Engine, StackFacts
from vllmstack import engine_metrics
from vllmstack.engine_metrics import EngineNumbers, Reading, read, read_numbers

HISTOGRAMS = {
    "ttft": "vllm:time_to_first_token_seconds",
    "queue": "vllm:request_queue_time_seconds",
    "prefill": "vllm:request_prefill_time_seconds",
    "decode": "vllm:request_decode_time_seconds",
    "itl": "vllm:inter_token_latency_seconds",
    "e2e": "vllm:e2e_request_latency_seconds",
}
"""vLLM's histograms by EngineDelta's names. ``ttft`` counts from when the API server begins with the prompt and holds
the queue; ``itl`` has one value a step of a request, whatever the number of tokens in it."""

COUNTERS = {
    "requests": engine_metrics.REQUESTS,
    "prompt_tokens": engine_metrics.PROMPT_TOKENS,
    "generation_tokens": engine_metrics.GENERATION_TOKENS,
    "prefix_queries": engine_metrics.PREFIX_QUERIES,
    "prefix_hits": engine_metrics.PREFIX_HITS,
    "preemptions": engine_metrics.PREEMPTIONS,
}
_READ = (*COUNTERS.values(), engine_metrics.RUNNING, engine_metrics.WAITING, engine_metrics.START_TIME)

QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
TIMEOUT_SECONDS = 2.0
SAMPLE_SECONDS = 1.0
SETTLE_SECONDS = 5.0
"""How long the last look waits for an engine to have nothing more to do: clients that left are noticed late."""


@dataclass(frozen=True, kw_only=True)
class EngineSnapshot:
    """One look at an engine."""

    reading: Reading | None = None
    error: str = ""
    """Why there is none."""


@dataclass(kw_only=True)
class Peaks:
    """The highest of all samples."""

    running: int = 0
    waiting: int = 0
    kv_cache_ratio: float = 0.0

    def add(self, numbers: EngineNumbers) -> None:
        """Takes one more sample into account."""
        self.running = max(self.running, numbers.running)
        self.waiting = max(self.waiting, numbers.waiting)
        self.kv_cache_ratio = max(self.kv_cache_ratio, numbers.kv_cache_ratio)


def snapshot(engine: Engine, timeout_seconds: float = TIMEOUT_SECONDS) -> EngineSnapshot:
    """Reads an engine's counters and histograms; never raises for what an engine does or says."""
    try:
        reading = read(_fetch(engine.metrics, timeout_seconds), _READ, HISTOGRAMS.values())
    except (OSError, http.client.HTTPException, ValueError) as error:
        return EngineSnapshot(error=_cause(error))
    if engine_metrics.GENERATION_TOKENS not in reading.sums:
        return EngineSnapshot(error="the answer holds none of vLLM's counters")
    return EngineSnapshot(reading=reading)


def delta(before: Reading, after: Reading, *, replica: str, model: str, peaks: Peaks | None = None) -> EngineDelta:
    """What was counted between two looks; of an engine that began anew in between, what it counted since."""
    restarted = _restarted(before, after)
    base = Reading() if restarted else before
    peaks = peaks or Peaks()

    def grown(name: str) -> float:
        return after.sums.get(name, 0.0) - base.sums.get(name, 0.0)

    means: dict[str, float | None] = {}
    quantiles: dict[str, dict[str, float | None]] = {}
    for short, name in HISTOGRAMS.items():
        count = grown(f"{name}_count")
        means[short] = grown(f"{name}_sum") / count if count else None
        earlier = base.buckets.get(name, {})
        buckets = {limit: value - earlier.get(limit, 0.0) for limit, value in after.buckets.get(name, {}).items()}
        quantiles[short] = {label: bucket_quantile(buckets, share) for label, share in QUANTILES.items()}
    return EngineDelta(
        replica=replica,
        model=model,
        **{field_name: grown(name) for field_name, name in COUNTERS.items()},
        mean_seconds=means,
        quantiles_seconds=quantiles,
        peak_running=peaks.running,
        peak_waiting=peaks.waiting,
        peak_kv_cache_ratio=peaks.kv_cache_ratio,
        restarted=restarted,
    )


def bucket_quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """A quantile of cumulative buckets, interpolated as Prometheus' histogram_quantile does; None without values.

    A quantile in the last bucket is the largest finite limit: no more is known.
    """
    total = buckets.get(math.inf, 0.0)
    if total <= 0:
        return None
    rank = share * total
    below_limit = below_count = 0.0
    for limit in sorted(buckets):
        count = buckets[limit]
        if count >= rank:
            if math.isinf(limit) or count == below_count:
                return below_limit
            return below_limit + (limit - below_limit) * (rank - below_count) / (count - below_count)
        below_limit, below_count = limit, count
    return below_limit


def _restarted(before: Reading, after: Reading) -> bool:
    """A process of another age, or a counter that went down."""
    start = engine_metrics.START_TIME
    if abs(after.sums.get(start, 0.0) - before.sums.get(start, 0.0)) > 1.0:
        return True
    return any(after.sums.get(name, 0.0) < before.sums.get(name, 0.0) for name in COUNTERS.values())


@dataclass(kw_only=True)
class _Watched:
    engine: Engine
    model: str
    peaks: Peaks = field(default_factory=Peaks)
    before: EngineSnapshot = EngineSnapshot()
    after: EngineSnapshot = EngineSnapshot()


class EngineWatch:
    """Every engine of a stack over one run: ``start`` before the first request, ``stop`` after the last answer.

    It reads in threads, one an engine; where gevent has patched the process they are greenlets. A sample costs its
    process about 1 ms of CPU: with several processes it belongs into the one that sends nothing.
    """

    def __init__(self, stack: StackFacts, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._timeout_seconds = timeout_seconds
        self._watched = [
            _Watched(engine=engine, model=model.name) for model in stack.models for engine in model.engines
        ]
        self._ended = threading.Event()
        self._samplers: list[threading.Thread] = []

    def start(self) -> None:
        """Returns when every engine was looked at, or did not answer in time; then samples go on beside the run."""
        self._together(self._look_before)
        reached = [one for one in self._watched if one.before.reading]
        self._samplers = [threading.Thread(target=self._sample_until_end, args=(one,), daemon=True) for one in reached]
        for thread in self._samplers:
            thread.start()

    def stop(self) -> tuple[list[EngineDelta], list[Flag]]:
        """What the engines counted, and what was seen of them that a reader must know."""
        self._ended.set()
        for thread in self._samplers:
            thread.join()
        self._together(self._look_after)
        deltas: list[EngineDelta] = []
        silent: defaultdict[str, list[str]] = defaultdict(list)
        for one in self._watched:
            if one.before.reading and one.after.reading:
                deltas.append(
                    delta(
                        one.before.reading,
                        one.after.reading,
                        replica=one.engine.name,
                        model=one.model,
                        peaks=one.peaks,
                    )
                )
            else:
                silent[one.before.error or one.after.error].append(one.engine.name)
        return deltas, [*_silent_flags(silent), *_restart_flags(deltas)]

    def _together(self, look: Callable[[_Watched], None]) -> None:
        threads = [threading.Thread(target=look, args=(one,), daemon=True) for one in self._watched]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _look_before(self, one: _Watched) -> None:
        one.before = snapshot(one.engine, self._timeout_seconds)

    def _look_after(self, one: _Watched) -> None:
        until = time.monotonic() + SETTLE_SECONDS
        while True:
            one.after = snapshot(one.engine, self._timeout_seconds)
            sums = one.after.reading.sums if one.after.reading else {}
            busy = sums.get(engine_metrics.RUNNING, 0.0) + sums.get(engine_metrics.WAITING, 0.0) > 0
            if not busy or time.monotonic() >= until:
                return
            time.sleep(0.1)

    def _sample_until_end(self, one: _Watched) -> None:
        due = time.monotonic()
        while not self._ended.wait(max(due - time.monotonic(), 0.0)):
            self._sample(one)
            due = max(due + SAMPLE_SECONDS, time.monotonic())

    def _sample(self, one: _Watched) -> None:
        """An engine that does not answer has no sample: whether it died shows at the end."""
        try:
            one.peaks.add(read_numbers(_fetch(one.engine.metrics, self._timeout_seconds)))
        except (OSError, http.client.HTTPException, ValueError):
            return


def _fetch(url: str, timeout_seconds: float) -> str:
    """The body of a GET. Engines are reached directly: no proxy of the environment is asked.

    Raises:
        OSError, HTTPException: no answer, or another status than 200.
    """
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout_seconds)
    try:
        connection.request("GET", parts.path or "/")
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != http.client.OK:
            raise http.client.HTTPException(f"HTTP status {answer.status}")
        return body.decode()
    finally:
        connection.close()


def _cause(error: Exception) -> str:
    """The same text for the same cause at every engine."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _silent_flags(silent: Mapping[str, list[str]]) -> list[Flag]:
    return [
        Flag(
            kind="server",
            severity="note",
            fact=f"the metrics of {', '.join(names)} could not be read: {error}",
            hint="nothing that they counted is compared; engines are reached only inside the stack's networks, from "
            "the container `loadtest`",
        )
        for error, names in silent.items()
    ]


def _restart_flags(deltas: list[EngineDelta]) -> list[Flag]:
    return [
        Flag(
            kind="server",
            severity="warning",
            fact=f"{one.replica} began anew during the run",
            hint="see why: `vllmstack logs`; what it had counted before is lost, so tokens are not compared",
        )
        for one in deltas
        if one.restarted
    ]
