"""Targets that cannot be met or that say nothing: pure checks over one target."""

import itertools
from collections.abc import Iterator

from vllmstack.deployment.model import Percentiles, Target
from vllmstack.errors import Problem


def target_problems(place: str, target: Target) -> Iterator[Problem]:
    """Mistakes within one target, which stands at ``place``."""
    load = target.load
    if load.concurrency is not None and load.requests_per_second is not None:
        yield Problem(
            place=f"{place}/load", fact="has both `concurrency` and `requests_per_second`", hint="keep one of the two"
        )
    if load.concurrency is None and load.requests_per_second is None:
        yield Problem(
            place=f"{place}/load",
            fact="has neither `concurrency` nor `requests_per_second`",
            hint="write one: requests in flight all the time, or arrivals a second",
        )
    latencies = {name: getattr(target, name) for name in ("ttft_seconds", "tpot_seconds", "itl_seconds", "e2e_seconds")}
    set_latencies = [limits for limits in latencies.values() if limits and limits.model_dump(exclude_none=True)]
    for name, limits in latencies.items():
        if limits:
            yield from _percentiles(f"{place}/{name}", limits)
    others = (target.output_tokens_per_second, target.requests_per_second, target.error_ratio, target.goodput_ratio)
    if not set_latencies and all(limit is None for limit in others):
        yield Problem(
            place=place,
            fact="sets no limit",
            hint="add at least one, e.g. `output_tokens_per_second: 400` or `ttft_seconds: {p95: 0.2}`",
        )
    if target.goodput_ratio is not None and not set_latencies:
        yield Problem(
            place=f"{place}/goodput_ratio",
            fact="counts requests that meet the latency limits, and there are none",
            hint="add one, e.g. `ttft_seconds: {p95: 0.2}`",
        )
    arrivals, completed = load.requests_per_second, target.requests_per_second
    if arrivals is not None and completed is not None and completed > arrivals:
        yield Problem(
            place=f"{place}/requests_per_second",
            fact=f"asks for {completed:g} completed requests a second, and {arrivals:g} arrive",
            hint=f"write at most {arrivals:g}, or raise `load/requests_per_second`",
        )


def _percentiles(place: str, limits: Percentiles) -> Iterator[Problem]:
    given = [
        (name, getattr(limits, name)) for name in ("p50", "p90", "p95", "p99") if getattr(limits, name) is not None
    ]
    for (low, low_seconds), (high, high_seconds) in itertools.pairwise(given):
        if low_seconds > high_seconds:
            yield Problem(
                place=f"{place}/{low}",
                fact=f"{low_seconds:g} is more than {high}'s {high_seconds:g}",
                hint=f"write at most {high_seconds:g}: {low} can never be above {high}",
            )
