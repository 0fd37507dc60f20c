import math

from loadtest.clock.histogram import Histogram
from loadtest.results import Flag, Load, LoadKind, Series
from loadtest.web.view import MAXIMUM_SERIES, description, health, series_rows
from tests.unit.loadtest.runs import make_run


def test_a_run_of_one_scenario_and_model_has_one_row_with_their_names() -> None:
    rows = series_rows(make_run(requests=100, failed=10))
    total = rows["total"]
    assert rows["series"] == []
    assert (total["scenario"], total["model"]) == ("chat", "smoke")
    assert (total["sent"], total["ok"], total["failed"]) == (100, 90, 10)
    assert total["error_ratio"] == 0.1


def test_figures_are_those_of_the_histograms() -> None:
    run = make_run()
    figures = series_rows(run)["total"]["latencies"]["ttft"]
    histogram = Histogram.of(run.total.latencies.ttft)
    assert figures == {
        "p50": histogram.quantile(0.5),
        "p90": histogram.quantile(0.9),
        "p95": histogram.quantile(0.95),
        "p99": histogram.quantile(0.99),
        "mean": histogram.mean,
        "max": histogram.maximum,
        "count": 200,
    }


def test_without_a_single_answer_no_figure_is_made_up() -> None:
    figures = series_rows(make_run(requests=0))["total"]["latencies"]["tpot"]
    assert {value for name, value in figures.items() if name != "count"} == {None}


def test_of_many_scenarios_those_with_most_requests_are_shown_and_the_rest_is_counted() -> None:
    run = make_run()
    series = [
        run.series[0].model_copy(
            update={"scenario": f"s{i:03}", "counts": run.total.counts.model_copy(update={"sent": i})}
        )
        for i in range(MAXIMUM_SERIES + 5)
    ]
    rows = series_rows(run.model_copy(update={"series": series}))
    assert [row["scenario"] for row in rows["series"]] == [f"s{i:03}" for i in range(5, MAXIMUM_SERIES + 5)]
    assert rows["left_out"] == 5
    assert rows["total"]["scenario"] == ""


def test_an_invalid_run_says_so_with_its_reasons() -> None:
    flag = Flag(kind="client", severity="invalid", fact="the client was late itself", hint="give it a core")
    shown = description(make_run(flags=[flag]))
    assert shown["valid"] is False
    assert shown["flags"] == [flag.model_dump()]
    assert description(make_run())["valid"] is True


def test_the_load_is_named_as_it_was_asked_for() -> None:
    assert description(make_run(concurrency=8))["load"] == "concurrency 8"
    assert description(make_run(rate=2.5))["load"] == "2.5/s poisson"
    trace = description(make_run(load=Load(kind=LoadKind.OPEN, arrivals="trace")))
    assert (trace["load"], trace["open_loop"]) == ("trace", True)


def test_models_are_those_that_answered_and_those_that_were_asked() -> None:
    assert description(make_run(series=[Series(scenario="chat", model="other")]))["models"] == ["other", "smoke"]


def test_health_says_how_late_the_client_sent() -> None:
    shown = health(make_run())
    lateness = shown["offered"]["lateness_p99_seconds"]
    assert math.isclose(lateness, 0.0005, rel_tol=0.01)
    assert shown["cpu_ratio"] == 0.2
    assert shown["calibration"] is None
