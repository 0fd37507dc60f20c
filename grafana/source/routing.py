"""Panels of what the gateway does with a request: which replica gets it, how long it is held, what goes wrong."""

from grafana.source.queries import (
    ENGINES,
    GATEWAY,
    GATEWAY_REPLICAS,
    increase,
    mean_and_high,
    or_zero,
    query,
    rate,
    where,
)
from grafana.source.shapes import (
    COUNT,
    GREEN,
    PER_SECOND,
    RATIO,
    RED,
    REQUESTS_PER_SECOND,
    SECONDS,
    TIMES,
    TOKENS,
    Timeline,
    Timeseries,
    graph,
    timeline,
)

REQUESTS = "vllmstack_gateway_requests_total"
IN_FLIGHT = "vllmstack_gateway_requests_in_flight"
QUEUED = "vllmstack_gateway_queued_requests"


def matched(by: str = "") -> str:
    """Share of prompt tokens in a prefix that the chosen replica was given before; none at all has no series."""
    found = rate("vllmstack_gateway_prompt_tokens_matched_total", GATEWAY, by)
    routed = rate("vllmstack_gateway_prompt_tokens_routed_total", GATEWAY, by)
    return f"({found} or 0 * {routed}) / {routed}"


def balance() -> str:
    """By model, the busiest replica's requests in flight over the mean replica's."""
    busy = f"avg_over_time({IN_FLIGHT}{GATEWAY}[$__rate_interval])"
    return f"max by (model) ({busy}) / avg by (model) ({busy})"


# Routing


def requests_by_replica() -> Timeseries:
    return graph(
        "Requests by replica",
        "Requests that ended a second, by the replica that answered last.",
        REQUESTS_PER_SECOND,
        [query(rate(REQUESTS, GATEWAY_REPLICAS, "model, replica"), "{{replica}}")],
    )


def in_flight() -> Timeseries:
    return graph(
        "In flight by replica",
        "Requests that were given to each replica and have not ended.",
        COUNT,
        [query(f"sum by (model, replica) ({IN_FLIGHT}{GATEWAY_REPLICAS})", "{{replica}}")],
    )


def pending_tokens() -> Timeseries:
    pending = f"vllmstack_gateway_pending_prompt_tokens{GATEWAY_REPLICAS}"
    return graph(
        "Pending prompt tokens by replica",
        "Prompt tokens of requests without a first byte yet: the prefill that each replica still has before it.",
        TOKENS,
        [query(f"sum by (model, replica) ({pending})", "{{replica}}")],
    )


def imbalance() -> Timeseries:
    return graph(
        "Imbalance by model",
        "Requests in flight of the busiest replica over the mean one's: 1 is even, 2 of two replicas is all on one.",
        TIMES,
        [query(balance(), "{{model}}")],
    )


def prefix_match() -> Timeseries:
    hits = rate("vllm:prefix_cache_hits_total", ENGINES, "model")
    asked = rate("vllm:prefix_cache_queries_total", ENGINES, "model")
    return graph(
        "Prefix match",
        "Share of prompt tokens that the gateway expected in the chosen replica's cache, and that were found there.",
        RATIO,
        [query(matched("model"), "{{model}} expected"), query(f"{hits} / {asked}", "{{model}} found")],
    ).max(1)


def replicas() -> Timeline:
    return timeline(
        "Replicas",
        "Whether each replica gets requests.",
        {0: ("out", RED), 1: ("takes requests", GREEN)},
        [
            query(
                f"min by (model, replica) (vllmstack_gateway_replica_takes_requests{GATEWAY_REPLICAS})",
                "{{replica}}",
            )
        ],
    )


# Admission


def queued() -> Timeseries:
    return graph(
        "Held by priority",
        "Requests that wait at the gateway for room or for a replica; interactive ones go before batch.",
        COUNT,
        [query(f"sum by (model, priority) ({QUEUED}{GATEWAY})", "{{model}} {{priority}}")],
    )


def held_time() -> Timeseries:
    return graph(
        "Time held",
        "How long requests waited at the gateway, of those that had to.",
        SECONDS,
        mean_and_high("vllmstack_gateway_queue_seconds", selector=GATEWAY),
    )


def sheds() -> Timeseries:
    return graph(
        "Shed by reason",
        "Requests a second that were refused: the model was full (429), had no replica (503), or room came too late.",
        REQUESTS_PER_SECOND,
        [query(or_zero(rate("vllmstack_gateway_sheds_total", GATEWAY, "model, reason")), "{{model}} {{reason}}")],
    )


# Faults


def errors_by_replica() -> Timeseries:
    errors = rate(REQUESTS, where(GATEWAY, 'code=~"5.."'), "model, replica")
    return graph(
        "Errors by replica",
        "Requests a second that ended with a 5xx status, by the replica that answered last.",
        REQUESTS_PER_SECOND,
        [query(or_zero(errors), "{{model}} {{replica}}")],
    )


def retries() -> Timeseries:
    failed = rate("vllmstack_gateway_upstream_retries_total", GATEWAY, "model, replica")
    return graph(
        "Retries",
        "Requests a second that a replica failed and another then tried: clients did not notice.",
        PER_SECOND,
        [query(or_zero(failed), "{{model}} {{replica}}")],
    )


def ejections() -> Timeseries:
    taken = increase("vllmstack_gateway_ejections_total", GATEWAY, "model, replica, reason")
    return graph(
        "Ejections",
        "How often a replica was taken out since the point before, and why.",
        COUNT,
        [query(or_zero(taken), "{{model}} {{replica}} {{reason}}")],
    )
