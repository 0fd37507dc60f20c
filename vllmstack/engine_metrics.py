"""What an engine's /metrics says: vLLM's names for what this project reads, and one reader for all who do.

The names are the same in 0.26.0 and 0.32.0 (vllm/v1/metrics/loggers.py).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
KV_CACHE = "vllm:kv_cache_usage_perc"
GENERATION_TOKENS = "vllm:generation_tokens_total"
PROMPT_TOKENS = "vllm:prompt_tokens_total"
REQUESTS = "vllm:request_success_total"
"""Finished requests, one label a finish reason. Those whose client left are in none."""
PREFIX_QUERIES = "vllm:prefix_cache_queries_total"
PREFIX_HITS = "vllm:prefix_cache_hits_total"
"""Both count tokens."""
PREEMPTIONS = "vllm:num_preemptions_total"
START_TIME = "process_start_time_seconds"
TTFT = "vllm:time_to_first_token_seconds"
TPOT = "vllm:request_time_per_output_token_seconds"
LATENCY_BUCKETS = {
    TTFT: (
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
        160.0, 640.0, 2560.0,
    ),
    TPOT: (
        0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    ),
}  # fmt: skip
"""Upper bounds of the buckets, seconds, without the infinite one."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Some of the samples, summed over their labels: an engine with data parallelism has a series a rank."""

    sums: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    """How many samples each sum is made of."""
    buckets: Mapping[str, Mapping[float, float]] = field(default_factory=dict)
    """Of each histogram, how many values were at most so large; the last limit is infinite."""

    def mean(self, name: str) -> float:
        """Over the series of a gauge; 0 if it is not there."""
        return self.sums.get(name, 0.0) / max(self.counts.get(name, 0), 1)


def read(exposition: str, names: Iterable[str], histograms: Iterable[str] = ()) -> Reading:
    """The samples called ``names``, and all of the ``histograms``, from Prometheus' text format.

    Lines of other metrics are not parsed: parsing all of an engine's 600 takes 7 ms, too long for a program that
    measures milliseconds meanwhile.

    Raises:
        ValueError: a line that is wanted is not in that format.
    """
    of_bucket = {f"{histogram}_bucket": histogram for histogram in histograms}
    plain = {*names, *(f"{histogram}_{part}" for histogram in of_bucket.values() for part in ("sum", "count"))}
    wanted = (*plain, *of_bucket)
    lines = "\n".join(line for line in exposition.splitlines() if line.startswith(wanted))
    sums: defaultdict[str, float] = defaultdict(float)
    counts: defaultdict[str, int] = defaultdict(int)
    buckets: defaultdict[str, defaultdict[float, float]] = defaultdict(lambda: defaultdict(float))
    for family in text_string_to_metric_families(lines):
        for sample in family.samples:
            if sample.name in plain:
                sums[sample.name] += sample.value
                counts[sample.name] += 1
            elif sample.name in of_bucket:
                buckets[of_bucket[sample.name]][float(sample.labels["le"])] += sample.value
    return Reading(sums=sums, counts=counts, buckets=buckets)


STATUS_METRICS = (RUNNING, WAITING, KV_CACHE, GENERATION_TOKENS)


@dataclass(frozen=True, kw_only=True)
class EngineNumbers:
    """The few numbers that a person asks for first."""

    running: int
    """Requests being decoded or prefilled."""
    waiting: int
    """Requests queued in the engine."""
    kv_cache_ratio: float
    """Share of the KV cache's blocks in use, 0 to 1; the mean where data parallelism runs several engines."""
    generation_tokens: float
    """Output tokens since the engine started."""


def read_numbers(exposition: str) -> EngineNumbers:
    """From Prometheus' text format; a metric that is not there counts as 0."""
    reading = read(exposition, STATUS_METRICS)
    return EngineNumbers(
        running=round(reading.sums.get(RUNNING, 0.0)),
        waiting=round(reading.sums.get(WAITING, 0.0)),
        kv_cache_ratio=reading.mean(KV_CACHE),
        generation_tokens=reading.sums.get(GENERATION_TOKENS, 0.0),
    )
