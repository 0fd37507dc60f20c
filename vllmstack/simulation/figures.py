"""What one simulated run comes to."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vllmstack.quantiles import quantile
from vllmstack.simulation.fleet import Served


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Over the requests of a run that were asked within its window."""

    requests: int
    hit_ratio: float
    """Prompt tokens that came from a prefix cache, of all: vLLM's prefix_cache_hits ÷ prefix_cache_queries."""
    ttft_p50_seconds: float
    ttft_p99_seconds: float
    busiest_ratio: float
    """Requests of the replica that got the most, ÷ the mean of all replicas."""
    output_tokens_per_second: float


def figures(served: Sequence[Served], *, replicas: int, since: float, until: float) -> Figures:
    """Of what was asked from ``since`` on and before ``until``, in simulated seconds: neither warm-up nor the end.

    Raises:
        ValueError: nothing was asked then.
    """
    counted = [one for one in served if since <= one.asked_at < until]
    if not counted:
        raise ValueError(f"no request between {since} and {until} s")
    ttft = sorted(one.ttft_seconds for one in counted)
    by_replica = Counter(one.replica for one in counted)
    return Figures(
        requests=len(counted),
        hit_ratio=sum(one.cached_tokens for one in counted) / sum(one.prompt_tokens for one in counted),
        ttft_p50_seconds=quantile(ttft, 0.5),
        ttft_p99_seconds=quantile(ttft, 0.99),
        busiest_ratio=max(by_replica.values()) * replicas / len(counted),
        output_tokens_per_second=sum(one.completion_tokens for one in counted) / (until - since),
    )
