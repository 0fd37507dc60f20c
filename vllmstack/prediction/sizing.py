"""How many replicas a load needs, and which change of a deployment would do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from vllmstack.prediction.design import Design
from vllmstack.prediction.efficiency import Efficiency
from vllmstack.prediction.forecast import SECONDS, Forecast, forecast
from vllmstack.prediction.goal import Goal
from vllmstack.prediction.load import Load
from vllmstack.simulation.engine import NO_FRONTEND

MOST_REPLICAS = 256
SEARCH_SECONDS = 60.0
"""Simulated for each step of a search, at least: it asks a yes or no."""
UNLOADED_REQUESTS = 400
"""Of one user, whose latencies no number of replicas improves on."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """A service that meets the goals, or does best."""

    design: Design
    forecast: Forecast
    meets: bool

    @property
    def gpus(self) -> int:
        """Of all replicas."""
        return self.forecast.replicas * self.design.gpus_per_replica

    @property
    def gpu_hours_per_million(self) -> float:
        """GPU-hours that a million output tokens take at this load."""
        return self.gpus * 1e6 / self.forecast.tokens_per_second / 3600 if self.forecast.tokens_per_second else 0.0


def fewest_replicas(load: Load, design: Design, goals: Sequence[Goal], efficiency: Efficiency) -> Option | None:
    """The smallest number of replicas that keeps up and meets the goals; None: not even MOST_REPLICAS do.

    Doubling until it is enough, then halving the gap: more replicas never make it worse.
    """
    profile = design.profile(efficiency)
    alone = forecast(replace(load, requests_per_second=None, users=1), profile, requests=UNLOADED_REQUESTS)
    if any(goal.figure != "tokens" for goal in alone.misses(goals)):
        return None  # not even for one user

    def tried(replicas: int, seconds: float = SEARCH_SECONDS) -> Option:
        seen = forecast(load, profile, replicas=replicas, seconds=seconds)
        return Option(design=design, forecast=seen, meets=seen.meets(goals))

    low, high = 0, 1
    found = tried(high)
    while not found.meets:
        # Where nobody waits, more replicas change nothing.
        if high >= MOST_REPLICAS or (found.forecast.keeps_up and found.forecast.busy_ratio < 0.02):
            return None
        low, high = high, min(2 * high, MOST_REPLICAS)
        found = tried(high)
    while high - low > 1:
        middle = (low + high) // 2
        if tried(middle).meets:
            high = middle
        else:
            low = middle
    # Near the limit a queue grows so slowly that only the longer look, by which a deployment is judged, shows it.
    while not (found := tried(high, SECONDS)).meets:
        if high == MOST_REPLICAS:
            return None
        high += 1
    return found


def sizes(load: Load, design: Design, goals: Sequence[Goal], efficiency: Efficiency) -> list[Option]:
    """For each number of GPUs a replica may have, the fewest replicas; fewest GPUs first."""
    found = [fewest_replicas(load, wide, goals, efficiency) for wide in design.widths()]
    return sorted((one for one in found if one is not None), key=lambda one: (one.gpus, one.design.gpus_per_replica))


def improvements(
    load: Load, design: Design, replicas: int, goals: Sequence[Goal], efficiency: Efficiency
) -> Iterator[Option]:
    """The same GPUs with one option changed."""
    for other in design.alternatives():
        seen = forecast(load, other.profile(efficiency), replicas=replicas, seconds=SEARCH_SECONDS)
        yield Option(design=other, forecast=seen, meets=seen.meets(goals))


HELPS = 1.05
"""Times the tokens a second, where something is said to be what limits."""
CURVE = (0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""Times the load that was asked about."""


def curve(load: Load, design: Design, replicas: int, efficiency: Efficiency) -> Iterator[tuple[Load, Forecast]]:
    """The same service under lighter and heavier loads."""
    profile = design.profile(efficiency)
    for other in dict.fromkeys(load.times(factor) for factor in CURVE):  # few users halved are as many
        yield other, forecast(other, profile, replicas=replicas, seconds=SEARCH_SECONDS)


def limit(load: Load, design: Design, replicas: int, efficiency: Efficiency) -> str:
    """What keeps the service from being faster, in words: what helps if there is twice as much of it, or none."""
    profile = design.profile(efficiency)
    quick = replace(efficiency, host_step_seconds=0.0, host_sequence_seconds=0.0, host_prefill_layer_seconds=0.0,
                    host_eager_layer_seconds=0.0)  # fmt: skip
    changes = {
        "vLLM's Python on the host, which makes up each step and launches it: a faster core": design.profile(quick),
        "the KV cache: requests wait for blocks, or are computed again": replace(profile, blocks=2 * profile.blocks),
        "vLLM's API server, which takes in every request and passes on every token: `api_server_count: 4` in serve": (
            replace(profile, frontend=NO_FRONTEND)
        ),
    }
    now = forecast(load, profile, replicas=replicas, seconds=SEARCH_SECONDS)
    if not now.tokens_per_second:
        return "the load: so much that no answer is complete while requests come"
    gains = {
        words: forecast(load, other, replicas=replicas, seconds=SEARCH_SECONDS).tokens_per_second
        / now.tokens_per_second
        for words, other in changes.items()
    }
    words = max(gains, key=gains.__getitem__)
    if gains[words] > HELPS:
        return words
    if now.busy_ratio > 0.9:
        return "the GPUs: they are at work all the time"
    return "no shortage: each step takes as long as it takes"
