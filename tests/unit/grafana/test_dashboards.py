"""The committed dashboards: as their source makes them, in order, linked, and not to be changed in the browser."""

import itertools
from pathlib import Path

import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.dashboards import DASHBOARDS, render
from tests.unit.grafana.boards import BOARDS, DATA_SOURCE, FILES, GRAFANA, Document, document, panels

UIDS = {document(file)["uid"] for file in FILES}


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def test_every_dashboard_of_the_source_is_committed_and_no_other() -> None:
    assert [file.name for file in FILES] == sorted(DASHBOARDS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_committed_json_is_what_the_source_makes(file: Path) -> None:
    made = render(DASHBOARDS[file.name]().build())

    assert file.read_text() == made, "run `python grafana/dashboards.py` and commit what it writes"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_dashboard_is_found_under_its_files_name(file: Path) -> None:
    assert document(file)["uid"] == f"vllmstack-{file.stem}"


@pytest.mark.parametrize("board", BOARDS)
def test_the_json_loads_with_the_sdks_types(board: Document) -> None:
    loaded = Dashboard.from_json(board)

    assert loaded.title == board["title"]
    assert len(loaded.panels or []) == len(board["panels"])


@pytest.mark.parametrize("board", BOARDS)
def test_no_two_panels_overlap_and_none_leaves_the_grid(board: Document) -> None:
    places = [(panel["title"], panel["gridPos"]) for panel in board["panels"]]

    assert [(one, other) for (one, at), (other, there) in itertools.combinations(places, 2) if overlap(at, there)] == []
    assert [title for title, at in places if at["x"] + at["w"] > 24] == []


@pytest.mark.parametrize("board", BOARDS)
def test_no_line_of_panels_has_a_gap(board: Document) -> None:
    widths: dict[int, int] = {}
    for panel in board["panels"]:
        widths[panel["gridPos"]["y"]] = widths.get(panel["gridPos"]["y"], 0) + panel["gridPos"]["w"]

    assert {y: width for y, width in widths.items() if width != 24} == {}


@pytest.mark.parametrize("board", BOARDS)
def test_panel_ids_and_titles_are_unique(board: Document) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    titles = [panel["title"] for panel in panels(board)]

    assert len(set(ids)) == len(ids)
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("board", BOARDS)
def test_numbers_come_first_and_need_no_scrolling(board: Document) -> None:
    top = list(itertools.takewhile(lambda panel: panel["type"] != "row", board["panels"]))

    assert {panel["type"] for panel in top} == {"stat"}
    assert sum(panel["gridPos"]["w"] * panel["gridPos"]["h"] for panel in top) <= 24 * 8
    assert board["description"].endswith("?")


def test_the_first_row_of_the_stack_says_whether_users_are_served() -> None:
    board = document(GRAFANA / "dashboards" / "stack.json")

    assert [panel["title"] for panel in panels(board) if panel["gridPos"]["y"] == 0] == [
        "Replicas up / expected",
        "Alerts",
        "Requests",
        "Error ratio",
        "TTFT p95",
        "TPOT p95",
        "Output tokens",
    ]


@pytest.mark.parametrize("board", BOARDS)
def test_links_to_other_dashboards_keep_time_range_and_variables(board: Document) -> None:
    assert board["links"]
    assert all(link["keepTime"] and link["includeVars"] for link in board["links"])


@pytest.mark.parametrize("board", BOARDS)
def test_a_panels_link_opens_a_dashboard_that_there_is_with_time_range_and_variables(board: Document) -> None:
    urls = [link["url"] for panel in panels(board) for link in panel.get("links", [])]

    assert urls
    for url in urls:
        path, _, parameters = url.partition("?")
        assert path.removeprefix("/d/") in UIDS - {board["uid"]}
        assert parameters == "${__url_time_range}&${__all_variables}"


@pytest.mark.parametrize("board", BOARDS)
def test_alerts_and_changes_are_marked_on_all_graphs(board: Document) -> None:
    marks = {mark["name"]: mark for mark in board["annotations"]["list"]}

    assert set(marks) == {"Alerts", "Changes"}
    assert all(mark["enable"] and mark["iconColor"] and mark["titleFormat"] for mark in marks.values())
    assert all(mark["datasource"] == mark["target"]["datasource"] == DATA_SOURCE for mark in marks.values())
    assert all(mark["target"]["refId"] == "Anno" for mark in marks.values())


@pytest.mark.parametrize("board", BOARDS)
def test_a_change_is_marked_at_the_time_that_its_value_tells_in_milliseconds(board: Document) -> None:
    (changes,) = [mark for mark in board["annotations"]["list"] if mark["name"] == "Changes"]

    assert changes["useValueForTime"] is True
    assert changes["target"]["expr"].startswith("1000 * ")


def test_grafana_is_provisioned_read_only() -> None:
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/dashboards.yml").read_text())["providers"]
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]

    assert provider["allowUiUpdates"] is False
    assert source["editable"] is False
    assert source["jsonData"]["timeInterval"] == "${VLLMSTACK_SCRAPE_SECONDS}s"
