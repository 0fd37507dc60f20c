"""A deployment's target as single limits, as the load that it asks for, and as what makes a request good."""

from dataclasses import dataclass

from loadtest.results import Load, LoadKind
from vllmstack.deployment.model import Percentiles, Target

LATENCIES = ("ttft", "tpot", "itl", "e2e")
SHARES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
THROUGHPUTS = ("output_tokens_per_second", "requests_per_second")


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One number that is asked for."""

    key: str
    """As the deployment file writes it: ``ttft_seconds.p95``, ``error_ratio``."""
    name: str
    """As a table shows it: ``ttft p95``."""
    asked: float
    unit: str
    """``s``, ``tok/s``, ``req/s`` or ``ratio``."""
    at_most: bool
    latency: str | None = None
    share: float | None = None
    """Of a percentile, 0 to 1; None for a mean."""

    def met_by(self, value: float) -> bool:
        """Whether the value keeps the limit; one that equals it does."""
        return value <= self.asked if self.at_most else value >= self.asked

    def margin(self, value: float) -> float:
        """What is left to the limit over the limit: 0.2 is a fifth to spare, −0.2 a fifth over; may be −infinity."""
        distance = self.asked - value if self.at_most else value - self.asked
        if distance == 0:
            return 0.0
        return distance / self.asked if self.asked else distance * float("inf")


def limits_in(target: Target) -> list[Limit]:
    """Every limit, in the order in which a person asks: throughput, latencies, ratios."""
    found = []
    if target.output_tokens_per_second is not None:
        found.append(_least(THROUGHPUTS[0], "output tokens", target.output_tokens_per_second, "tok/s"))
    if target.requests_per_second is not None:
        found.append(_least(THROUGHPUTS[1], "requests", target.requests_per_second, "req/s"))
    for latency in LATENCIES:
        for name, seconds in _given(_percentiles(target, latency)).items():
            found.append(
                Limit(
                    key=f"{latency}_seconds.{name}",
                    name=f"{latency} {name}",
                    asked=seconds,
                    unit="s",
                    at_most=True,
                    latency=latency,
                    share=SHARES.get(name),
                )
            )
    if target.error_ratio is not None:
        found.append(Limit(key="error_ratio", name="error ratio", asked=target.error_ratio, unit="ratio", at_most=True))
    if target.goodput_ratio is not None:
        found.append(_least("goodput_ratio", "goodput ratio", target.goodput_ratio, "ratio"))
    return found


def _least(key: str, name: str, asked: float, unit: str) -> Limit:
    return Limit(key=key, name=name, asked=asked, unit=unit, at_most=False)


def limits_of(target: Target) -> dict[str, float]:
    """Seconds that a good request may take, by latency (ttft, tpot, itl, e2e); only those that the target limits.

    The loosest percentile counts, since the tight ones are not meant for every request; a mean, if it stands alone.
    """
    limits = {}
    for latency in LATENCIES:
        given = _given(_percentiles(target, latency))
        percentiles = [seconds for name, seconds in given.items() if name in SHARES]
        if given:
            limits[latency] = max(percentiles or given.values())
    return limits


def load_of(target: Target) -> Load:
    """The load under which the target holds: users, or Poisson arrivals."""
    asked = target.load
    if asked.concurrency is not None:
        return Load(kind=LoadKind.CLOSED, concurrency=asked.concurrency)
    return Load(kind=LoadKind.OPEN, rate=asked.requests_per_second, arrivals="poisson")


def _percentiles(target: Target, latency: str) -> Percentiles | None:
    found: Percentiles | None = getattr(target, f"{latency}_seconds")
    return found


def _given(percentiles: Percentiles | None) -> dict[str, float]:
    return percentiles.model_dump(exclude_none=True) if percentiles else {}
