"""What a report tells of a run: each number's name, unit, meaning and better direction; the verdict measures it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from loadtest.clock.histogram_data import HistogramData
from loadtest.results import LATENCY_NAMES, LoadKind, RunResult, Series
from loadtest.verdict.limits import Limit
from loadtest.verdict.measured import Measurement, measure
from loadtest.verdict.pooling import pooled
from loadtest.verdict.statistics import Interval

Direction = Literal["higher", "lower"]
PERCENTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, kw_only=True)
class Latency:
    """One of the latencies of ``results.Latencies``."""

    name: str
    title: str
    meaning: str
    counted: str = "requests"
    """What has one value each."""

    def field(self, run: RunResult) -> str:
        """In ``Latencies``: from the schedule where there is one, since nobody waits there for a late client."""
        scheduled = f"{self.name}_scheduled"
        return scheduled if run.load.kind is LoadKind.OPEN and scheduled in LATENCY_NAMES else self.name

    def data(self, run: RunResult, series: Series | None = None) -> HistogramData:
        """Its histogram, of all requests or of one series."""
        found: HistogramData = getattr((series or run.total).latencies, self.field(run))
        return found


TTFT = Latency(
    name="ttft",
    title="TTFT",
    meaning="Time to first token: until the first content, reasoning or tool call arrives. With an arrival rate it "
    "counts from when the request was due, so that a queue in front of the server counts as a user feels it.",
)
TPOT = Latency(
    name="tpot",
    title="TPOT",
    meaning="Time per output token after the first chunk: decode time of a request ÷ its tokens after that chunk. One "
    "value a request.",
)
ITL = Latency(
    name="itl",
    title="ITL",
    meaning="Inter-token latency: the time since the chunk before, shared by the chunk's tokens. One value a token: "
    "its p99 shows stutter that TPOT averages away.",
    counted="tokens",
)
E2E = Latency(
    name="e2e",
    title="End to end",
    meaning="From sending (with an arrival rate: from when it was due) to the last byte of the answer.",
)
LATENCIES = (TTFT, TPOT, ITL, E2E)


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number of a run."""

    key: str
    """As in targets and check.json: ``ttft_seconds.p95``, ``output_tokens_per_second``."""
    title: str
    unit: str
    """``s``, ``ratio``, or what stands behind the number."""
    better: Direction
    meaning: str
    latency: Latency | None = None
    share: float | None = None
    """Of a percentile, 0 to 1."""

    @property
    def limit(self) -> Limit:
        """As the verdict measures it; what is asked does not matter there."""
        return Limit(
            key=self.key,
            name=self.title,
            asked=0.0,
            unit=self.unit,
            at_most=self.better == "lower",
            latency=self.latency.name if self.latency else None,
            share=self.share,
        )


OUTPUT_TOKENS = Measure(
    key="output_tokens_per_second",
    title="Output tokens",
    unit="tok/s",
    better="higher",
    meaning="Output tokens that arrived inside the window, a second, all requests together.",
)
REQUESTS = Measure(
    key="requests_per_second",
    title="Requests",
    unit="req/s",
    better="higher",
    meaning="Requests due inside the window that succeeded, a second.",
)
GOODPUT = Measure(
    key="goodput_ratio",
    title="Goodput",
    unit="ratio",
    better="higher",
    meaning="Requests that succeeded within every latency limit of the run, over all but abandoned ones.",
)
ERRORS = Measure(
    key="error_ratio",
    title="Errors",
    unit="ratio",
    better="lower",
    meaning="Requests that failed or timed out, over all but those that the scenario abandoned.",
)
LATENCY_MEASURES = tuple(
    Measure(
        key=f"{latency.name}_seconds.p{share * 100:g}",
        title=f"{latency.title} p{share * 100:g}",
        unit="s",
        better="lower",
        meaning=latency.meaning,
        latency=latency,
        share=share,
    )
    for latency in LATENCIES
    for share in PERCENTILES
)
MEASURES = (OUTPUT_TOKENS, REQUESTS, *LATENCY_MEASURES, GOODPUT, ERRORS)
BY_KEY = {one.key: one for one in MEASURES}


def judged(series: Series) -> int:
    """Requests that could succeed or fail: all but those that the scenario abandoned."""
    return series.counts.sent - series.counts.abandoned


def estimate(one: Measure, runs: Sequence[RunResult]) -> Interval | None:
    """The number over one run or the repeats of a load, and how sure it is; None if there is nothing of the kind.

    Failed requests count as slower than every answer, as in a target's verdict: a percentile may be infinite.
    """
    if one is GOODPUT and not all(run.limits for run in runs):
        return None
    parts = [run.total for run in runs]
    if one.unit == "ratio" and not any(judged(part) for part in parts):
        return None
    return measure(one.limit, Measurement(runs, parts, pooled(parts), tolerates_failures=True))
