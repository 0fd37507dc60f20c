"""Each panel: readable without its source, and what it shows in its shape."""

import re

import pytest

from grafana.source.needs import NEEDS, need
from grafana.source.queries import TARGET
from tests.unit.grafana.boards import DATA_SOURCE, FILES, PANELS, Panel, document, panels, panels_of

UNITS = {
    *("s", "reqps", "cps", "percentunit", "short", "bytes", "Bps", "flops", "watt", "watth", "celsius", "hertz"),
    *("suffix: tok", "suffix: tok/s", "suffix: tok/J", "suffix:×"),
}
"""Ids of https://github.com/grafana/grafana/blob/main/packages/grafana-data/src/valueFormats/categories.ts, and what
Grafana writes behind a number as it is."""


EVERY_PANEL = [panel for file in FILES for panel in panels(document(file))]


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_has_a_title_one_sentence_and_a_unit(panel: Panel) -> None:
    assert panel["title"]
    assert re.fullmatch(r"[A-Z][^.]*\.", re.sub(r"\d\.\d", "", panel["description"]))
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_and_its_queries_use_the_chosen_data_source(panel: Panel) -> None:
    assert panel["datasource"] == DATA_SOURCE
    assert panel["targets"]
    assert all(target["datasource"] == DATA_SOURCE for target in panel["targets"])


@pytest.mark.parametrize("panel", PANELS)
def test_queries_of_one_panel_are_told_apart(panel: Panel) -> None:
    legends = [target["legendFormat"] for target in panel["targets"]]
    ids = [target["refId"] for target in panel["targets"]]

    assert all(legends)
    assert len(set(legends)) == len(legends)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("panel", panels_of("timeseries"))
def test_a_limit_is_a_dashed_line_beside_what_it_limits(panel: Panel) -> None:
    (dashes,) = panel["fieldConfig"]["overrides"]
    pattern = re.compile(dashes["matcher"]["options"].strip("/"))
    properties = {one["id"]: one["value"] for one in dashes["properties"]}

    assert dashes["matcher"]["id"] == "byRegexp"
    assert properties["custom.lineStyle"]["fill"] == "dash"
    assert pattern.search(TARGET)
    assert not all(pattern.search(target["legendFormat"]) for target in panel["targets"])


@pytest.mark.parametrize("panel", panels_of("timeseries"))
def test_thresholds_of_a_graph_are_seen(panel: Panel) -> None:
    defaults = panel["fieldConfig"]["defaults"]

    shown = defaults["custom"].get("thresholdsStyle", {}).get("mode") == "dashed"

    assert shown == (len(defaults.get("thresholds", {}).get("steps", [])) > 1)


@pytest.mark.parametrize("panel", panels_of("stat"))
def test_a_number_that_is_none_is_not_hidden_by_an_old_one(panel: Panel) -> None:
    assert panel["options"]["reduceOptions"]["calcs"] == ["last"]
    assert panel["fieldConfig"]["defaults"]["noValue"] == "no data"


@pytest.mark.parametrize("panel", panels_of("heatmap"))
def test_a_heatmap_shows_a_histograms_own_buckets(panel: Panel) -> None:
    (target,) = panel["targets"]

    assert panel["options"]["calculate"] is False
    assert panel["options"]["yAxis"]["unit"] in UNITS
    assert target["format"] == "heatmap"
    assert target["legendFormat"] == "{{le}}"
    assert re.fullmatch(r"sum by \(le\) \(rate\([\w:]+_bucket\{[^}]*\}\[\$__rate_interval\]\)\)", target["expr"])


@pytest.mark.parametrize("panel", panels_of("state-timeline"))
def test_a_state_has_words_and_a_colour(panel: Panel) -> None:
    (mapping,) = panel["fieldConfig"]["defaults"]["mappings"]

    assert mapping["type"] == "value"
    assert all(state["text"] and state["color"] for state in mapping["options"].values())


@pytest.mark.parametrize("name", NEEDS)
def test_what_needs_something_is_a_panel_or_a_query_that_there_is(name: str) -> None:
    titles = {panel["title"] for panel in EVERY_PANEL}
    legends = {target["legendFormat"] for panel in EVERY_PANEL for target in panel["targets"]}

    assert name in titles | legends


def test_a_need_is_found_by_title_or_by_legend() -> None:
    assert need("Splits", "{{split}} to {{model}}") == "a split in the deployment"
    assert need("Time to first token", TARGET) == "a latency target in the deployment"
    assert need("Time to first token", "{{model}} p95") is None
