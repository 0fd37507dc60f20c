"""Engine: are the engines full, and what holds them back: the scheduler, the KV cache, or the GPU?"""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from grafana.source.board import dashboard
from grafana.source.queries import ENGINES, REPLICAS, heat, increase, mean, query, rate
from grafana.source.shapes import (
    BYTES_PER_SECOND,
    COUNT,
    FLOPS,
    GREEN,
    PER_SECOND,
    RATIO,
    RED,
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
    steps,
)
from grafana.source.stack import kv_cache_use, running_and_waiting

REPLICA = "model, replica"
STEP = "vllm:iteration_tokens_total"
"""A histogram, in spite of its name: of the tokens that a step computes, prompt and output together."""

PEAK_FLOPS = f"replica:gpu_peak_flops:limit{REPLICAS}"
PEAK_BYTES = f"replica:gpu_peak_bytes:limit{REPLICAS}"


def per_gpu(counter: str) -> str:
    """Mean over a replica's data-parallel ranks of what one GPU does a second."""
    return f"avg by ({REPLICA}) (rate({counter}{ENGINES}[$__rate_interval]))"


def share(part: str, whole: str, by: str = REPLICA) -> str:
    return f"{rate(part, ENGINES, by)} / {rate(whole, ENGINES, by)}"


# Top row: are they full?


def running_now() -> Stat:
    return stat(
        "Running",
        "Requests in the batches of all selected replicas.",
        COUNT,
        [query(f"sum(vllm:num_requests_running{ENGINES})", "running")],
    )


def waiting_now() -> Stat:
    return stat(
        "Waiting",
        "Requests in the queues of all selected replicas, which are full if it does not go back to 0.",
        COUNT,
        [query(f"sum(vllm:num_requests_waiting{ENGINES})", "waiting")],
    ).thresholds(steps(GREEN, (1, YELLOW)))


def kv_cache_now() -> Stat:
    return stat(
        "KV cache of the fullest",
        "Share of its KV cache that running requests fill, of the replica where it is highest.",
        RATIO,
        [query(f"max(vllm:kv_cache_usage_perc{ENGINES})", "used")],
    ).thresholds(steps(GREEN, (0.9, YELLOW), (0.98, RED)))


def hits_now() -> Stat:
    return stat(
        "Prefix cache hits",
        "Share of prompt tokens whose KV blocks were found in the cache.",
        RATIO,
        [query(share("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total", ""), "hits")],
    )


def preemptions_now() -> Stat:
    return stat(
        "Preemptions now",
        "Requests a second that lost their KV cache to others and start again.",
        PER_SECOND,
        [query(rate("vllm:num_preemptions_total", ENGINES), "preemptions")],
    ).thresholds(steps(GREEN, (0.001, YELLOW), (1, RED)))


def step_now() -> Stat:
    return stat(
        "Tokens a step",
        "Mean tokens that one step of an engine computes: the more, the better a GPU is used.",
        TOKENS,
        [query(mean(STEP), "mean")],
    ).decimals(0)


# Scheduler


def waiting_by_reason() -> Timeseries:
    panel = graph(
        "Waiting by reason",
        "Requests that wait for room in the batch or the KV cache (capacity), or for something else (deferred).",
        COUNT,
        [query(f"sum by (reason) (vllm:num_requests_waiting_by_reason{ENGINES})", "{{reason}}")],
    )
    return stacked(panel)


def admission_rejections() -> Timeseries:
    return graph(
        "Refused by the engine",
        "Requests that an engine did not take since the point before, because its queue was at its limit.",
        COUNT,
        [query(increase("vllm:admission_rejections_total", ENGINES, "reason"), "{{reason}}")],
    )


def steps_spread() -> Heatmap:
    return heatmap(
        "Tokens a step, spread",
        "Steps a second by the tokens they computed: the low band is decode alone, the high one has prefills in it.",
        TOKENS,
        heat(STEP),
    )


def tokens_a_step() -> Timeseries:
    return graph(
        "Tokens a step by replica",
        "Mean tokens that one step computes, prompt and output together.",
        TOKENS,
        [query(mean(STEP, REPLICA), "{{replica}}")],
    ).decimals(0)


def steps_a_second() -> Timeseries:
    return graph(
        "Steps by replica",
        "Steps a second: it falls as batches grow, and far below that where the CPU cannot keep up.",
        PER_SECOND,
        [query(rate(f"{STEP}_count", ENGINES, REPLICA), "{{replica}}")],
    )


# KV cache


def preemptions() -> Timeseries:
    return graph(
        "Preemptions",
        "Requests a second that lost their KV cache to others and start again: any at all means too little KV cache.",
        PER_SECOND,
        [query(rate("vllm:num_preemptions_total", ENGINES, REPLICA), "{{replica}}")],
    )


def preemptions_a_request() -> Timeseries:
    return graph(
        "Preemptions a request",
        "How often a request that ended was preempted, on average: what it computed until then was done twice.",
        COUNT,
        [query(mean("vllm:request_num_preemptions", REPLICA), "{{replica}}")],
    )


# Prefix cache


def prefix_hit_rate() -> Timeseries:
    return graph(
        "Prefix cache hit rate",
        "Share of prompt tokens whose KV blocks were found in the cache, so that they needed no prefill.",
        RATIO,
        [query(share("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"), "{{replica}}")],
    ).max(1)


def prefix_tokens() -> Timeseries:
    return graph(
        "Prefix cache, tokens",
        "Prompt tokens a second that were looked up in the cache, and those found.",
        TOKENS_PER_SECOND,
        [
            query(rate("vllm:prefix_cache_queries_total", ENGINES, REPLICA), "{{replica}} asked"),
            query(rate("vllm:prefix_cache_hits_total", ENGINES, REPLICA), "{{replica}} found"),
        ],
    )


def computed_a_request() -> Timeseries:
    return graph(
        "Prefill of a request",
        "Mean prompt tokens of a request, and those of them that had to be computed.",
        TOKENS,
        [
            query(mean("vllm:request_prompt_tokens", REPLICA), "{{replica}} prompt"),
            query(mean("vllm:request_prefill_kv_computed_tokens", REPLICA), "{{replica}} computed"),
        ],
    ).decimals(0)


# Speculative decoding


def acceptance() -> Timeseries:
    accepted, drafted = "vllm:spec_decode_num_accepted_tokens_total", "vllm:spec_decode_num_draft_tokens_total"
    return graph(
        "Speculative acceptance",
        "Share of drafted tokens that the model accepted; what was not is work for nothing.",
        RATIO,
        [query(share(accepted, drafted), "{{replica}}")],
    ).max(1)


def accepted_length() -> Timeseries:
    # The model's own token comes on top of the accepted ones, as vLLM counts it too.
    accepted, drafts = "vllm:spec_decode_num_accepted_tokens_total", "vllm:spec_decode_num_drafts_total"
    return graph(
        "Speculative length",
        "Mean tokens that a step gives a request, the model's own among them: 1 is without any gain.",
        TOKENS,
        [query(f"1 + {share(accepted, drafts)}", "{{replica}}")],
    )


def acceptance_by_position() -> Timeseries:
    accepted = rate("vllm:spec_decode_num_accepted_tokens_per_pos_total", ENGINES, "position")
    drafts = rate("vllm:spec_decode_num_drafts_total", ENGINES)
    return graph(
        "Speculative acceptance by position",
        "Share of drafts accepted up to each position: where it is low, shorter drafts cost less.",
        RATIO,
        [query(f"{accepted} / on () group_left () {drafts}", "position {{position}}")],
    ).max(1)


# Work against the GPU's limits


def flops() -> Timeseries:
    return graph(
        "Estimated FLOPs of a GPU",
        "Operations a second that a replica's work needs per GPU, as vLLM estimates it, and what the GPU can do.",
        FLOPS,
        [
            query(per_gpu("vllm:estimated_flops_per_gpu_total"), "{{replica}}"),
            query(PEAK_FLOPS, "{{replica}} limit"),
        ],
    )


def memory_bytes() -> Timeseries:
    return graph(
        "Estimated bytes of a GPU",
        "Bytes a second that a replica's work moves in GPU memory, as vLLM estimates it, and what the GPU can do.",
        BYTES_PER_SECOND,
        [
            query(per_gpu("vllm:estimated_read_bytes_per_gpu_total"), "{{replica}} read"),
            query(per_gpu("vllm:estimated_write_bytes_per_gpu_total"), "{{replica}} written"),
            query(PEAK_BYTES, "{{replica}} limit"),
        ],
    )


def utilization() -> Timeseries:
    moved = " + ".join(per_gpu(f"vllm:estimated_{way}_bytes_per_gpu_total") for way in ("read", "write"))
    panel = graph(
        "Share of the GPU's limits",
        "FLOPs (MFU) and bytes (MBU) over what the GPU can do: the higher one is what limits, if anything does.",
        RATIO,
        [
            query(
                f"{per_gpu('vllm:estimated_flops_per_gpu_total')} / on (model, replica) {PEAK_FLOPS}", "{{replica}} MFU"
            ),
            query(f"({moved}) / on (model, replica) {PEAK_BYTES}", "{{replica}} MBU"),
        ],
    )
    return limited(panel, (1, RED))


def engine() -> Dashboard:
    return dashboard(
        "Engine",
        "Are the engines full, and what holds them back: the scheduler, the KV cache or the GPU?",
        [
            running_now(),
            waiting_now(),
            kv_cache_now(),
            hits_now(),
            preemptions_now(),
            opens(step_now(), "gpu-and-host"),
        ],
        {
            "Scheduler": [
                running_and_waiting(width=8),
                waiting_by_reason(),
                admission_rejections(),
                steps_spread(),
                tokens_a_step(),
                steps_a_second(),
            ],
            "KV cache": [kv_cache_use(width=8), preemptions(), preemptions_a_request()],
            "Prefix cache": [prefix_hit_rate(), prefix_tokens(), computed_a_request()],
            "Speculative decoding": [acceptance(), accepted_length(), acceptance_by_position()],
            "Work against the GPU's limits": [flops(), memory_bytes(), utilization()],
        },
    )
