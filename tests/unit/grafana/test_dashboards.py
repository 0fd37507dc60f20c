"""The committed dashboards: as their source makes them, readable, and portable to any data source."""

import importlib.util
import itertools
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard

GRAFANA = Path(__file__).parents[3] / "grafana"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))

Panel = dict[str, Any]


def load_source() -> ModuleType:
    """The module grafana/dashboards.py, which is a script beside its output and in no package."""
    name = "vllmstack_dashboards"
    specification = importlib.util.spec_from_file_location(name, GRAFANA / "dashboards.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


SOURCE = load_source()


def panels(file: Path) -> list[Panel]:
    """All panels but the headings of rows."""
    return [panel for panel in json.loads(file.read_text())["panels"] if panel["type"] != "row"]


PANELS = [pytest.param(panel, id=f"{file.stem}: {panel['title']}") for file in FILES for panel in panels(file)]


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def test_every_dashboard_of_the_source_is_committed_and_no_other() -> None:
    assert [file.name for file in FILES] == sorted(SOURCE.DASHBOARDS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_committed_json_is_what_the_source_makes(file: Path) -> None:
    made = SOURCE.render(SOURCE.DASHBOARDS[file.name]().build())

    assert file.read_text() == made, "run `python grafana/dashboards.py` and commit what it writes"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_json_loads_with_the_sdks_types(file: Path) -> None:
    document = json.loads(file.read_text())

    board = Dashboard.from_json(document)

    assert board.title == document["title"]
    assert len(board.panels or []) == len(document["panels"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_two_panels_overlap_and_none_leaves_the_grid(file: Path) -> None:
    places = [(panel["title"], panel["gridPos"]) for panel in json.loads(file.read_text())["panels"]]

    assert [(one, other) for (one, at), (other, there) in itertools.combinations(places, 2) if overlap(at, there)] == []
    assert [title for title, at in places if at["x"] + at["w"] > 24] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_panel_ids_are_unique(file: Path) -> None:
    ids = [panel["id"] for panel in json.loads(file.read_text())["panels"]]

    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_data_source_model_and_replica_are_variables(file: Path) -> None:
    variables = {variable["name"]: variable for variable in json.loads(file.read_text())["templating"]["list"]}

    assert {"datasource", "model", "replica"} <= set(variables)
    assert variables["datasource"]["type"] == "datasource"
    assert all(variables[name]["includeAll"] and variables[name]["multi"] for name in ("model", "replica"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_links_to_other_dashboards_keep_time_range_and_variables(file: Path) -> None:
    links = json.loads(file.read_text())["links"]

    assert links
    assert all(link["keepTime"] and link["includeVars"] for link in links)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_nothing_can_be_changed_in_the_browser(file: Path) -> None:
    assert json.loads(file.read_text())["editable"] is False


def test_the_first_row_of_the_stack_needs_no_scrolling() -> None:
    top = [panel for panel in panels(GRAFANA / "dashboards" / "stack.json") if panel["gridPos"]["y"] == 0]

    assert [panel["title"] for panel in top] == [
        "Replicas up / expected",
        "Requests",
        "Error ratio",
        "TTFT p95",
        "TPOT p95",
        "Output tokens",
    ]
    assert sum(panel["gridPos"]["w"] for panel in top) == 24


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_has_a_title_one_sentence_and_a_unit(panel: Panel) -> None:
    assert panel["title"]
    assert re.fullmatch(r"[A-Z][^.]*\.", re.sub(r"\d\.\d", "", panel["description"]))
    assert panel["fieldConfig"]["defaults"]["unit"]


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_and_its_queries_use_the_chosen_data_source(panel: Panel) -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}

    assert panel["datasource"] == chosen
    assert panel["targets"]
    assert all(target["datasource"] == chosen for target in panel["targets"])


@pytest.mark.parametrize("panel", PANELS)
def test_a_query_filters_by_model_and_takes_rates_over_the_rate_interval(panel: Panel) -> None:
    for target in panel["targets"]:
        selectors = re.findall(r"\{([^}]*)\}", target["expr"])
        ranges = re.findall(r"\[([^\]]*)\]", target["expr"])
        assert selectors
        assert all('model=~"$model"' in selector for selector in selectors)
        assert set(ranges) <= {"$__rate_interval"}
        assert len(ranges) == len(re.findall(r"\b(?:rate|increase)\(", target["expr"]))


@pytest.mark.parametrize("panel", PANELS)
def test_queries_of_one_panel_are_told_apart_in_its_legend(panel: Panel) -> None:
    legends = [target["legendFormat"] for target in panel["targets"]]

    assert all(legends)
    assert len(set(legends)) == len(legends)


def test_grafana_is_provisioned_read_only() -> None:
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/dashboards.yml").read_text())["providers"]
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]

    assert provider["allowUiUpdates"] is False
    assert source["editable"] is False
    assert source["jsonData"]["timeInterval"] == "${VLLMSTACK_SCRAPE_SECONDS}s"
