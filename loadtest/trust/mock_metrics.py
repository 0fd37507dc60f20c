"""What the mock server counted, under the names of vLLM's metrics, and the truth about its own times."""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

_TOKEN_LIMITS = (
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    20.0,
    40.0,
    80.0,
)
_FIRST_TOKEN_LIMITS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
    1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
_REQUEST_LIMITS = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0,
    120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0,
)  # fmt: skip
FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")

KEPT_SAMPLES = 1_000_000
"""Of each time: the truth is about the latest so many."""


class Buckets:
    """One histogram of Prometheus."""

    def __init__(self, limits: tuple[float, ...]) -> None:
        self.limits = limits
        self.counts = [0] * (len(limits) + 1)
        self.sum = 0.0

    def record(self, seconds: float, times: int = 1) -> None:
        """Counts ``seconds``."""
        self.counts[bisect_left(self.limits, seconds)] += times
        self.sum += seconds * times

    def cumulative(self) -> list[tuple[str, float]]:
        """Limits and counts as Prometheus shows them."""
        rows, total = [], 0
        for limit, count in zip((*map(str, self.limits), "+Inf"), self.counts, strict=True):
            total += count
            rows.append((limit, float(total)))
        return rows


class Tally:
    """Everything that was counted and timed since the start or the last reset."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.running = 0
        self.waiting = 0
        self.reset()

    def reset(self) -> None:
        """Back to zero; what is running stays so."""
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.cached_tokens = 0
        self.finished = dict.fromkeys(FINISH_REASONS, 0)
        self.rejected = 0
        self.aborted = 0
        self.chunks = 0
        self.histograms = {
            "time_to_first_token_seconds": Buckets(_FIRST_TOKEN_LIMITS),
            "inter_token_latency_seconds": Buckets(_TOKEN_LIMITS),
            "request_time_per_output_token_seconds": Buckets(_TOKEN_LIMITS),
            "e2e_request_latency_seconds": Buckets(_REQUEST_LIMITS),
            "request_queue_time_seconds": Buckets(_REQUEST_LIMITS),
            "request_prefill_time_seconds": Buckets(_REQUEST_LIMITS),
            "request_decode_time_seconds": Buckets(_REQUEST_LIMITS),
        }
        self.first_token = self.histograms["time_to_first_token_seconds"]
        self.inter_token = self.histograms["inter_token_latency_seconds"]
        self.ttft_seconds: deque[float] = deque(maxlen=KEPT_SAMPLES)
        self.itl_seconds: deque[float] = deque(maxlen=KEPT_SAMPLES)
        self.lateness_seconds: deque[float] = deque(maxlen=KEPT_SAMPLES)

    def collect(self) -> Iterable[Metric]:
        """For prometheus-client."""
        names, values = ["engine", "model_name"], ["0", self.model]
        for gauge, value in (
            ("num_requests_running", self.running),
            ("num_requests_waiting", self.waiting),
            ("kv_cache_usage_perc", 0),
        ):
            family = GaugeMetricFamily(f"vllm:{gauge}", "As vLLM has it.", labels=names)
            family.add_metric(values, value)
            yield family
        for counter, count in (
            ("prompt_tokens", self.prompt_tokens),
            ("generation_tokens", self.generation_tokens),
            ("prefix_cache_queries", self.prompt_tokens),
            ("prefix_cache_hits", self.cached_tokens),
            ("num_preemptions", 0),
        ):
            counted = CounterMetricFamily(f"vllm:{counter}", "As vLLM has it.", labels=names)
            counted.add_metric(values, count)
            yield counted
        finished = CounterMetricFamily("vllm:request_success", "As vLLM has it.", labels=[*names, "finished_reason"])
        for reason, count in self.finished.items():
            finished.add_metric([*values, reason], count)
        yield finished
        rejected = CounterMetricFamily("vllm:admission_rejections", "As vLLM has it.", labels=["model_name", "reason"])
        rejected.add_metric([self.model, "max_num_queued_reqs"], self.rejected)
        yield rejected
        for name, buckets in self.histograms.items():
            histogram = HistogramMetricFamily(f"vllm:{name}", "As vLLM has it.", labels=names)
            histogram.add_metric(values, buckets.cumulative(), buckets.sum)
            yield histogram

    def exposition(self) -> bytes:
        """The body of /metrics."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def truth(self) -> dict[str, Any]:
        """What the server really did, seconds: the client's errors are measured against this."""
        return {
            "model": self.model,
            "finished": sum(self.finished.values()),
            "aborted": self.aborted,
            "running": self.running,
            "waiting": self.waiting,
            "chunks": self.chunks,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.generation_tokens,
            "ttft_seconds": percentiles(self.ttft_seconds),
            "itl_seconds": percentiles(self.itl_seconds),
            "lateness_seconds": percentiles(self.lateness_seconds),
        }


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """Of the values: ``p50``, ``p90``, ``p99`` (nearest rank), ``minimum``, ``maximum`` and ``mean``; empty: none."""
    ordered = sorted(values)
    if not ordered:
        return {}
    count = len(ordered)
    ranks = {"p50": 0.50, "p90": 0.90, "p99": 0.99}
    found = {name: ordered[max(1, math.ceil(share * count - 1e-9)) - 1] for name, share in ranks.items()}
    return {**found, "minimum": ordered[0], "maximum": ordered[-1], "mean": math.fsum(ordered) / count}
