"""The load test's own metrics for Prometheus, made of the current run whenever somebody asks."""

from collections.abc import Callable, Iterator, Sequence

from gevent.pywsgi import WSGIServer
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from loadtest.clock.histogram import Histogram
from loadtest.clock.histogram_data import HistogramData
from loadtest.clock.observation import Outcome
from loadtest.clock.tally import SeriesTally
from loadtest.results import RunResult, Series

PREFIX = "vllmstack_loadtest"
OTHER = "other"
MAXIMUM_SERIES = 20
"""Of scenario and model; the rest, by number of requests, is one more. It bounds what a scrape can cost Prometheus."""

_FIRST = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.45, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 20, 60, 120)
_BETWEEN = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.2, 0.5, 1)
_WHOLE = (0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 300, 600)
_LATENCIES = {
    "ttft": (_FIRST, "Time to first token, from sending."),
    "ttft_scheduled": (_FIRST, "Time to first token, from when the request was due."),
    "tpot": (_BETWEEN, "Time per output token after the first; one value a request."),
    "itl": (_BETWEEN, "Inter-token latency; one value a token."),
    "e2e": (_WHOLE, "Whole request, from sending."),
    "e2e_scheduled": (_WHOLE, "Whole request, from when it was due."),
}
"""Upper bounds of buckets: the limits that targets and MLPerf's profiles use. The client's own buckets are 1 % wide, so
that a value so near to a bound may be counted on either side."""
_BY_SERIES = ["scenario", "model"]


class RunCollector(Collector):
    """Metrics of the run that ``source`` gives; none before the first. A new run starts its counters from zero."""

    def __init__(self, source: Callable[[], RunResult | None]) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """For a CollectorRegistry."""
        run = self._source()
        if run is None:
            return
        series = _bounded(run.series)
        yield from _counters(series)
        yield from _histograms(series)
        yield from _rates(series)
        yield from _offered(run)
        yield from _trust(run)

    def describe(self) -> list[Metric]:
        """Nothing: a registry would else collect, and so ask for a run, just to learn the names."""
        return []


def serve(port: int, source: Callable[[], RunResult | None], *, address: str = "") -> WSGIServer:
    """Answers ``GET /metrics`` on ``address`` (all of them if empty) in the current event loop, until it is stopped.

    Raises:
        OSError: the port is taken.
    """
    registry = CollectorRegistry()
    registry.register(RunCollector(source))
    server = WSGIServer((address, port), make_wsgi_app(registry), log=None)
    server.start()
    return server


def _bounded(series: Sequence[Series]) -> list[Series]:
    ranked = sorted(series, key=lambda one: -one.counts.sent)
    kept, rest = ranked[:MAXIMUM_SERIES], ranked[MAXIMUM_SERIES:]
    if rest:
        tally = SeriesTally()
        for one in rest:
            tally.merge(one)
        kept.append(tally.series(OTHER, OTHER, rest[0].window_seconds))
    return kept


def _counters(series: Sequence[Series]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        f"{PREFIX}_requests", "Requests due inside the window that ended, by outcome.", labels=[*_BY_SERIES, "outcome"]
    )
    good = CounterMetricFamily(
        f"{PREFIX}_good_requests", "Succeeded within every latency limit of the run.", labels=_BY_SERIES
    )
    tokens = CounterMetricFamily(
        f"{PREFIX}_tokens", "Of the ended requests, as the server's usage counts them.", labels=[*_BY_SERIES, "kind"]
    )
    for one in series:
        names = [one.scenario, one.model]
        for outcome in Outcome:
            requests.add_metric([*names, outcome.value], one.counts.by_outcome.get(outcome, 0))
        good.add_metric(names, one.counts.good)
        kinds = {"prompt": one.tokens.prompt, "completion": one.tokens.completion, "cached": one.tokens.cached}
        for kind, count in kinds.items():
            if count is not None:
                tokens.add_metric([*names, kind], count)
    return iter((requests, good, tokens))


def _histograms(series: Sequence[Series]) -> Iterator[Metric]:
    for name, (limits, text) in _LATENCIES.items():
        family = HistogramMetricFamily(f"{PREFIX}_{name}_seconds", text, labels=_BY_SERIES)
        for one in series:
            data: HistogramData = getattr(one.latencies, name)
            counts = Histogram.of(data).counts_at_most(limits)
            buckets = [(str(float(limit)), float(count)) for limit, count in zip(limits, counts, strict=True)]
            family.add_metric([one.scenario, one.model], [*buckets, ("+Inf", float(data.count))], data.sum)
        yield family


def _rates(series: Sequence[Series]) -> Iterator[Metric]:
    values = {
        "output_tokens_per_second": "Output tokens that arrived inside the window, over its length.",
        "requests_per_second": "Succeeded requests over the window's length.",
        "goodput_ratio": "Good requests over all but the abandoned.",
        "error_ratio": "Failed requests over all but the abandoned.",
    }
    for name, text in values.items():
        gauge = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=_BY_SERIES)
        for one in series:
            gauge.add_metric([one.scenario, one.model], getattr(one, name))
        yield gauge


def _offered(run: RunResult) -> Iterator[Metric]:
    timeline = run.timeline
    yield CounterMetricFamily(
        f"{PREFIX}_requests_due", "Requests that the load asked for, warm-up too.", sum(one.due for one in timeline)
    )
    yield CounterMetricFamily(
        f"{PREFIX}_requests_sent", "Requests that were sent, warm-up too.", sum(one.sent for one in timeline)
    )
    in_flight = timeline[-1].in_flight if timeline else 0
    yield _gauge("in_flight", "Requests sent and not ended.", in_flight)
    yield _gauge("offered_requests_per_second", "Due inside the window.", run.offered.asked_per_second)
    yield _gauge("achieved_requests_per_second", "Of those, sent inside it.", run.offered.sent_per_second)
    yield _gauge("offered_ratio", "Sent over asked; below 0.98 a run is invalid.", run.offered.ratio)


def _trust(run: RunResult) -> Iterator[Metric]:
    client = run.client
    yield _gauge("valid", "1: the run's numbers may be used; 0: they must not.", run.valid)
    flags = GaugeMetricFamily(f"{PREFIX}_flags", "What does not fit together.", labels=["severity"])
    for severity in ("invalid", "warning", "note"):
        flags.add_metric([severity], sum(flag.severity == severity for flag in run.flags))
    yield flags
    lag = GaugeMetricFamily(f"{PREFIX}_loop_lag_seconds", "How late the client's event loop is.", labels=["quantile"])
    lag.add_metric(["0.5"], client.loop_lag_p50_seconds)
    lag.add_metric(["0.99"], client.loop_lag_p99_seconds)
    lag.add_metric(["1"], client.loop_lag_max_seconds)
    yield lag
    yield _gauge("cpu_ratio", "CPU time over wall time of the busiest load process.", client.cpu_ratio)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, float(value))
