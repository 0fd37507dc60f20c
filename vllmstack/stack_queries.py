"""What `vllmstack top` asks Prometheus: PromQL by the name of the figure, and all of it as one question.

A figure is called ``LEVEL.FIELD``: the level (model, replica, gpu, alert) says which labels are left, the field is that
of the level's class in ``stack_view``. The dashboards below grafana/ ask the same of the same series.
"""

from collections.abc import Mapping

from vllmstack.engine_metrics import (
    GENERATION_TOKENS,
    KV_CACHE,
    PREEMPTIONS,
    PREFIX_HITS,
    PREFIX_QUERIES,
    PROMPT_TOKENS,
    RUNNING,
    TPOT,
    TTFT,
    WAITING,
)

FIGURE = "figure"
"""The label that tells the parts of the one question's answer apart."""

ENGINES = '{job="engines"}'
GATEWAY = '{job="gateway"}'
GPU = '{job="gpu"}'
REQUESTS = "vllmstack_gateway_requests_total"


def window_seconds(scrape_seconds: int) -> int:
    """What rates are taken over: a minute, or four scrapes where they are rare, so that one may be missing."""
    return max(60, 4 * scrape_seconds)


def expressions(window_seconds: int) -> dict[str, str]:
    """PromQL by figure; targets are judged by the recorded rules, over five minutes, as their alerts are."""
    window = f"[{window_seconds}s]"

    def rate(metric: str, selector: str, by: str) -> str:
        return f"sum by ({by}) (rate({metric}{selector}{window}))"

    def quantile(value: float, histogram: str) -> str:
        return f"histogram_quantile({value:g}, {rate(f'{histogram}_bucket', ENGINES, 'model, le')})"

    def answered(condition: str) -> str:
        return rate(REQUESTS, f'{{job="gateway", model!="none"{condition}}}', "model")

    return {
        "model.requests_per_second": answered(""),
        "model.errors_per_second": answered(', code=~"5.."'),
        "model.refused_per_second": answered(', code="429"'),
        "model.in_flight": f"sum by (model) (vllmstack_gateway_requests_in_flight{GATEWAY})",
        "model.queued": f"sum by (model) (vllmstack_gateway_queued_requests{GATEWAY})",
        "model.ttft_p50_seconds": quantile(0.5, TTFT),
        "model.ttft_p95_seconds": quantile(0.95, TTFT),
        "model.tpot_p50_seconds": quantile(0.5, TPOT),
        "model.tpot_p95_seconds": quantile(0.95, TPOT),
        "model.output_tokens_per_second": rate(GENERATION_TOKENS, ENGINES, "model"),
        "model.prompt_tokens_per_second": rate(PROMPT_TOKENS, ENGINES, "model"),
        "model.prefix_hit_ratio": f"{rate(PREFIX_HITS, ENGINES, 'model')} / {rate(PREFIX_QUERIES, ENGINES, 'model')}",
        "model.within_targets_ratio": '1 - max by (model) (model:slo_bad:ratio_rate5m{slo=~"ttft|tpot"})',
        "replica.up": f"max by (model, replica) (up{ENGINES})",
        "replica.takes_requests": f"max by (model, replica) (vllmstack_gateway_replica_takes_requests{GATEWAY})",
        "replica.answers": f"max by (model, replica) (vllmstack_gateway_replica_answers{GATEWAY})",
        "replica.running": f"sum by (model, replica) ({RUNNING}{ENGINES})",
        "replica.waiting": f"sum by (model, replica) ({WAITING}{ENGINES})",
        "replica.kv_cache_ratio": f"max by (model, replica) ({KV_CACHE}{ENGINES})",
        "replica.output_tokens_per_second": rate(GENERATION_TOKENS, ENGINES, "model, replica"),
        "replica.preemptions_per_second": rate(PREEMPTIONS, ENGINES, "model, replica"),
        "gpu.utilization_ratio": f"max by (gpu) (vllmstack_gpu_utilization_ratio{GPU})",
        "gpu.memory_used_bytes": f"max by (gpu) (vllmstack_gpu_memory_used_bytes{GPU})",
        "gpu.memory_total_bytes": f"max by (gpu) (vllmstack_gpu_memory_total_bytes{GPU})",
        "gpu.power_watts": f"max by (gpu) (vllmstack_gpu_power_watts{GPU})",
        "gpu.temperature_celsius": f"max by (gpu) (vllmstack_gpu_temperature_celsius{GPU})",
        # The watchdog fires while alerting works.
        "alert.firing": 'ALERTS{alertstate="firing", alertname!="Watchdog"}',
    }


def question(by_figure: Mapping[str, str]) -> str:
    """All expressions as one, each one's samples with its figure as a label: one process and one evaluation for all."""
    return "\nor ".join(
        f'label_replace({expression}, "{FIGURE}", "{figure}", "", "")' for figure, expression in by_figure.items()
    )
