"""What pint (https://cloudflare.github.io/pint/) would complain about, as far as the rules' text tells."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.prometheus.test_metrics_exist import RULES, named

ALERTS = [rule for rule in RULES if "alert" in rule]
IDS = [f"{rule['alert']} {rule['labels'].get('burn', '')}".strip() for rule in ALERTS]
OF_TARGETS = {"job", "instance"}
"""What every scraped series has."""

COMPARISON = re.compile(r"[<>]|==|\bunless\b")


@pytest.mark.parametrize("rule", ALERTS, ids=IDS)
def test_an_alert_compares_something(rule: dict[str, Any]) -> None:
    """alerts/comparison: else it fires as long as there is any sample."""
    assert COMPARISON.search(rule["expr"]) or rule["alert"] == "Watchdog"


@pytest.mark.parametrize("rule", ALERTS, ids=IDS)
def test_a_template_names_labels_that_are_left(rule: dict[str, Any]) -> None:
    """alerts/template: an aggregation drops all labels but those that it names."""
    text = " ".join(rule["annotations"].values())
    wanted = set(re.findall(r"\$labels\.(\w+)", text))
    aggregated = re.match(r"(sum|min|max|avg|count)\b", rule["expr"])
    _, mentioned = named(rule["expr"])

    left = mentioned | set(rule["labels"])
    if not aggregated:
        left |= OF_TARGETS | {"model", "replica", "mountpoint"}

    assert wanted <= left


@pytest.mark.parametrize("rule", ALERTS, ids=IDS)
def test_an_alert_says_who_is_told(rule: dict[str, Any]) -> None:
    """alerts/annotation and rule/label."""
    assert rule["labels"]["severity"] in ("page", "warn", "none")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("record") or rule["alert"])
def test_a_counter_is_never_taken_as_it_is(rule: dict[str, Any]) -> None:
    """promql/counter and promql/rate: a counter falls to zero at every restart."""
    for counter in re.findall(r"[\w:]+_total\b(?!_)", rule["expr"]):
        assert re.search(rf"\b(rate|increase)\({counter}\b", re.sub(r"\s+", "", rule["expr"])), counter


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("record") or rule["alert"])
def test_a_regular_expression_has_no_anchors_of_its_own(rule: dict[str, Any]) -> None:
    """promql/regexp: Prometheus anchors both ends."""
    assert not re.search(r'[=!]~"(\^|[^"]*\$")', rule["expr"])


def test_no_two_rules_are_the_same() -> None:
    """rule/duplicate."""
    seen = [
        (rule.get("record") or rule["alert"], rule["expr"], sorted(rule.get("labels", {}).items())) for rule in RULES
    ]

    assert [one for one in seen if seen.count(one) > 1] == []


def test_groups_have_names_of_their_own() -> None:
    """rule/name, over all files that Prometheus reads."""
    folder = Path(__file__).parents[3] / "prometheus" / "rules"
    names = [group["name"] for file in folder.glob("*.yml") for group in yaml.safe_load(file.read_text())["groups"]]

    assert len(set(names)) == len(names)
