"""What users feel, as the engines measure it: on the Stack and on the Model dashboard."""

from grafana.source.queries import ENGINES, MODELS, percentiles, quantile, query, rate, target
from grafana.source.shapes import (
    GREEN,
    RATIO,
    RED,
    SECONDS,
    TOKENS_PER_SECOND,
    YELLOW,
    Stat,
    Timeseries,
    graph,
    stat,
    steps,
)

TTFT = "vllm:time_to_first_token_seconds"
TPOT = "vllm:request_time_per_output_token_seconds"
ITL = "vllm:inter_token_latency_seconds"
WHOLE = "vllm:e2e_request_latency_seconds"


# Numbers of the top row


def ttft_now(width: int = 4) -> Stat:
    return stat(
        "TTFT p95",
        "Time to first token that 95 % of requests stay under, over all selected replicas.",
        SECONDS,
        [query(quantile(0.95, TTFT), "p95")],
        width,
    )


def tpot_now(width: int = 4) -> Stat:
    return stat(
        "TPOT p95",
        "Mean time per output token after the first that 95 % of requests stay under, over all selected replicas.",
        SECONDS,
        [query(quantile(0.95, TPOT), "p95")],
        width,
    )


def output_tokens_now(width: int = 4) -> Stat:
    return stat(
        "Output tokens",
        "Tokens that the selected replicas generate a second, together.",
        TOKENS_PER_SECOND,
        [query(rate("vllm:generation_tokens_total", ENGINES), "output")],
        width,
    ).decimals(0)


def good_requests_now(width: int = 4) -> Stat:
    return stat(
        "Good requests",
        "Share of requests of the last 5 minutes within all latency targets, at least, of the model with the fewest.",
        RATIO,
        [query(f"min(model:goodput:ratio_rate5m{MODELS})", "good")],
        width,
    ).thresholds(steps(RED, (0.9, YELLOW), (0.95, GREEN)))


# Percentiles beside their targets


def ttft(width: int = 12) -> Timeseries:
    return graph(
        "Time to first token",
        "From a request's arrival at the engine to its first token: queue and prefill.",
        SECONDS,
        [*percentiles(TTFT), target("ttft")],
        width,
    )


def tpot(width: int = 12) -> Timeseries:
    return graph(
        "Time per output token",
        "A request's mean time per token after the first; percentiles below 10 ms, the first bucket, are guesses.",
        SECONDS,
        [*percentiles(TPOT), target("tpot")],
        width,
    )


def itl(width: int = 12) -> Timeseries:
    return graph(
        "Inter-token latency",
        "Time between two tokens in a row: a p99 far above the p50 means text that stutters.",
        SECONDS,
        [*percentiles(ITL), target("itl")],
        width,
    )


def whole_request(width: int = 12) -> Timeseries:
    return graph(
        "Whole request",
        "From a request's arrival at the engine to its last token: the longer the answers, the longer it is.",
        SECONDS,
        [*percentiles(WHOLE), target("e2e")],
        width,
    )
