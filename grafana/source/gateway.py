"""Gateway: does it spread requests well, and does it hold back, refuse or lose any?"""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from grafana.source import routing
from grafana.source.board import dashboard
from grafana.source.queries import (
    GATEWAY,
    GATEWAY_REPLICAS,
    heat,
    mean,
    or_zero,
    percentiles,
    quantile,
    query,
    rate,
    where,
)
from grafana.source.routing import QUEUED, REQUESTS, balance, matched
from grafana.source.shapes import (
    COUNT,
    GREEN,
    RATIO,
    RED,
    REQUESTS_PER_SECOND,
    SECONDS,
    TIMES,
    TOKENS_PER_SECOND,
    YELLOW,
    Heatmap,
    Stat,
    Timeseries,
    graph,
    heatmap,
    opens,
    stacked,
    stat,
    steps,
)
from grafana.source.stack import error_ratio, requests_by_status, requests_now

FIRST_BYTE = "vllmstack_gateway_first_byte_seconds"
DURATION = "vllmstack_gateway_request_duration_seconds"


def by_key(expression: str) -> str:
    """Without keys in the deployment the label is empty, and so would be the legend."""
    return f'label_replace({expression}, "key", "no key", "key", "")'


# Top row: is anything held back, refused or lost?


def first_byte_now() -> Stat:
    return stat(
        "First byte p95",
        "From a request's first byte to its answer's, at the gateway: all that a client waits but the network.",
        SECONDS,
        [query(quantile(0.95, FIRST_BYTE, selector=GATEWAY), "p95")],
        width=3,
    )


def queued_now() -> Stat:
    return stat(
        "Held",
        "Requests that wait at the gateway for room or for a replica.",
        COUNT,
        [query(f"sum({QUEUED}{GATEWAY})", "held")],
        width=3,
    ).thresholds(steps(GREEN, (1, YELLOW)))


def sheds_now() -> Stat:
    return stat(
        "Shed",
        "Requests a second that the gateway refused because their model was full or had no replica.",
        REQUESTS_PER_SECOND,
        [query(f"{rate('vllmstack_gateway_sheds_total', GATEWAY)} or vector(0)", "shed")],
        width=3,
    ).thresholds(steps(GREEN, (0.001, RED)))


def matched_now() -> Stat:
    return stat(
        "Prefix match now",
        "Share of prompt tokens in a prefix that the chosen replica was given before.",
        RATIO,
        [query(matched(), "matched")],
        width=3,
    )


def balance_now() -> Stat:
    return stat(
        "Imbalance",
        "Requests in flight of the busiest replica over the mean one's, of the model where that is worst: 1 is even.",
        TIMES,
        [query(f"max({balance()})", "busiest")],
        width=3,
    ).decimals(1)


def out_now() -> Stat:
    takes = f"vllmstack_gateway_replica_takes_requests{GATEWAY_REPLICAS}"
    return stat(
        "Replicas out",
        "Replicas that get no requests: dead, hung, starting or drained, or (a second) not reached by a request.",
        COUNT,
        [query(f"count({takes}) - sum({takes})", "out")],
        width=3,
    ).thresholds(steps(GREEN, (1, RED)))


# Traffic


def first_byte() -> Timeseries:
    return graph(
        "First byte",
        "From a request's first byte at the gateway to its answer's: of a request that is not streamed, all of it.",
        SECONDS,
        percentiles(FIRST_BYTE, selector=GATEWAY),
    )


def duration() -> Timeseries:
    return graph(
        "Request duration",
        "From a request's first byte at the gateway to the last byte sent of its answer.",
        SECONDS,
        percentiles(DURATION, selector=GATEWAY),
    )


def first_byte_spread() -> Heatmap:
    return heatmap(
        "First byte, spread",
        "Answers begun a second by how long it took.",
        SECONDS,
        heat(FIRST_BYTE, GATEWAY),
        width=12,
    )


def against_engines() -> Timeseries:
    return graph(
        "Whole request, gateway and engine",
        "Mean time of a request at the gateway and at the engine: what lies between is queue, routing and network.",
        SECONDS,
        [
            query(mean(DURATION, "model", GATEWAY), "{{model}} gateway"),
            query(mean("vllm:e2e_request_latency_seconds", "model"), "{{model}} engine"),
        ],
        width=12,
    )


# Keys


def requests_by_key() -> Timeseries:
    return graph(
        "Requests by key",
        "Requests that ended a second, by the name of the API key.",
        REQUESTS_PER_SECOND,
        [query(by_key(rate(REQUESTS, GATEWAY, "key")), "{{key}}")],
    )


def tokens_by_key() -> Timeseries:
    panel = graph(
        "Tokens by key",
        "Prompt and answer tokens a second that are counted against each API key.",
        TOKENS_PER_SECOND,
        [query(rate("vllmstack_gateway_tokens_total", GATEWAY, "key, kind"), "{{key}} {{kind}}")],
    )
    return stacked(panel)


def refusals_by_key() -> Timeseries:
    refused = rate(REQUESTS, where(GATEWAY, 'code=~"401|403|429"'), "key, code")
    none = 'label_replace(vector(0), "code", "none", "", "")'
    return graph(
        "Refused by key",
        "Requests a second without a valid key (401), for a model that it may not use (403), or beyond a limit (429).",
        REQUESTS_PER_SECOND,
        [query(f"{by_key(refused)} or on () {none}", "{{key}} {{code}}")],
    )


# Splits


def splits() -> Timeseries:
    return graph(
        "Splits",
        "Requests a second for a name that stands for several models, by the model that they went to.",
        REQUESTS_PER_SECOND,
        [query(rate("vllmstack_gateway_split_requests_total", GATEWAY, "split, model"), "{{split}} to {{model}}")],
    )


def mirrored() -> Timeseries:
    return graph(
        "Mirrored",
        "Requests a second that were sent to a model besides, its answers unused.",
        REQUESTS_PER_SECOND,
        [query(or_zero(rate("vllmstack_gateway_mirrored_total", GATEWAY, "model")), "{{model}}")],
    )


def connections() -> Timeseries:
    panel = graph(
        "Connections",
        "Client connections: a request is read, an answer written, or the next request awaited.",
        COUNT,
        [
            query('sum by (state) (vllmstack_gateway_connections{job="gateway", state!="active"})', "{{state}}"),
        ],
    )
    return stacked(panel)


def gateway() -> Dashboard:
    return dashboard(
        "Gateway",
        "Does the gateway spread requests well, and does it hold back, refuse or lose any?",
        [
            requests_now(),
            error_ratio(),
            opens(first_byte_now(), "model"),
            queued_now(),
            sheds_now(),
            opens(matched_now(), "engine"),
            balance_now(),
            out_now(),
        ],
        {
            "Traffic": [requests_by_status(), first_byte(), duration(), first_byte_spread(), against_engines()],
            "Routing": [
                routing.requests_by_replica(),
                routing.in_flight(),
                routing.pending_tokens(),
                routing.imbalance(),
                routing.prefix_match(),
                routing.replicas(),
            ],
            "Admission": [routing.queued(), routing.held_time(), routing.sheds()],
            "Faults": [routing.errors_by_replica(), routing.retries(), routing.ejections()],
            "Keys": [requests_by_key(), tokens_by_key(), refusals_by_key()],
            "Splits": [splits(), mirrored(), connections()],
        },
    )
