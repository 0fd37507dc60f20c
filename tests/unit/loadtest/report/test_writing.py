"""The files of a report."""

from pathlib import Path

import pytest

from loadtest.errors import LoadTestError
from loadtest.report.charts.canvas import drawn
from loadtest.report.document import Block, Document, Figures, Fold, Section
from loadtest.report.writing import write_report
from tests.unit.loadtest.report.charts.test_canvas import line


def page() -> Document:
    blocks: list[Block] = [Figures([drawn(line("shown"))]), Fold("more", [Figures([drawn(line("folded"))])])]
    return Document(title="A run", badge="valid", tone="good", facts=[], sections=[Section("Charts", blocks)])


def test_page_markdown_and_charts_lie_side_by_side(tmp_path: Path) -> None:
    written = write_report(page(), tmp_path / "run")

    assert written == tmp_path / "run" / "report.html"
    assert sorted(str(file.relative_to(tmp_path / "run")) for file in (tmp_path / "run").rglob("*.*")) == [
        "charts/shown.png",
        "charts/shown.svg",
        "report.html",
        "report.md",
    ]
    assert "![A title: ms](charts/shown.png)" in (tmp_path / "run" / "report.md").read_text()
    assert written.read_text().count("<svg") == 4


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(LoadTestError, match="cannot be written"):
        write_report(page(), tmp_path / "file")
