"""What an engine's /metrics says, reduced to the few numbers that a person asks for first."""

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, kw_only=True)
class EngineNumbers:
    """One reading."""

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
    sums = dict.fromkeys(
        (
            "vllm:num_requests_running",
            "vllm:num_requests_waiting",
            "vllm:kv_cache_usage_perc",
            "vllm:generation_tokens_total",
        ),
        0.0,
    )
    caches = 0
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if sample.name in sums:
                sums[sample.name] += sample.value
                caches += sample.name == "vllm:kv_cache_usage_perc"
    return EngineNumbers(
        running=round(sums["vllm:num_requests_running"]),
        waiting=round(sums["vllm:num_requests_waiting"]),
        kv_cache_ratio=sums["vllm:kv_cache_usage_perc"] / max(caches, 1),
        generation_tokens=sums["vllm:generation_tokens_total"],
    )
