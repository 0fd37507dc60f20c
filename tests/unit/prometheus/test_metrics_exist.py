"""Contract: every metric and label that a dashboard or a rule names is in a capture of what serves it.

The captures are real answers of /metrics; CONTRIBUTING and docs/concepts/monitoring.md say how to renew them.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[3]
CAPTURES = {
    "engines": ROOT / "tests/captures/vllm-0.32.0-metrics.txt",
    "gateway": ROOT / "tests/captures/gateway-metrics.txt",
}
TARGET_LABELS = {"job", "instance", "model", "replica"}
"""From prometheus.yml and the rendered targets; the gateway's own metrics carry model and replica themselves."""

WORDS = {"by", "without", "on", "ignoring", "group_left", "group_right", "or", "and", "unless", "bool", "offset"}


def recording_rules() -> dict[str, str]:
    """Expression by recorded name."""
    groups = [
        group
        for file in (ROOT / "prometheus/rules").glob("*.yml")
        for group in yaml.safe_load(file.read_text())["groups"]
    ]
    return {rule["record"]: rule["expr"] for group in groups for rule in group["rules"] if "record" in rule}


def expressions() -> Iterator[tuple[str, str]]:
    """Where each expression stands, and the expression."""
    yield from recording_rules().items()
    for file in sorted((ROOT / "grafana/dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", []):
                yield f"{file.stem}: {panel['title']}: {target['legendFormat']}", target["expr"]


def served(capture: Path) -> dict[str, set[str]]:
    """Label names by the sample name that Prometheus stores."""
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(capture.read_text()):
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


def labels_of(expression: str) -> set[str]:
    """What a recorded series can carry: the labels of its groupings."""
    return named(expression)[1]


SERVED = {name: labels for file in CAPTURES.values() if file.is_file() for name, labels in served(file).items()}
KNOWN = SERVED | {name: labels_of(text) for name, text in recording_rules().items()} | {"up": set()}


@pytest.mark.parametrize("source", CAPTURES)
def test_there_is_a_capture(source: str) -> None:
    assert CAPTURES[source].is_file()


@pytest.mark.parametrize("expression", [pytest.param(text, id=place) for place, text in expressions()])
def test_every_metric_and_label_is_served(expression: str) -> None:
    metrics, labels = named(expression)

    missing = sorted(metrics - set(KNOWN))

    assert metrics
    assert missing == [], f"no capture has {', '.join(missing)}"
    assert sorted(labels - TARGET_LABELS - set().union(*(KNOWN[metric] for metric in metrics))) == []


@pytest.mark.parametrize("name", recording_rules())
def test_a_recorded_name_is_level_metric_operations(name: str) -> None:
    assert re.fullmatch(r"(replica|model|stack):[a-z0-9_]+:[a-z0-9_]+", name)


def test_names_are_found_in_an_expression() -> None:
    text = 'sum by (model, le) (rate(vllm:a_bucket{job="up(x)", code=~"5.."}[5m])) / on (model) b:c:d or vector(0)'

    assert named(text) == ({"vllm:a_bucket", "b:c:d"}, {"model", "le", "job", "code"})
