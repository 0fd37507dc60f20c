"""One run in detail: what happened when, the server's own numbers, the client's own error, flags and errors."""

from collections.abc import Callable, Sequence

from loadtest.clock.histogram import Histogram
from loadtest.report import wording
from loadtest.report.charts.canvas import drawn
from loadtest.report.charts.timeline import timelines
from loadtest.report.document import Block, Cell, Columns, Figures, Paragraph, Section, Table, Tone, table
from loadtest.report.measures import LATENCIES, judged
from loadtest.results import Calibration, EngineDelta, LoadKind, RunResult
from loadtest.results import Flag as RunFlag

_SEVERITIES: dict[str, Tone] = {"invalid": "bad", "warning": "warn", "note": "quiet"}
_ENGINE_TIMES = {
    "ttft": "TTFT",
    "queue": "queue",
    "prefill": "prefill",
    "decode": "decode",
    "itl": "ITL",
    "e2e": "end to end",
}


def problems(run: RunResult) -> list[Section]:
    """What does not fit together, and what failed; nothing if all is well."""
    sections = [
        Section("Flags", [flags(run.flags)] if run.flags else []),
        Section("Errors", [errors(run)] if run.total.counts.errors else []),
    ]
    return [section for section in sections if section.blocks]


def details(run: RunResult, *, prefix: str = "", charts: bool = True) -> list[Section]:
    """Time lines, server and client; what has nothing to say is left out.

    ``prefix`` makes the names of chart files unique where there are several runs.
    """
    lines: list[Block] = []
    if charts and run.timeline:
        lines = [
            Paragraph("Shaded: warm-up and drain, which are not measured."),
            Figures([drawn(chart) for chart in timelines(run, prefix=prefix)]),
        ]
    sections = [
        Section("Time line", lines),
        Section("Scenarios and models", [parts(run)] if len(run.series) > 1 else []),
        Section("Server and client", server(run)),
        Section("The client's own error", client(run)),
    ]
    return [section for section in sections if section.blocks]


def flags(found: Sequence[RunFlag]) -> Table:
    """What does not fit together, the worst first."""
    order = list(_SEVERITIES)
    rows = [
        [Cell(flag.severity, _SEVERITIES[flag.severity]), flag.kind, Cell(flag.fact, note=flag.hint)]
        for flag in sorted(found, key=lambda flag: order.index(flag.severity))
    ]
    return table(("", "about", "what, and what mends it"), rows)


def errors(run: RunResult) -> Table:
    """Each text with how often it was seen."""
    texts = sorted(run.total.counts.errors.items(), key=lambda error: (-error[1], error[0]))
    every = judged(run.total) or 1
    rows = [[f"{times:,}", wording.share(times / every), text] for text, times in texts]
    return table(("#times", "#of requests", "error"), rows)


def parts(run: RunResult) -> Table:
    """Each scenario and model by itself."""
    rows = []
    for series in run.series:
        histograms = [Histogram.of(latency.data(run, series)) for latency in LATENCIES]
        p95 = [wording.seconds(histogram.quantile(0.95)) for histogram in histograms]
        rows.append(
            [
                series.scenario,
                series.model,
                f"{series.counts.sent:,}",
                wording.quantity(series.output_tokens_per_second, "tok/s"),
                *p95,
                wording.share(series.error_ratio),
            ]
        )
    heads = ("scenario", "model", "#requests", "#output", *(f"#{one.title} p95" for one in LATENCIES), "#errors")
    return table(heads, rows)


def server(run: RunResult) -> list[Block]:
    """The engines' metrics beside what the client counted."""
    if not run.engines:
        return [Paragraph("The engines' metrics were out of reach: there is no second opinion on these numbers.")]
    seen_by_both = [_both_sides(run)] if run.whole.sent else []
    return [Columns([*seen_by_both, _engine_times(run.engines)]), _replicas(run.engines)]


def _both_sides(run: RunResult) -> Table:
    whole, engines = run.whole, run.engines
    ttft = whole.ttft_sum_seconds / whole.ttft_count if whole.ttft_count else None
    e2e = whole.e2e_sum_seconds / whole.ok if whole.ok else None
    rows = [
        _pair("requests that succeeded", whole.ok, sum(engine.requests for engine in engines), _count),
        _pair("prompt tokens", whole.prompt_tokens, sum(engine.prompt_tokens for engine in engines), _count),
        _pair("output tokens", whole.completion_tokens, sum(engine.generation_tokens for engine in engines), _count),
        _pair("TTFT, mean", ttft, _mean(engines, "ttft"), wording.seconds),
        _pair("end to end, mean", e2e, _mean(engines, "e2e"), wording.seconds),
    ]
    caption = "The whole run, warm-up and drain too. What latency the client has more is gateway, network and client."
    return table(("", "#client", "#engines", "#client more by"), rows, caption)


def _pair(
    name: str, client: float | None, engines: float | None, text: Callable[[float | None], str]
) -> list[Cell | str]:
    more = client / engines - 1 if client is not None and engines else None
    return [name, text(client), text(engines), wording.change(more)]


def _count(value: float | None) -> str:
    return wording.NOTHING if value is None else f"{value:,.0f}"


def _mean(engines: Sequence[EngineDelta], name: str) -> float | None:
    known = [(engine.mean_seconds.get(name), engine.requests) for engine in engines if engine.requests]
    weighed = [(seconds, requests) for seconds, requests in known if seconds is not None]
    requests = sum(weight for _, weight in weighed)
    return sum(seconds * weight for seconds, weight in weighed) / requests if requests else None


def _replicas(engines: Sequence[EngineDelta]) -> Table:
    rows: list[list[Cell | str]] = []
    for engine in engines:
        hits = engine.prefix_hits / engine.prefix_queries if engine.prefix_queries else None
        counts = (engine.requests, engine.prompt_tokens, engine.generation_tokens)
        rows.append(
            [
                Cell(engine.replica, "warn" if engine.restarted else "", "restarted" if engine.restarted else ""),
                *map(_count, counts),
                wording.share(hits),
                Cell(_count(engine.preemptions), "warn" if engine.preemptions else ""),
                _count(engine.peak_running),
                _count(engine.peak_waiting),
                wording.share(engine.peak_kv_cache_ratio),
            ]
        )
    heads = ("replica", "#requests", "#prompt tokens", "#output tokens", "#prefix hits", "#preemptions")
    return table((*heads, "#most running", "#most waiting", "#KV cache, most"), rows)


def _believable(quantile: float | None, share: int, mean: float | None) -> float | None:
    """None where the bucket is too coarse: by Markov's inequality no percentile exceeds mean ÷ (1 − share)."""
    if quantile is None or mean is None or quantile * (100 - share) <= 100 * mean:
        return quantile
    return None


def _engine_times(engines: Sequence[EngineDelta]) -> Table:
    rows: list[list[Cell | str]] = []
    for engine in engines:
        name = engine.replica
        for key, title in _ENGINE_TIMES.items():
            mean = engine.mean_seconds.get(key)
            quantiles = engine.quantiles_seconds.get(key, {})
            values = [mean, *(_believable(quantiles.get(f"p{share}"), share, mean) for share in (50, 95, 99))]
            if any(value is not None for value in values):
                rows.append([name, title, *map(wording.seconds, values)])
                name = ""
    caption = "By the engines' histograms: means are exact, percentiles as fine as their coarse buckets; –: too coarse."
    return table(("replica", "", "#mean", "#p50", "#p95", "#p99"), rows, caption)


def client(run: RunResult) -> list[Block]:
    """What the load generator adds to what it measures."""
    health = run.client
    rows: list[list[Cell | str]] = [
        [
            "busiest process",
            wording.share(health.cpu_ratio),
            f"of a core; {wording.plural(health.processes, 'process', 'processes')}",
        ],
        ["event loop late, p50", wording.seconds(health.loop_lag_p50_seconds), ""],
        ["event loop late, p99", wording.seconds(health.loop_lag_p99_seconds), "latencies may be too long by so much"],
        ["event loop late, most", wording.seconds(health.loop_lag_max_seconds), ""],
    ]
    if health.microseconds_a_chunk is not None:
        chunks = f"{health.chunks:,} chunks in all"
        rows.append(["CPU a chunk", f"{wording.number(health.microseconds_a_chunk)} µs", chunks])
    if health.throttled_ratio:
        rows.append(["stopped by its CPU limit", Cell(wording.share(health.throttled_ratio), "warn"), "of all periods"])
    if run.load.kind is LoadKind.OPEN:
        rows += _offered(run)
    tables = [table(("during the run", "#", ""), rows)]
    if health.calibration is not None:
        tables.append(_calibration(health.calibration))
    return [Columns(tables)]


def _offered(run: RunResult) -> list[list[Cell | str]]:
    offered = run.offered
    late = Histogram.of(offered.lateness)
    return [
        ["asked", f"{wording.number(offered.asked_per_second)} req/s", f"{offered.asked:,} requests"],
        [
            "sent in time",
            f"{wording.number(offered.sent_per_second)} req/s",
            f"{offered.sent:,} requests, {wording.share(offered.ratio)} of what was asked",
        ],
        ["sent late, p50", wording.seconds(late.quantile(0.5)), ""],
        [
            "sent late, p99",
            wording.seconds(late.quantile(0.99)),
            f"most {wording.seconds(late.maximum if late.count else None)}",
        ],
    ]


def _calibration(found: Calibration) -> Table:
    def signed(seconds: float | None) -> str:
        if seconds is None or abs(seconds) < 1e-6:
            return wording.NOTHING if seconds is None else "0 µs"
        return ("+" if seconds > 0 else "") + wording.seconds(seconds)

    rows: list[list[Cell | str]] = [
        [
            f"TTFT, {name}",
            signed(found.ttft_error_seconds.get(name)),
            f"true: {wording.seconds(found.ttft_true_seconds)}",
        ]
        for name in ("p50", "p99")
    ]
    rows += [
        [f"ITL, {name}", signed(found.itl_error_seconds.get(name)), f"true: {wording.seconds(found.itl_true_seconds)}"]
        for name in ("p50", "p99")
    ]
    rows += [
        ["counts", Cell("exact" if found.counts_exact else "wrong", "good" if found.counts_exact else "bad"), ""],
        ["CPU a chunk", f"{wording.number(found.microseconds_a_chunk)} µs", ""],
        [
            "headroom",
            f"{wording.number(found.headroom_chunks_per_second)} chunks/s",
            "one process with a core to itself",
        ],
        ["event loop late, p99", wording.seconds(found.loop_lag_p99_seconds), ""],
    ]
    return table((f"against a mock server, {found.streams} streams", "#measured − true", ""), rows)
