"""The committed dashboards, as their tests look at them."""

import json
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet

GRAFANA = Path(__file__).parents[3] / "grafana"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))
DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}

Document = dict[str, Any]
Panel = dict[str, Any]


def document(file: Path) -> Document:
    read: Document = json.loads(file.read_text())
    return read


def panels(board: Document) -> list[Panel]:
    """All panels but the headings of rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def panels_of(kind: str = "") -> list[ParameterSet]:
    """As parameters of a test; of one type if it is given."""
    return [
        pytest.param(panel, id=f"{file.stem}: {panel['title']}")
        for file in FILES
        for panel in panels(document(file))
        if kind in ("", panel["type"])
    ]


BOARDS = [pytest.param(document(file), id=file.stem) for file in FILES]
PANELS = panels_of()
TARGETS = [
    pytest.param(target, id=f"{file.stem}: {panel['title']}: {target['legendFormat']}")
    for file in FILES
    for panel in panels(document(file))
    for target in panel["targets"]
]
