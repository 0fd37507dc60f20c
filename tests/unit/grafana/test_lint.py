"""Rules of https://github.com/grafana/dashboard-linter, by its names; grafana/dashboards/.lint says which are left out.

Whether a query is valid PromQL (target-promql-rule) promtool says, in tests/prometheus.
"""

import re
from typing import Any

import pytest
import yaml

from tests.unit.grafana.boards import BOARDS, DATA_SOURCE, GRAFANA, TARGETS, Document

COUNTER = re.compile(r"\w+(:\w+)?_(total|count|sum|bucket)")
"""By its name. Recorded series have two colons; a gauge of this stack ends in its unit."""

OF_NO_MODEL = {"vllmstack_gateway_connections"}


def selected(expression: str) -> list[tuple[str, str]]:
    """Metric and matchers of each selector."""
    return re.findall(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}", expression)


def recorded(metric: str) -> bool:
    return metric.count(":") == 2


@pytest.mark.parametrize("board", BOARDS)
def test_template_datasource_rule(board: Document) -> None:
    (source,) = [one for one in board["templating"]["list"] if one["type"] == "datasource"]

    assert (source["name"], source["label"], source["query"]) == ("datasource", "Data source", "prometheus")


@pytest.mark.parametrize("board", BOARDS)
def test_template_job_and_instance_rule_for_model_and_replica(board: Document) -> None:
    variables = {one["name"]: one for one in board["templating"]["list"] if one["type"] == "query"}

    assert {"model", "replica"} <= set(variables)
    for name, variable in variables.items():
        assert variable["datasource"] == DATA_SOURCE
        assert variable["label"] == name.capitalize()
        assert variable["multi"]
        assert variable["includeAll"]
        assert variable["allValue"] == ".+"


@pytest.mark.parametrize("board", BOARDS)
def test_template_label_promql_rule(board: Document) -> None:
    for variable in (one for one in board["templating"]["list"] if one["type"] == "query"):
        assert re.fullmatch(r'label_values\([\w:]+\{job="\w+"[^}]*\}, \w+\)', variable["query"])


@pytest.mark.parametrize("board", BOARDS)
def test_template_on_time_change_reload_rule(board: Document) -> None:
    assert {one["refresh"] for one in board["templating"]["list"] if one["type"] == "query"} == {2}


@pytest.mark.parametrize("board", BOARDS)
def test_uneditable_dashboard(board: Document) -> None:
    assert board["editable"] is False


@pytest.mark.parametrize("board", BOARDS)
def test_a_dashboard_has_every_variable_that_it_uses(board: Document) -> None:
    texts = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    texts += [mark["target"]["expr"] for mark in board["annotations"]["list"]]
    texts += [variable["query"] for variable in board["templating"]["list"]]

    used = {name for text in texts for name in re.findall(r"\$(\w+)", text)} - {"__rate_interval"}

    assert used <= {variable["name"] for variable in board["templating"]["list"]}


@pytest.mark.parametrize("target", TARGETS)
def test_target_rate_interval_rule(target: dict[str, Any]) -> None:
    ranges = re.findall(r"\[([^\]]*)\]", target["expr"])

    assert set(ranges) <= {"$__rate_interval"}
    assert len(ranges) == len(re.findall(r"\b(?:rate|increase|avg_over_time)\(", target["expr"]))


@pytest.mark.parametrize("target", TARGETS)
def test_target_counter_agg_rule(target: dict[str, Any]) -> None:
    in_rates = re.findall(r"\b(?:rate|increase)\(([\w:]+)\{[^}]*\}\[", target["expr"])

    assert in_rates == [metric for metric, _ in selected(target["expr"]) if COUNTER.fullmatch(metric)]


@pytest.mark.parametrize("target", TARGETS)
def test_target_job_rule_each_selector_names_its_job(target: dict[str, Any]) -> None:
    assert selected(target["expr"]) or target["expr"].count(":") >= 2
    for metric, matchers in selected(target["expr"]):
        assert ("job=" in matchers) != (recorded(metric) or metric == "ALERTS")


@pytest.mark.parametrize("target", TARGETS)
def test_target_instance_rule_what_is_of_a_model_follows_the_chosen_ones(target: dict[str, Any]) -> None:
    for metric, matchers in selected(target["expr"]):
        of_a_model = re.search(r'job="(engines|gateway|containers)"', matchers) or metric.startswith(
            ("model:", "replica:")
        )
        if of_a_model and metric not in OF_NO_MODEL and "timestamp" not in metric:
            assert re.search(r'model=~"\$model\|?"', matchers)


@pytest.mark.parametrize("target", TARGETS)
def test_brackets_are_closed(target: dict[str, Any]) -> None:
    for opened, closed in ("()", "{}", "[]"):
        assert target["expr"].count(opened) == target["expr"].count(closed)


def test_every_exclusion_has_a_reason_and_is_a_rule() -> None:
    exclusions = yaml.safe_load((GRAFANA / "dashboards/.lint").read_text())["exclusions"]

    assert all(one["reason"] for one in exclusions.values())
    assert set(exclusions) == {
        "template-job-rule",
        "template-instance-rule",
        "target-job-rule",
        "target-instance-rule",
        "panel-units-rule",
    }
