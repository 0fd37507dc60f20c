"""``prometheus/rules/targets.yml``: what the deployment promises, as series that the rules and dashboards compare with.

A target of the load test holds under one load; in operation there is any. So of a model's targets the loosest limit of
each percentile is what is promised at all times. The share of requests that may miss it is what the percentile leaves
over: `p95: 0.2` allows 5 % to be slower than 0.2 s.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from vllmstack.deployment.model import Model, Percentiles
from vllmstack.engine_metrics import LATENCY_BUCKETS, TPOT, TTFT
from vllmstack.planning.gpus import gpu_types
from vllmstack.planning.plan import Plan
from vllmstack.render.header import header

RULES_FILE = "prometheus/rules/targets.yml"

WINDOWS = ("5m", "30m", "1h", "6h", "3d")
"""Of the burn rates: two for each of three severities (Google's SRE workbook, chapter 5)."""

AVAILABILITY_BUDGET = 0.001
"""Share of time without any replica, and of requests that fail where no target says: 43 minutes a month."""

QUANTILES = {"mean": "mean", "p50": "0.5", "p90": "0.9", "p95": "0.95", "p99": "0.99"}
BUDGETS = {"p99": 0.01, "p95": 0.05, "p90": 0.1}
"""By percentile. Half of all requests is no budget that can burn: p50 and means are shown, and not alerted on."""

LIMITS = {
    "target_ttft_seconds": "ttft_seconds",
    "target_tpot_seconds": "tpot_seconds",
    "target_itl_seconds": "itl_seconds",
    "target_e2e_seconds": "e2e_seconds",
}
HISTOGRAMS = {"ttft": ("ttft_seconds", TTFT), "tpot": ("tpot_seconds", TPOT)}

Rule = dict[str, Any]


def render_targets(plan: Plan) -> dict[str, str]:
    """File by path."""
    deployment = plan.deployment
    groups = [{"name": "targets", "rules": [rule for model in deployment.models for rule in _promises(model)]}]
    for window in WINDOWS:
        rules = [rule for model in deployment.models for rule in _missed(model, window)]
        if rules:
            groups.append({"name": f"missed targets, {window}", "rules": rules})
    hardware = [*_hardware(plan)]
    if hardware:
        groups.append({"name": "hardware", "rules": hardware})
    text = yaml.safe_dump({"groups": groups}, sort_keys=False, width=120)
    return {RULES_FILE: header(deployment) + text}


def loosest(model: Model, section: str) -> dict[str, float]:
    """Seconds by percentile: of all targets of the model the one that is easiest to keep."""
    found: dict[str, float] = {}
    for target in model.targets:
        limits: Percentiles | None = getattr(target, section)
        given = limits.model_dump(exclude_none=True) if limits else {}
        for name, seconds in given.items():
            found[name] = max(seconds, found.get(name, 0.0))
    return found


def _constant(name: str, value: float, **labels: str) -> Rule:
    return {"record": name, "expr": f"vector({value!r})", "labels": labels}


def _promises(model: Model) -> Iterator[Rule]:
    for name, section in LIMITS.items():
        for percentile, seconds in loosest(model, section).items():
            quantile = QUANTILES[percentile]
            yield _constant(f"model:{name}:limit", seconds, model=model.name, quantile=quantile)
    for slo, _, percentile, _ in _alerted(model):
        yield _constant("model:slo_budget:ratio", BUDGETS[percentile], model=model.name, slo=slo)
    allowed = max((target.error_ratio for target in model.targets if target.error_ratio), default=AVAILABILITY_BUDGET)
    yield _constant("model:slo_budget:ratio", allowed, model=model.name, slo="errors")
    yield _constant("model:slo_budget:ratio", AVAILABILITY_BUDGET, model=model.name, slo="availability")


def _alerted(model: Model) -> Iterator[tuple[str, str, str, float]]:
    """What is alerted on: of each latency, its histogram, the strictest percentile that has a budget, and seconds."""
    for slo, (section, histogram) in HISTOGRAMS.items():
        limits = loosest(model, section)
        percentile = next((name for name in BUDGETS if name in limits), None)
        if percentile:
            yield slo, histogram, percentile, limits[percentile]


def _missed(model: Model, window: str) -> Iterator[Rule]:
    for slo, histogram, _, seconds in _alerted(model):
        yield {
            "record": f"model:slo_bad:ratio_rate{window}",
            "expr": _share_above(histogram, seconds, model.name, window),
            "labels": {"model": model.name, "slo": slo},
        }


def _share_above(histogram: str, seconds: float, model: str, window: str) -> str:
    """The share of values above a limit, by a straight line within the bucket that holds it, as quantiles are."""

    def below(bound: float) -> str:
        name = "+Inf" if bound == float("inf") else repr(bound)
        selector = f'{{job="engines", model="{model}", le="{name}"}}'
        return f"sum(rate({histogram}_bucket{selector}[{window}]))"

    total = f'sum(rate({histogram}_count{{job="engines", model="{model}"}}[{window}]))'
    parts = [
        below(bound) if share == 1 else f"{share:.6g} * {below(bound)}"
        for bound, share in _between(LATENCY_BUCKETS[histogram], seconds)
    ]
    return f"1 - ({' + '.join(parts)}) / {total}"


def _between(bounds: Sequence[float], seconds: float) -> list[tuple[float, float]]:
    """Buckets whose counts, times these shares, are the values below a limit. Above the last bound all are."""
    if seconds in bounds:
        return [(seconds, 1.0)]
    if seconds > bounds[-1]:
        return [(float("inf"), 1.0)]
    if seconds < bounds[0]:
        return [(bounds[0], seconds / bounds[0])]
    low, high = next((low, high) for low, high in itertools.pairwise(bounds) if low < seconds < high)
    share = (seconds - low) / (high - low)
    return [(low, 1 - share), (high, share)]


def _hardware(plan: Plan) -> Iterator[Rule]:
    """What the GPUs of each replica could do, and which those are, for what is drawn beside it."""
    seen = {gpu.id: gpu for gpu in plan.inventory.gpus} if plan.inventory else {}
    for replica in plan.replicas:
        labels = {"model": replica.model.name, "replica": replica.service}
        for gpu in replica.gpu_ids:
            yield _constant("replica:gpu:info", 1, **labels, gpu=str(gpu))
        kinds = {seen[gpu].short_name for gpu in replica.gpu_ids if gpu in seen}
        rows = [gpu_types()[kind] for kind in kinds if kind in gpu_types()]
        if len(kinds) == 1 and rows:
            yield _constant("replica:gpu_peak_flops:limit", rows[0].flops_per_second, **labels)
            yield _constant("replica:gpu_peak_bytes:limit", rows[0].bandwidth_bytes_per_second, **labels)
