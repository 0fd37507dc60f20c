"""Throughput against latency."""

from loadtest.report.charts.curve import curves, throughput_against_latency
from loadtest.report.grouping import Sweep, sweeps
from loadtest.report.measures import TTFT
from loadtest.results import Flag
from tests.unit.loadtest.report.charts.pictures import words
from tests.unit.loadtest.report.test_grouping import saturating
from tests.unit.loadtest.runs import make_run


def sweep(*counts: int) -> Sweep:
    return sweeps([saturating(count) for count in counts])[0]


def test_each_point_has_its_load_and_the_knee_its_mark() -> None:
    found = words(throughput_against_latency([("", sweep(1, 2, 4, 8, 16, 32, 64))], TTFT))

    assert {"Throughput against TTFT", "TTFT p50 and p95, s; numbers: concurrency", "p50", "p95"} <= set(found)
    assert any("knee 16" in text for text in found)
    assert {"4", "8"} <= set(found)


def test_a_sweep_has_four_charts_and_their_load_axis_doubles() -> None:
    charts = curves(sweep(1, 2, 4, 8, 16))

    assert [chart.name for chart in charts] == ["curve-ttft", "curve-tpot", "curve-throughput", "curve-e2e-by-load"]
    assert {"1", "2", "4", "8", "16", "concurrency"} <= set(words(charts[2]))
    assert {"p50", "p95", "p99"} <= set(words(charts[3]))


def test_two_loads_have_no_curve() -> None:
    assert curves(sweep(1, 2)) == []


def test_invalid_runs_are_crosses_and_the_caption_says_so() -> None:
    bad = saturating(16).model_copy(
        update={"flags": [Flag(kind="client", severity="invalid", fact="late", hint="more cores")]}
    )
    [found] = sweeps([*(saturating(count) for count in (1, 2, 4)), bad])

    assert "Crosses are invalid runs." in curves(found)[0].caption
    assert curves(sweep(1, 2, 4))[0].caption == ""


def test_variants_are_named_at_the_ends_of_their_curves() -> None:
    found = words(throughput_against_latency([("before", sweep(1, 2, 4)), ("after", sweep(1, 2, 4))], TTFT))

    assert {"before", "after"} <= set(found)


def test_rates_are_a_load_too() -> None:
    [found] = sweeps([make_run(rate=rate, requests=30) for rate in (1, 2, 3)])

    assert "requests asked, a second" in words(curves(found)[2])
