"""Stack: are users served, and if not, is it the gateway, the queue or the engines?"""

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from grafana.source import latencies
from grafana.source.board import dashboard
from grafana.source.queries import (
    ENGINES,
    FIRING,
    GATEWAY,
    GATEWAY_REPLICAS,
    MODELS,
    burn,
    mean_and_high,
    or_zero,
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
    TIMES,
    TOKENS_PER_JOULE,
    TOKENS_PER_SECOND,
    WATT_HOURS,
    WATTS,
    YELLOW,
    Stat,
    Timeline,
    Timeseries,
    graph,
    limited,
    opens,
    several,
    stat,
    steps,
    timeline,
)

# The rates of Google's SRE workbook (chapter 5) for a budget of 30 days: at 14.4 an hour uses up 2 % of it, at 6 six
# hours use up 5 %, at 1 it lasts to the end.
BURN = ((1, YELLOW), (6, "orange"), (14.4, RED))

WATT_HOURS_PER_MILLION = "1e6 / 3600"
"""Over tokens a joule: watt-hours for a million tokens."""


# Top rows: are users served, within targets, at what cost?


def replicas_up() -> Stat:
    # Expected: what Prometheus was told to scrape. Up: what the gateway would send a request to; no gateway, none.
    expected = f"count(up{ENGINES})"
    up = f"(sum(vllmstack_gateway_replica_answers{GATEWAY_REPLICAS}) or vector(0))"
    panel = stat(
        "Replicas up / expected",
        "Replicas that answer the gateway's health check, those that the deployment asks for, and the difference.",
        COUNT,
        [query(up, "up"), query(expected, "expected"), query(f"{expected} - {up}", "missing")],
        width=5,
    )
    red_from_one = steps(GREEN, (1, RED)).build()
    return several(panel).override_by_name("missing", [DynamicConfigValue(id_val="thresholds", value=red_from_one)])


def alerts_now() -> Stat:
    return stat(
        "Alerts",
        "Alerts that fire now, those of the whole stack and those of the selected models.",
        COUNT,
        [query(f"count(ALERTS{FIRING}) or vector(0)", "firing")],
        width=3,
    ).thresholds(steps(GREEN, (1, RED)))


def requests_now() -> Stat:
    return stat(
        "Requests",
        "Requests that the gateway answered a second, whatever the answer was.",
        REQUESTS_PER_SECOND,
        [query(rate("vllmstack_gateway_requests_total", GATEWAY), "requests")],
        width=3,
    )


def error_ratio() -> Stat:
    errors = rate("vllmstack_gateway_requests_total", where(GATEWAY, 'code=~"5.."'))
    requests = rate("vllmstack_gateway_requests_total", GATEWAY)
    return stat(
        "Error ratio",
        "Share of requests that the gateway answered with a 5xx status: the stack's own failures, not the clients'.",
        RATIO,
        # A status that never occurred has no series, and no errors must read 0.
        [query(f"({errors} or vector(0)) / {requests}", "errors")],
        width=3,
    ).thresholds(steps(GREEN, (0.001, YELLOW), (0.01, RED)))


def burn_now() -> Stat:
    panel = stat(
        "Budget burn, 1 hour",
        "How fast the worst model uses up each target's error budget: at 1 it lasts its period, at 14.4 two days.",
        TIMES,
        [query(f"max by (slo) ({burn('1h')})", "{{slo}}")],
        width=6,
    )
    return several(panel).decimals(1).thresholds(steps(GREEN, *BURN))


def budget_left() -> Stat:
    panel = stat(
        "Budget left, 3 days",
        "Share of the last 3 days' error budget that the worst model has not used: below 0 the target is missed.",
        RATIO,
        [query(f"min by (slo) (1 - {burn('3d')})", "{{slo}}")],
        width=6,
    )
    return several(panel).decimals(0).thresholds(steps(RED, (0, YELLOW), (0.5, GREEN)))


def tokens_a_joule_now() -> Stat:
    return stat(
        "Tokens a joule",
        "Output tokens of the stack for each joule that its GPUs draw.",
        TOKENS_PER_JOULE,
        [query("stack:tokens_per_joule:ratio_rate5m", "tokens")],
    )


def energy_now() -> Stat:
    return stat(
        "Energy per million tokens",
        "What the GPUs draw for a million output tokens; times your price of energy, that is its share of the cost.",
        WATT_HOURS,
        [query(f"{WATT_HOURS_PER_MILLION} / stack:tokens_per_joule:ratio_rate5m", "energy")],
    )


# Targets


def burn_by_model() -> Timeseries:
    panel = graph(
        "Budget burn by model, 1 hour",
        "How many times faster than allowed each model uses up the error budget of each target.",
        TIMES,
        [query(burn("1h"), "{{model}} {{slo}}")],
        width=12,
    )
    return limited(panel, *BURN)


def alerts_over_time() -> Timeline:
    return timeline(
        "Alerts over time",
        "Which alerts fired when; each has a runbook.",
        {1: ("fires", RED)},
        [query(f"max by (alertname, model, replica) (ALERTS{FIRING})", "{{alertname}} {{model}} {{replica}}")],
        width=12,
    )


# Traffic


def requests_by_status() -> Timeseries:
    return graph(
        "Gateway requests by status",
        "Answers of the gateway a second by HTTP status: 5xx is the stack's failure, 4xx the client's, 429 a limit.",
        REQUESTS_PER_SECOND,
        [query(rate("vllmstack_gateway_requests_total", GATEWAY, "code"), "{{code}}")],
    )


def errors_by_model() -> Timeseries:
    errors = rate("vllmstack_gateway_requests_total", where(GATEWAY, 'code=~"5.."'), "model")
    return graph(
        "Errors by model",
        "Requests a second that the gateway answered with a 5xx status.",
        REQUESTS_PER_SECOND,
        [query(or_zero(errors), "{{model}}")],
    )


def tokens() -> Timeseries:
    return graph(
        "Tokens in and out",
        "Prompt tokens taken in and tokens generated a second, by model.",
        TOKENS_PER_SECOND,
        [
            query(rate("vllm:prompt_tokens_total", ENGINES, "model"), "{{model}} in"),
            query(rate("vllm:generation_tokens_total", ENGINES, "model"), "{{model}} out"),
        ],
    )


# Engines


def output_tokens_by_replica() -> Timeseries:
    return graph(
        "Output tokens by replica",
        "Tokens that each replica generates a second: replicas of one model far apart mean that load is spread badly.",
        TOKENS_PER_SECOND,
        [query(rate("vllm:generation_tokens_total", ENGINES, "model, replica"), "{{replica}}")],
        width=6,
    )


def running_and_waiting(width: int = 6) -> Timeseries:
    return graph(
        "Running and waiting requests",
        "Requests in each replica's batch and in its queue: a queue that stays means the replica is full.",
        COUNT,
        [
            query(f"sum by (model, replica) (vllm:num_requests_running{ENGINES})", "{{replica}} running"),
            query(f"sum by (model, replica) (vllm:num_requests_waiting{ENGINES})", "{{replica}} waiting"),
        ],
        width,
    )


def kv_cache_use(width: int = 6) -> Timeseries:
    panel = graph(
        "KV cache use",
        "Share of each replica's KV cache that running requests fill: at 100 % requests wait or are preempted.",
        RATIO,
        [query(f"max by (model, replica) (vllm:kv_cache_usage_perc{ENGINES})", "{{replica}}")],
        width,
    ).max(1)
    return limited(panel, (0.9, YELLOW), (0.98, RED))


def queue_time(width: int = 6) -> Timeseries:
    # No p50: vLLM's first bucket ends at 0.3 s, and a quantile within it reads 0.15 s for a queue that is empty.
    return graph(
        "Queue time",
        "How long requests wait in the engine; percentiles below 0.3 s, the first bucket, are guesses.",
        SECONDS,
        mean_and_high("vllm:request_queue_time_seconds"),
        width,
    )


# Cost


def power() -> Timeseries:
    return graph(
        "Power of all GPUs",
        "What the machine's GPUs draw together, and what they may.",
        WATTS,
        [
            query('sum(vllmstack_gpu_power_watts{job="gpu"})', "drawn"),
            query('sum(vllmstack_gpu_power_limit_watts{job="gpu"})', "power limit"),
        ],
    )


def tokens_a_joule() -> Timeseries:
    return graph(
        "Tokens a joule by model",
        "Output tokens for each joule that the GPUs of a model draw: it rises with the batch.",
        TOKENS_PER_JOULE,
        [query(f"model:tokens_per_joule:ratio_rate5m{MODELS}", "{{model}}")],
    )


def energy() -> Timeseries:
    return graph(
        "Energy per million tokens by model",
        "What a model's GPUs draw for a million output tokens.",
        WATT_HOURS,
        [query(f"{WATT_HOURS_PER_MILLION} / model:tokens_per_joule:ratio_rate5m{MODELS}", "{{model}}")],
    )


def stack() -> Dashboard:
    return dashboard(
        "Stack",
        "Are users served, and if not, is it the gateway, the queue or the engines?",
        [
            opens(replicas_up(), "gateway"),
            alerts_now(),
            opens(requests_now(), "gateway"),
            opens(error_ratio(), "gateway"),
            opens(latencies.ttft_now(width=3), "model"),
            opens(latencies.tpot_now(width=3), "model"),
            opens(latencies.output_tokens_now(width=4), "engine"),
            opens(latencies.good_requests_now(), "model"),
            burn_now(),
            budget_left(),
            opens(tokens_a_joule_now(), "gpu-and-host"),
            opens(energy_now(), "gpu-and-host"),
        ],
        {
            "Targets": [burn_by_model(), alerts_over_time()],
            "What users feel": [latencies.ttft(), latencies.tpot(), latencies.itl(), latencies.whole_request()],
            "Traffic": [requests_by_status(), errors_by_model(), tokens()],
            "Engines": [output_tokens_by_replica(), running_and_waiting(), kv_cache_use(), queue_time()],
            "Cost": [power(), tokens_a_joule(), energy()],
        },
    )
