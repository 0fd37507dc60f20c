"""Load test: may this run's numbers be used, and do client and server agree?"""

from collections.abc import Sequence

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.dashboard import ValueMap, ValueMappingResult

from grafana.source.board import dashboard, label_variable
from grafana.source.latencies import ITL, TPOT, TTFT, WHOLE
from grafana.source.queries import (
    ENGINES,
    GATEWAY,
    LOADTEST,
    LOADTEST_RUN,
    heat,
    mean,
    quantile,
    query,
    rate,
    where,
)
from grafana.source.shapes import (
    COUNT,
    GREEN,
    RATIO,
    RED,
    REQUESTS_PER_SECOND,
    SECONDS,
    TOKENS_PER_SECOND,
    YELLOW,
    Heatmap,
    Stat,
    Timeseries,
    graph,
    heatmap,
    limited,
    no_traffic,
    opens,
    stacked,
    stat,
    steps,
)

CLIENT = "vllmstack_loadtest"
LEAST_OFFERED = 0.98
"""Below it a run is invalid: what was measured is not what was asked for."""


# Top row: may the numbers be used?


def valid() -> Stat:
    words = ValueMap(
        options={
            "0": ValueMappingResult(text="invalid", color=RED, index=0),
            "1": ValueMappingResult(text="valid", color=GREEN, index=1),
        }
    )
    return stat(
        "Run",
        "Whether the run's numbers may be used: its report says why not.",
        COUNT,
        [query(f"min({CLIENT}_valid{LOADTEST_RUN})", "valid")],
        width=3,
    ).mappings([words, no_traffic()])


def offered_now() -> Stat:
    return stat(
        "Sent of asked",
        "Requests that the client sent over those that it should have: below 98 % the run is invalid.",
        RATIO,
        [query(f"min({CLIENT}_offered_ratio{LOADTEST_RUN})", "sent")],
        width=3,
    ).thresholds(steps(RED, (LEAST_OFFERED, GREEN)))


def errors_now() -> Stat:
    return stat(
        "Failed requests",
        "Share of the run's requests that failed, of the scenario and model with the most.",
        RATIO,
        [query(f"max({CLIENT}_error_ratio{LOADTEST})", "failed")],
        width=3,
    ).thresholds(steps(GREEN, (0.001, YELLOW), (0.01, RED)))


def good_now() -> Stat:
    return stat(
        "Good requests, client",
        "Share of the run's requests within all its latency limits, of the scenario and model with the fewest.",
        RATIO,
        [query(f"min({CLIENT}_goodput_ratio{LOADTEST})", "good")],
        width=3,
    ).thresholds(steps(RED, (0.9, YELLOW), (0.95, GREEN)))


def ttft_now() -> Stat:
    return stat(
        "TTFT p95, client",
        "Time to first token that 95 % of requests stay under, from when each was due.",
        SECONDS,
        [query(quantile(0.95, f"{CLIENT}_ttft_scheduled_seconds", selector=LOADTEST), "p95")],
        width=3,
    )


def tpot_now() -> Stat:
    return stat(
        "TPOT p95, client",
        "Mean time per output token after the first that 95 % of requests stay under.",
        SECONDS,
        [query(quantile(0.95, f"{CLIENT}_tpot_seconds", selector=LOADTEST), "p95")],
        width=3,
    )


def tokens_now() -> Stat:
    return stat(
        "Output tokens, client",
        "Output tokens that arrived inside the run's window, over its length.",
        TOKENS_PER_SECOND,
        [query(f"sum({CLIENT}_output_tokens_per_second{LOADTEST})", "output")],
        width=3,
    ).decimals(0)


def requests_now() -> Stat:
    return stat(
        "Requests, client",
        "Requests that succeeded, over the length of the run's window.",
        REQUESTS_PER_SECOND,
        [query(f"sum({CLIENT}_requests_per_second{LOADTEST})", "requests")],
        width=3,
    )


# Load


def offered() -> Timeseries:
    return graph(
        "Asked and sent",
        "Requests a second that the load asks for and that the client sends; apart, the client is too slow.",
        REQUESTS_PER_SECOND,
        [
            query(rate(f"{CLIENT}_requests_due_total", LOADTEST_RUN), "asked"),
            query(rate(f"{CLIENT}_requests_sent_total", LOADTEST_RUN), "sent"),
        ],
    )


def outcomes() -> Timeseries:
    panel = graph(
        "Outcomes",
        "Requests that ended a second, by how: all but ok and abandoned are failures.",
        REQUESTS_PER_SECOND,
        [query(rate(f"{CLIENT}_requests_total", LOADTEST, "outcome"), "{{outcome}}")],
    )
    return stacked(panel)


def in_flight() -> Timeseries:
    return graph(
        "In flight, client to engine",
        "Where the client's requests are: what the gateway has no more than the engines, it does not hold back.",
        COUNT,
        [
            query(f"sum({CLIENT}_in_flight{LOADTEST_RUN})", "client"),
            query(f"sum(vllmstack_gateway_queued_requests{GATEWAY})", "held at the gateway"),
            query(f"sum(vllmstack_gateway_requests_in_flight{GATEWAY})", "gateway to engines"),
            query(f"sum(vllm:num_requests_waiting{ENGINES})", "engines waiting"),
            query(f"sum(vllm:num_requests_running{ENGINES})", "engines running"),
        ],
    )


# Client against server


def against(title: str, description: str, unit: str, queries: Sequence[Dataquery]) -> Timeseries:
    """Client and server in one graph; other clients of the same models are in the server's numbers alone."""
    return graph(title, description, unit, queries, width=12)


def client(latency: str) -> str:
    return quantile(0.95, f"{CLIENT}_{latency}_seconds", selector=LOADTEST)


def ttft() -> Timeseries:
    return against(
        "TTFT p95, client and server",
        "From due to sent is the client's own delay, from engine to gateway its queue, from there the network.",
        SECONDS,
        [
            query(client("ttft_scheduled"), "client, from due"),
            query(client("ttft"), "client, from sent"),
            query(quantile(0.95, "vllmstack_gateway_first_byte_seconds", selector=GATEWAY), "gateway, first byte"),
            query(quantile(0.95, TTFT), "engine"),
        ],
    )


def tpot() -> Timeseries:
    return against(
        "TPOT p95, client and server",
        "A request's mean time per token after the first; the engine's buckets are wider, so that its p95 is rougher.",
        SECONDS,
        [query(client("tpot"), "client"), query(quantile(0.95, TPOT), "engine")],
    )


def itl() -> Timeseries:
    return against(
        "ITL p95, client and server",
        "Time between two tokens in a row: tokens that arrive together are apart at the engine and not at the client.",
        SECONDS,
        [query(client("itl"), "client"), query(quantile(0.95, ITL), "engine")],
    )


def whole_request() -> Timeseries:
    return against(
        "Whole request, client and server",
        "Mean time of a whole request: means, other than percentiles, are exact on all sides.",
        SECONDS,
        [
            query(mean(f"{CLIENT}_e2e_scheduled_seconds", selector=LOADTEST), "client, from due"),
            query(mean(f"{CLIENT}_e2e_seconds", selector=LOADTEST), "client, from sent"),
            query(mean("vllmstack_gateway_request_duration_seconds", selector=GATEWAY), "gateway"),
            query(mean(WHOLE), "engine"),
        ],
    )


def output_tokens() -> Timeseries:
    completions = rate(f"{CLIENT}_tokens_total", where(LOADTEST, 'kind="completion"'))
    return against(
        "Output tokens, client and server",
        "The client counts a request's tokens when it ends, the engine each as it comes: the means agree.",
        TOKENS_PER_SECOND,
        [query(completions, "client"), query(rate("vllm:generation_tokens_total", ENGINES), "engine")],
    ).decimals(0)


def requests() -> Timeseries:
    return against(
        "Requests, client and server",
        "Requests that ended a second; more at the gateway are other clients', or requests outside the run's window.",
        REQUESTS_PER_SECOND,
        [
            query(rate(f"{CLIENT}_requests_total", LOADTEST), "client"),
            query(rate("vllmstack_gateway_requests_total", GATEWAY), "gateway"),
            query(rate("vllm:request_success_total", ENGINES), "engine"),
        ],
    )


# Scenarios


def by_scenario(title: str, description: str, latency: str) -> Timeseries:
    p95 = quantile(0.95, f"{CLIENT}_{latency}_seconds", "scenario, model", LOADTEST)
    return graph(title, description, SECONDS, [query(p95, "{{scenario}} {{model}}")], width=6)


def ttft_by_scenario() -> Timeseries:
    return by_scenario("TTFT p95 by scenario", "Time to first token, from when a request was due.", "ttft_scheduled")


def tpot_by_scenario() -> Timeseries:
    return by_scenario("TPOT p95 by scenario", "A request's mean time per token after the first.", "tpot")


def spread(title: str, description: str, latency: str) -> Heatmap:
    return heatmap(title, description, SECONDS, heat(f"{CLIENT}_{latency}_seconds", LOADTEST), width=6)


def ttft_spread() -> Heatmap:
    return spread("TTFT, client, spread", "First tokens a second by how long they took since due.", "ttft_scheduled")


def itl_spread() -> Heatmap:
    return spread("ITL, client, spread", "Tokens a second by the time since the one before.", "itl")


# The client itself


def loop_lag() -> Timeseries:
    return graph(
        "Client's event loop",
        "How late the client's event loop is: its latencies are too long by that.",
        SECONDS,
        [query(f"max by (quantile) ({CLIENT}_loop_lag_seconds{LOADTEST_RUN})", "quantile {{quantile}}")],
    )


def cpu() -> Timeseries:
    panel = graph(
        "Client's CPU",
        "CPU time over wall time of the busiest load process: near 100 % it measures itself.",
        RATIO,
        [query(f"max({CLIENT}_cpu_ratio{LOADTEST_RUN})", "busiest")],
    ).max(1)
    return limited(panel, (0.8, YELLOW), (0.95, RED))


def flags() -> Timeseries:
    return graph(
        "Flags",
        "What does not fit together in the run: one invalid and its numbers must not be used.",
        COUNT,
        [query(f"max by (severity) ({CLIENT}_flags{LOADTEST_RUN})", "{{severity}}")],
    ).decimals(0)


def load_test() -> Dashboard:
    return dashboard(
        "Load test",
        "May this run's numbers be used, and do client and server agree?",
        [
            valid(),
            offered_now(),
            errors_now(),
            good_now(),
            ttft_now(),
            tpot_now(),
            tokens_now(),
            opens(requests_now(), "stack"),
        ],
        {
            "Load": [offered(), outcomes(), in_flight()],
            "Client and server": [ttft(), tpot(), itl(), whole_request(), output_tokens(), requests()],
            "Scenarios": [ttft_by_scenario(), tpot_by_scenario(), ttft_spread(), itl_spread()],
            "Client": [loop_lag(), cpu(), flags()],
        },
        variables=[
            label_variable("scenario", 'label_values(vllmstack_loadtest_requests_total{job="loadtest"}, scenario)')
        ],
    )
