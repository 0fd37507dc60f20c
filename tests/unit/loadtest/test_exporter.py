import http.client
import threading
from collections.abc import Callable, Iterator

import pytest
from gevent import get_hub, spawn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from loadtest.clock.histogram import Histogram
from loadtest.clock.observation import Outcome
from loadtest.exporter import MAXIMUM_SERIES, PREFIX, RunCollector, serve
from loadtest.results import Flag, RunResult
from tests.unit.loadtest.runs import make_run

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(source: Callable[[], RunResult | None]) -> Samples:
    registry = CollectorRegistry()
    registry.register(RunCollector(source))
    return parsed(generate_latest(registry).decode())


def parsed(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"{PREFIX}_{name}", frozenset(labels.items())]


def test_before_the_first_run_there_are_no_metrics() -> None:
    assert scrape(lambda: None) == {}


def test_learning_the_names_asks_for_no_run() -> None:
    asked: list[None] = []

    def source() -> None:
        asked.append(None)

    CollectorRegistry().register(RunCollector(source))
    assert asked == []


def test_requests_are_counted_by_scenario_model_and_outcome() -> None:
    samples = scrape(lambda: make_run(requests=100, failed=7))
    of = {"scenario": "chat", "model": "smoke"}
    assert value(samples, "requests_total", outcome="ok", **of) == 93
    assert value(samples, "requests_total", outcome="timed_out", **of) == 7
    assert value(samples, "requests_total", outcome="refused", **of) == 0
    outcomes = {dict(labels)["outcome"] for name, labels in samples if name == f"{PREFIX}_requests_total"}
    assert outcomes == set(Outcome)
    assert value(samples, "good_requests_total", **of) == 93
    assert value(samples, "tokens_total", kind="prompt", **of) == 93 * 200
    assert value(samples, "tokens_total", kind="completion", **of) == 93 * 100


def test_prompt_tokens_from_the_cache_are_there_only_if_the_server_told() -> None:
    run = make_run()
    assert not [labels for _, labels in scrape(lambda: run) if ("kind", "cached") in labels]
    run.series[0].tokens.cached = 12
    assert value(scrape(lambda: run), "tokens_total", kind="cached", scenario="chat", model="smoke") == 12


@pytest.mark.parametrize("name", ["ttft", "ttft_scheduled", "tpot", "itl", "e2e", "e2e_scheduled"])
def test_histograms_hold_what_the_run_measured(name: str) -> None:
    run = make_run()
    samples = scrape(lambda: run)
    data = getattr(run.total.latencies, name)
    of = {"scenario": "chat", "model": "smoke"}
    assert value(samples, f"{name}_seconds_count", **of) == data.count
    assert value(samples, f"{name}_seconds_sum", **of) == pytest.approx(data.sum)
    assert value(samples, f"{name}_seconds_bucket", le="+Inf", **of) == data.count
    histogram = Histogram.of(data)
    buckets = {
        float(dict(labels)["le"]): count
        for (one, labels), count in samples.items()
        if one == f"{PREFIX}_{name}_seconds_bucket"
    }
    for limit, count in buckets.items():
        if limit != float("inf"):
            assert count == round((histogram.share_at_most(limit) or 0) * data.count)
    assert len(set(buckets.values())) >= 3, "the buckets must tell usual latencies apart"


def test_counts_at_most_are_those_of_single_limits_and_nothing_is_at_most_anything() -> None:
    histogram = Histogram()
    assert histogram.counts_at_most([0.1, 1]) == [0, 0]
    histogram.record_all([0.05, 0.2, 0.2, 3])
    assert histogram.counts_at_most([0.01, 0.1, 0.5, 1, 10]) == [0, 1, 3, 3, 4]


def test_offered_and_achieved_rate_and_what_is_in_flight() -> None:
    run = make_run(rate=5, requests=150, duration=30)
    samples = scrape(lambda: run)
    assert value(samples, "offered_requests_per_second") == 5
    assert value(samples, "achieved_requests_per_second") == run.offered.sent_per_second
    assert value(samples, "requests_due_total") == 150
    assert value(samples, "in_flight") == run.timeline[-1].in_flight
    assert value(samples, "goodput_ratio", scenario="chat", model="smoke") == 1


def test_an_invalid_run_and_its_client_can_be_alerted_on() -> None:
    flag = Flag(kind="client", severity="invalid", fact="late", hint="")
    samples = scrape(lambda: make_run(flags=[flag]))
    assert value(samples, "valid") == 0
    assert value(samples, "flags", severity="invalid") == 1
    assert value(samples, "loop_lag_seconds", quantile="0.99") == 0.001
    assert value(scrape(make_run), "valid") == 1


def test_however_many_scenarios_there_are_the_labels_stay_few_and_no_request_is_lost() -> None:
    run = make_run(requests=10)
    series = [run.series[0].model_copy(update={"scenario": f"s{number}"}) for number in range(MAXIMUM_SERIES + 9)]
    samples = scrape(lambda: run.model_copy(update={"series": series}))
    counts = {
        dict(labels)["scenario"]: count
        for (name, labels), count in samples.items()
        if name == f"{PREFIX}_requests_total" and ("outcome", "ok") in labels
    }
    assert len(counts) == MAXIMUM_SERIES + 1
    assert sum(counts.values()) == 10 * len(series)
    assert counts["other"] == 90


@pytest.fixture
def served() -> Iterator[tuple[str, int]]:
    """The exporter in an event loop of its own thread: gevent has one a thread."""
    ready, stops = threading.Event(), []
    ports: list[int] = []

    def loop() -> None:
        server = serve(0, make_run, address="127.0.0.1")
        ports.append(server.server_port or 0)
        watcher = get_hub().loop.async_()
        stops.append(watcher.send)
        stopped = spawn(get_hub().wait, watcher)
        ready.set()
        stopped.join()
        server.stop()

    thread = threading.Thread(target=loop)
    thread.start()
    assert ready.wait(60)
    yield "127.0.0.1", ports[0]
    stops[0]()
    thread.join(60)


def test_prometheus_can_scrape_it(served: tuple[str, int]) -> None:
    connection = http.client.HTTPConnection(*served, timeout=60)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    assert answer.status == 200
    assert value(parsed(answer.read().decode()), "valid") == 1
    connection.close()
