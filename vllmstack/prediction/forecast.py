"""What a service will do under a load: one simulation, and the figures it comes to."""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from vllmstack.prediction.goal import Goal
from vllmstack.prediction.load import Load
from vllmstack.quantiles import quantile
from vllmstack.simulation.engine import EngineProfile
from vllmstack.simulation.policies import LeastRequests
from vllmstack.simulation.service import Outcome, serve_arrivals, serve_users

REQUESTS = 6000
"""Simulated for a figure, at least; a p99 of so many varies by some percent."""
REPLICA_REQUESTS = 100
"""For each replica, at least: it must fill up before it is judged."""
WARM_RATIO = 0.2
"""Of the requests, those at the beginning that are not counted: the service fills up first."""
SECONDS = 120.0
"""Simulated, at least: a service that is a little too small is found out by its queue."""
MOST_REQUESTS = 200_000


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """One service under one load. Seconds and tokens a second."""

    replicas: int
    tokens_per_second: float
    """Output."""
    requests_per_second: float
    latencies: dict[str, dict[str, float]]
    """By figure (ttft, tpot, e2e) and percentile (mean, p50, p90, p95, p99)."""
    busy_ratio: float
    """Of the replicas' time, what they were at work."""
    preemptions: int
    held_ratio: float
    """Of the KV cache, what was held at most."""
    wasted_ratio: float
    """Of that, what no token was in: the last blocks' rest."""
    keeps_up: bool
    """False: requests come faster than they are answered, and every latency grows for as long as that lasts."""

    def value(self, goal: Goal) -> float:
        """What the goal limits."""
        return self.tokens_per_second if goal.figure == "tokens" else self.latencies[goal.figure][goal.percentile]

    def misses(self, goals: Sequence[Goal]) -> list[Goal]:
        """Those that are not met; all of them where it does not keep up."""
        return [goal for goal in goals if not (self.keeps_up and goal.met_by(self.value(goal)))]

    def meets(self, goals: Sequence[Goal]) -> bool:
        """Whether it keeps up, and misses none of them."""
        return self.keeps_up and not self.misses(goals)


def forecast(
    load: Load, profile: EngineProfile, *, replicas: int = 1, seconds: float = SECONDS, requests: int | None = None
) -> Forecast:
    """Simulates the load on so many replicas, each request to the one with the fewest in flight.

    What was simulated before is not simulated again: a deployment is judged, compared and searched from.

    Args:
        load: what is asked.
        profile: each replica's.
        replicas: how many there are.
        seconds: simulated of a rate, at least.
        requests: how many are simulated; enough for steady percentiles, if left out.

    Raises:
        ValueError: a request needs more KV cache than a replica has.
    """
    return _simulated(load, profile, replicas, requests or _enough(load, replicas, seconds))


def _enough(load: Load, replicas: int, seconds: float) -> int:
    if load.users is not None:
        return max(REQUESTS, 6 * load.users)
    arriving = math.ceil(seconds * (load.requests_per_second or 0.0))
    return max(REQUESTS, REPLICA_REQUESTS * replicas, min(MOST_REQUESTS, arriving))


@functools.lru_cache
def _simulated(load: Load, profile: EngineProfile, replicas: int, count: int) -> Forecast:
    if load.users is not None:
        asked = itertools.islice(load.lengths(), count)
        outcome = serve_users(asked, load.users, profile, replicas=replicas, policy=LeastRequests())
    else:
        outcome = serve_arrivals(load.arrivals(count), profile, replicas=replicas, policy=LeastRequests())
    return _figures(load, outcome, replicas, count)


def _figures(load: Load, outcome: Outcome, replicas: int, count: int) -> Forecast:
    order = sorted(range(count), key=outcome.asked_at.__getitem__)
    counted = order[int(count * WARM_RATIO) :]
    since = outcome.asked_at[counted[0]]
    # With users the end is a tail with ever fewer of them: only what ended before the last request was asked.
    until = outcome.asked_at[order[-1]]
    ends = [outcome.asked_at[index] + outcome.e2e[index] for index in order]
    within = [index for index, end in zip(order, ends, strict=True) if since <= end <= until]
    seconds = max(until - since, 1e-9)
    tokens = sum(outcome.completion_tokens[index] for index in within) / seconds
    values = {
        "ttft": [outcome.ttft[index] for index in counted],
        "tpot": [outcome.tpot[index] for index in counted if outcome.tpot[index] >= 0],
        "e2e": [outcome.e2e[index] for index in counted],
    }
    return Forecast(
        replicas=replicas,
        tokens_per_second=tokens,
        requests_per_second=len(within) / seconds,
        latencies={name: percentiles(several) for name, several in values.items()},
        busy_ratio=outcome.busy_ratio,
        preemptions=outcome.preemptions,
        held_ratio=outcome.held_ratio,
        wasted_ratio=outcome.wasted_ratio,
        keeps_up=load.users is not None or _keeps_up(outcome, counted),
    )


def _keeps_up(outcome: Outcome, counted: Sequence[int]) -> bool:
    """Whether the wait for a first token does not go on growing: the last third's median against the first's."""
    third = len(counted) // 3
    first = sorted(outcome.ttft[index] for index in counted[:third])
    last = sorted(outcome.ttft[index] for index in counted[-third:])
    # Where a queue grows, the wait grows by the same in each third; noise does not double it, and below a second
    # nothing is queued to speak of.
    return last[third // 2] < max(2 * first[third // 2], 1.0)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Mean and percentiles (the least value that so many are at or below); 0 of nothing."""
    ordered = sorted(values)
    if not ordered:
        return dict.fromkeys(("mean", "p50", "p90", "p95", "p99"), 0.0)
    found = {"mean": math.fsum(ordered) / len(ordered)}
    for number in (50, 90, 95, 99):
        found[f"p{number}"] = quantile(ordered, number / 100)
    return found
