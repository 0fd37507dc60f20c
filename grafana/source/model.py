"""Model: how fast does a model answer, and which phase of a request takes the time?"""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from grafana.source import latencies
from grafana.source.board import dashboard
from grafana.source.latencies import ITL, TPOT, TTFT
from grafana.source.queries import (
    ENGINES,
    MODELS,
    burn,
    heat,
    mean,
    mean_and_high,
    quantile,
    query,
    rate,
)
from grafana.source.shapes import (
    COUNT,
    RATIO,
    RED,
    REQUESTS_PER_SECOND,
    SECONDS,
    TIMES,
    TOKENS,
    TOKENS_PER_SECOND,
    YELLOW,
    Heatmap,
    Stat,
    Timeseries,
    graph,
    heatmap,
    limited,
    opens,
    stacked,
    stat,
)
from grafana.source.stack import queue_time, tokens

QUEUE = "vllm:request_queue_time_seconds"
PREFILL = "vllm:request_prefill_time_seconds"
DECODE = "vllm:request_decode_time_seconds"
PROMPT = "vllm:request_prompt_tokens"
ANSWER = "vllm:request_generation_tokens"


# Top row: how fast does it answer?


def finished_now() -> Stat:
    return stat(
        "Requests finished",
        "Requests that the selected replicas finish a second, for whatever reason.",
        REQUESTS_PER_SECOND,
        [query(rate("vllm:request_success_total", ENGINES), "finished")],
    )


def itl_now() -> Stat:
    return stat(
        "ITL p99",
        "Time between two tokens in a row that 99 % of them stay under: what a reader sees as a pause.",
        SECONDS,
        [query(quantile(0.99, ITL), "p99")],
    )


# Latency


def ttft_spread() -> Heatmap:
    return heatmap(
        "Time to first token, spread",
        "First tokens a second by how long they took: two bands are two kinds of requests.",
        SECONDS,
        heat(TTFT),
    )


def tpot_spread() -> Heatmap:
    return heatmap(
        "Time per output token, spread",
        "Requests that ended a second by their mean time per token after the first.",
        SECONDS,
        heat(TPOT),
    )


def itl_spread() -> Heatmap:
    return heatmap(
        "Inter-token latency, spread",
        "Tokens a second by the time since the one before: a second band is prefills of others in between.",
        SECONDS,
        heat(ITL),
    )


# Phases


def phases() -> Timeseries:
    panel = graph(
        "Where the time goes",
        "Mean time that a request of the selected models spends in the queue, in prefill and in decode.",
        SECONDS,
        [query(mean(QUEUE), "queue"), query(mean(PREFILL), "prefill"), query(mean(DECODE), "decode")],
        width=6,
    )
    return stacked(panel)


def prefill_time() -> Timeseries:
    return graph(
        "Prefill time",
        "From being scheduled to the first token; percentiles below 0.3 s, the first bucket, are guesses.",
        SECONDS,
        mean_and_high(PREFILL),
        width=6,
    )


def decode_time() -> Timeseries:
    return graph(
        "Decode time",
        "From the first token to the last; percentiles below 0.3 s, the first bucket, are guesses.",
        SECONDS,
        mean_and_high(DECODE),
        width=6,
    )


# Tokens


def prompt_tokens_by_source() -> Timeseries:
    panel = graph(
        "Prompt tokens by source",
        "Prompt tokens a second that were computed, found in the prefix cache, or fetched from another engine's.",
        TOKENS_PER_SECOND,
        [query(rate("vllm:prompt_tokens_by_source_total", ENGINES, "source"), "{{source}}")],
    )
    return stacked(panel)


def finish_reasons() -> Timeseries:
    panel = graph(
        "Finish reasons",
        "Requests that ended a second: stop is the model's own end, length a limit, abort a client that left.",
        REQUESTS_PER_SECOND,
        [query(rate("vllm:request_success_total", ENGINES, "finished_reason"), "{{finished_reason}}")],
    )
    return stacked(panel)


# Lengths


def prompt_lengths() -> Heatmap:
    return heatmap(
        "Prompt lengths",
        "Requests a second by the tokens of their prompts, those in the cache too.",
        TOKENS,
        heat(PROMPT),
    )


def answer_lengths() -> Heatmap:
    return heatmap(
        "Answer lengths", "Requests a second by the tokens that were generated for them.", TOKENS, heat(ANSWER)
    )


def mean_lengths() -> Timeseries:
    return graph(
        "Mean lengths",
        "Mean tokens of a prompt, of an answer, and of what was asked for at most, by model.",
        TOKENS,
        [
            query(mean(PROMPT, "model"), "{{model}} prompt"),
            query(mean(ANSWER, "model"), "{{model}} answer"),
            query(mean("vllm:request_params_max_tokens", "model"), "{{model}} asked at most"),
        ],
    ).decimals(0)


# Targets


def missed() -> Timeseries:
    return graph(
        "Missed targets",
        "Share of requests of the last 5 minutes that missed each target; for availability, of time.",
        RATIO,
        [query(f"model:slo_bad:ratio_rate5m{MODELS}", "{{model}} {{slo}}")],
    ).max(1)


def burn_fast_and_slow() -> Timeseries:
    panel = graph(
        "Budget burn by window",
        "The worst target's burn over 5 minutes, 1 hour and 6 hours: only what the long windows show too has lasted.",
        TIMES,
        [query(f"max by (model) ({burn(window)})", f"{{{{model}}}} {window}") for window in ("5m", "1h", "6h")],
    )
    return limited(panel, (1, YELLOW), (6, "orange"), (14.4, RED))


def replicas() -> Timeseries:
    return graph(
        "Replicas that serve",
        "Replicas of each model that take requests, and how many the deployment asks for.",
        COUNT,
        [
            query(f"model:replicas_serving:sum{MODELS}", "{{model}} serving"),
            query(f"model:replicas_expected:count{MODELS}", "{{model}} target"),
        ],
    ).decimals(0)


def model() -> Dashboard:
    return dashboard(
        "Model",
        "How fast does a model answer, is that within its targets, and which phase of a request takes the time?",
        [
            finished_now(),
            latencies.ttft_now(),
            latencies.tpot_now(),
            itl_now(),
            latencies.good_requests_now(),
            opens(latencies.output_tokens_now(), "engine"),
        ],
        {
            "Latency": [ttft_spread(), tpot_spread(), itl_spread()],
            "Percentiles": [
                latencies.ttft(width=6),
                latencies.tpot(width=6),
                latencies.itl(width=6),
                latencies.whole_request(width=6),
            ],
            "Phases of a request": [phases(), queue_time(), prefill_time(), decode_time()],
            "Tokens": [tokens(), prompt_tokens_by_source(), finish_reasons()],
            "Lengths": [prompt_lengths(), answer_lengths(), mean_lengths()],
            "Targets": [missed(), burn_fast_and_slow(), replicas()],
        },
    )
