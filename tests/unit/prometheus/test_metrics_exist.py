"""Contract: every metric and label that a dashboard, a rule or a command names is in a capture of what serves it.

The captures are real answers of /metrics; CONTRIBUTING and docs/concepts/monitoring.md say how to renew them.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from loadtest.exporter import RunCollector
from tests.unit.loadtest.runs import make_run
from vllmstack import engine_metrics, stack_queries
from vllmstack.deployment.model import Deployment
from vllmstack.planning.gpus import gpu_type
from vllmstack.planning.inventory import Inventory, assume_gpus
from vllmstack.planning.placement import place
from vllmstack.planning.plan import Plan
from vllmstack.render.targets import render_targets

ROOT = Path(__file__).parents[3]
CAPTURES = {
    "engines": ROOT / "tests/captures/vllm-0.32.0-metrics.txt",
    "gateway": ROOT / "tests/captures/gateway-metrics.txt",
    "containers": ROOT / "tests/captures/container-exporter-metrics.txt",
    "host": ROOT / "tests/captures/node-exporter-metrics.txt",
    "gpu": ROOT / "tests/captures/gpu-exporter-metrics.txt",
    "prometheus": ROOT / "tests/captures/prometheus-metrics.txt",
    "alertmanager": ROOT / "tests/captures/alertmanager-metrics.txt",
}
TARGET_LABELS = {"job", "instance", "model", "replica"}
"""From prometheus.yml and the rendered targets; the gateway's own metrics carry model and replica themselves."""

ONLY_WITH = {
    "vllm:spec_decode_num_drafts_total": set(),  # speculative decoding; vllm/v1/spec_decode/metrics.py of the release
    "vllm:spec_decode_num_draft_tokens_total": set(),
    "vllm:spec_decode_num_accepted_tokens_total": set(),
    "vllm:spec_decode_num_accepted_tokens_per_pos_total": {"position"},
    "vllmstack_gateway_split_requests_total": {"split", "model"},  # a split, and a mirror, in the deployment
    "vllmstack_gateway_mirrored_total": {"model"},
    "vllmstack_gateway_upstream_retries_total": {"model", "replica"},  # a replica that failed a request
    "vllmstack_gateway_prompt_tokens_matched_total": {"model"},  # more than one replica, and a prefix seen before
    "vllmstack_container_cpu_limit_cores": {"service"},  # a container with a CPU limit
    "vllmstack_certificate_expires_timestamp_seconds": set(),  # TLS
    "ALERTS": {"alertstate", "alertname", "severity"},  # Prometheus' own, while an alert is pending or fires
}
"""Labels of what no capture has, because the captured stack never counts it."""

WORDS = {"by", "without", "on", "ignoring", "group_left", "group_right", "or", "and", "unless", "bool", "offset"}


def rules() -> list[dict[str, Any]]:
    """Those that are committed, and those that a deployment's targets and GPUs become."""
    limits = {"p50": 0.1, "p95": 0.2}
    target = {
        "load": {"concurrency": 4},
        **dict.fromkeys(("ttft_seconds", "tpot_seconds", "itl_seconds", "e2e_seconds"), limits),
    }
    model = {"name": "llama", "source": {"hub": "org/llama"}, "targets": [target]}
    deployment = Deployment.model_validate({"name": "full", "models": [model]})
    machine = assume_gpus(Inventory(memory_bytes=1 << 36, core_ids=(0,)), gpu_type("H200"), [0])
    plan = Plan(deployment=deployment, replicas=place(deployment.models, core_ids=(0,)), inventory=machine)
    texts = [file.read_text() for file in sorted((ROOT / "prometheus/rules").glob("*.yml"))]
    texts += render_targets(plan).values()
    return [rule for text in texts for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


RULES = rules()
RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}


def recorded_labels() -> dict[str, set[str]]:
    """What each recorded series can carry: its own labels, and those that its expression groups by."""
    labels: dict[str, set[str]] = {}
    for rule in RULES:
        if "record" in rule:
            labels.setdefault(rule["record"], set()).update(rule.get("labels", {}), named(rule["expr"])[1])
    # A rule on recorded series keeps theirs.
    for rule in RULES:
        if "record" in rule:
            for metric in named(rule["expr"])[0] & labels.keys():
                labels[rule["record"]] |= labels[metric]
    return labels


def expressions() -> Iterator[tuple[str, str]]:
    """Where each expression stands, and the expression."""
    for rule in RULES:
        yield rule.get("record") or rule["alert"], rule["expr"]
    for file in sorted((ROOT / "grafana/dashboards").glob("*.json")):
        board = json.loads(file.read_text())
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                yield f"{file.stem}: {panel['title']}: {target['legendFormat']}", target["expr"]
        for mark in board["annotations"]["list"]:
            yield f"{file.stem}: {mark['name']}", mark["target"]["expr"]
    for figure, expression in stack_queries.expressions(60).items():
        yield f"vllmstack top: {figure}", expression
    for metric in engine_metrics.STATUS_METRICS:
        yield f"vllmstack status: {metric}", metric


def loadtest_metrics() -> str:
    """What the load test serves while it runs: its exporter is this project's own and needs no capture."""
    registry = CollectorRegistry()
    registry.register(RunCollector(make_run))
    return generate_latest(registry).decode()


def served(text: str) -> dict[str, set[str]]:
    """Label names by the sample name that Prometheus stores."""
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def named(expression: str) -> tuple[set[str], set[str]]:
    """The metrics and the labels that a PromQL expression names.

    What is left without strings, ranges, groupings and selectors is metrics, functions (before `(`) and words.
    """
    bare = re.sub(r'"[^"]*"', '""', expression)
    selectors = re.findall(r"\{([^}]*)\}", bare)
    groupings = re.findall(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", bare)
    labels = {label for selector in selectors for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)}
    labels |= {label.strip() for grouping in groupings for label in grouping.split(",") if label.strip()}
    rest = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
    rest = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", rest)
    metrics = {word for word in re.findall(r"\b[a-zA-Z_:][\w:]*\b(?!\s*\()", rest) if word not in WORDS}
    return metrics, labels


ANSWERS = [*(file.read_text() for file in CAPTURES.values() if file.is_file()), loadtest_metrics()]
SERVED = {name: labels for text in ANSWERS for name, labels in served(text).items()}
KNOWN = SERVED | recorded_labels() | ONLY_WITH | {"up": set()}


@pytest.mark.parametrize("source", CAPTURES)
def test_there_is_a_capture(source: str) -> None:
    assert CAPTURES[source].is_file()


@pytest.mark.parametrize("expression", [pytest.param(text, id=place) for place, text in expressions()])
def test_every_metric_and_label_is_served(expression: str) -> None:
    if re.fullmatch(r"vector\([\d.e+]+\)", expression):
        return  # a constant of the deployment's
    metrics, labels = named(expression)

    missing = sorted(metrics - set(KNOWN))

    assert metrics
    assert missing == [], f"no capture has {', '.join(missing)}"
    assert sorted(labels - TARGET_LABELS - set().union(*(KNOWN[metric] for metric in metrics))) == []


def test_what_only_some_stacks_serve_is_in_no_capture() -> None:
    assert set(ONLY_WITH) & set(SERVED) == set()


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_name_is_level_metric_operations(name: str) -> None:
    assert re.fullmatch(r"(replica|model|stack):[a-z0-9_]+:[a-z0-9_]+", name)


def test_names_are_found_in_an_expression() -> None:
    text = 'sum by (model, le) (rate(vllm:a_bucket{job="up(x)", code=~"5.."}[5m])) / on (model) b:c:d or vector(0)'

    assert named(text) == ({"vllm:a_bucket", "b:c:d"}, {"model", "le", "job", "code"})
