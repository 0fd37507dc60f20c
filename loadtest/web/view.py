"""A run as the page shows it: plain numbers in base units, nothing that the page would have to compute."""

from collections.abc import Callable, Sequence
from typing import Any

from loadtest.clock.histogram import Histogram
from loadtest.clock.histogram_data import HistogramData
from loadtest.results import LoadKind, RunResult, Series

MAXIMUM_SERIES = 30
"""Rows for scenario and model; a page with more is not read. The total holds them all."""
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
MEASURES = ("ttft", "ttft_scheduled", "tpot", "itl", "inter_chunk", "e2e", "e2e_scheduled")


def series_rows(run: RunResult, pause: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """The total and, if there is more than one, each scenario and model; those with most requests if there are many."""
    series: Sequence[Series] = run.series
    if len(series) == 1:
        return {"total": _row(run.total) | _name(series[0]), "series": [], "left_out": 0}
    shown = sorted(series, key=lambda one: -one.counts.sent)[:MAXIMUM_SERIES]
    rows = []
    for one in sorted(shown, key=lambda one: (one.scenario, one.model)):
        pause()
        rows.append(_row(one) | _name(one))
    return {"total": _row(run.total) | _name(run.total), "series": rows, "left_out": len(series) - len(shown)}


def description(run: RunResult) -> dict[str, Any]:
    """What runs, under which load, and whether its numbers may be used."""
    environment, load = run.environment, run.load
    models = sorted({series.model for series in run.series if series.model} | {one.name for one in environment.models})
    return {
        "id": run.id,
        "started_at": run.started_at,
        "scenario": run.scenario,
        "scenario_text": run.scenario_text,
        "models": models,
        "load": str(load) if load.rate is not None or load.kind is LoadKind.CLOSED else load.arrivals,
        "open_loop": load.kind is LoadKind.OPEN,
        "requests": load.requests,
        "seed": run.seed,
        "warmup_seconds": run.warmup_seconds,
        "measured_seconds": run.duration_seconds,
        "limits": run.limits,
        "deployment": environment.deployment,
        "url": environment.url,
        "interrupted": run.interrupted,
        "valid": run.valid,
        "flags": [flag.model_dump() for flag in run.flags],
        "errors": sorted(run.total.counts.errors.items(), key=lambda item: -item[1])[:10],
    }


def health(run: RunResult) -> dict[str, Any]:
    """The load generator itself."""
    client, offered = run.client, run.offered
    return {
        **client.model_dump(exclude={"calibration"}),
        "calibration": client.calibration.model_dump() if client.calibration else None,
        "offered": {
            "asked": offered.asked,
            "sent": offered.sent,
            "asked_per_second": offered.asked_per_second,
            "sent_per_second": offered.sent_per_second,
            "ratio": offered.ratio,
            "lateness_p99_seconds": Histogram.of(offered.lateness).quantile(0.99),
        },
    }


def _name(series: Series) -> dict[str, str]:
    return {"scenario": series.scenario, "model": series.model}


def _row(series: Series) -> dict[str, Any]:
    counts, tokens = series.counts, series.tokens
    return {
        "sent": counts.sent,
        "ok": counts.ok,
        "failed": counts.failed,
        "abandoned": counts.abandoned,
        "error_ratio": series.error_ratio,
        "goodput_ratio": series.goodput_ratio,
        "requests_per_second": series.requests_per_second,
        "output_tokens_per_second": series.output_tokens_per_second,
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "cached_tokens": tokens.cached,
        "latencies": {name: _figures(getattr(series.latencies, name)) for name in MEASURES},
        "lengths": {"prompt": _figures(series.lengths_prompt), "completion": _figures(series.lengths_completion)},
    }


def _figures(data: HistogramData) -> dict[str, Any]:
    histogram = Histogram.of(data)
    figures: dict[str, Any] = {name: histogram.quantile(share) for name, share in QUANTILES.items()}
    return figures | {"mean": histogram.mean, "max": data.maximum, "count": data.count}
