"""The page that compares."""

import pytest

from loadtest.report.charts import canvas
from loadtest.report.charts.canvas import Chart
from loadtest.report.comparable import Variant
from loadtest.report.compare import compare
from loadtest.report.comparison_report import comparison_report
from loadtest.report.document import Notice, drawings
from tests.unit.loadtest.report.charts.pictures import words
from tests.unit.loadtest.report.test_compare import repeats
from tests.unit.loadtest.report.test_report import rows, section
from tests.unit.loadtest.runs import make_run


@pytest.fixture
def drawn_charts(monkeypatch: pytest.MonkeyPatch) -> list[Chart]:
    """The charts that were asked for."""
    charts: list[Chart] = []

    def draw(chart: Chart, size: tuple[int, int]) -> str:
        charts.append(chart)
        return "<svg></svg>"

    monkeypatch.setattr(canvas, "svg", draw)
    return charts


def test_a_regression_is_told_first_with_its_interval(drawn_charts: list[Chart]) -> None:
    document = comparison_report(compare(repeats("a"), [repeats("b", ttft=0.1)]))

    notice = section(document, "Verdict").blocks[0]
    assert isinstance(notice, Notice)
    assert notice.tone == document.tone == "bad"
    assert any(line.startswith("TTFT p50 +") and " → " in line for line in notice.lines)
    assert rows(document, "concurrency 4")["TTFT p50"][1] == "regression"


def test_no_regression_is_told_too(drawn_charts: list[Chart]) -> None:
    document = comparison_report(compare(repeats("a"), [repeats("b")]))

    assert (document.badge, document.tone) == ("no regression", "good")
    assert document.title == "b against a"


def test_single_runs_and_other_environments_are_warned_of(drawn_charts: list[Chart]) -> None:
    before, after = repeats("a", count=1), repeats("b", count=1)
    after.runs[0].environment.versions["vllm"] = "0.33.0"

    document = comparison_report(compare(before, [after]))

    warned = {block.title for block in section(document, "Verdict").blocks if isinstance(block, Notice)}
    assert {"Single runs", "Environments differ"} <= warned
    assert rows(document, "Environment and configuration")["version of vllm"] == ["0.32.0", "0.33.0"]


def test_a_sweep_is_compared_load_by_load_and_on_one_curve(drawn_charts: list[Chart]) -> None:
    def sweep(name: str) -> Variant:
        runs = [make_run(concurrency=count, requests=20 * count, seed=ord(name)) for count in (1, 2, 4)]
        return Variant(name=name, runs=tuple(runs))

    document = comparison_report(compare(sweep("a"), [sweep("b"), sweep("c")]))

    titles = [one.title for one in document.sections]
    assert "Throughput against latency" in titles
    assert [title for title in titles if title.startswith("b: ")] == [f"b: concurrency {count}" for count in (1, 2, 4)]
    names = [drawing.name for one in document.sections for drawing in drawings(one.blocks)]
    assert len(names) == len(set(names))


def test_long_names_are_letters_in_charts(drawn_charts: list[Chart]) -> None:
    before, after = (Variant(name=f"20261121-1{at}0000-chat", runs=repeats("ab"[at]).runs) for at in range(2))

    document = comparison_report(compare(before, [after]))

    assert "A: 20261121-100000-chat, 3 runs" in document.facts
    assert "B: 20261121-110000-chat, 3 runs" in document.facts
    assert "B against A" in {chart.title for chart in drawn_charts}


def test_the_differences_are_drawn_with_their_numbers(
    drawn_charts: list[Chart], monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison_report(compare(repeats("a"), [repeats("b", ttft=0.1)]))
    [chart] = [chart for chart in drawn_charts[::2] if chart.name.startswith("differences")]
    monkeypatch.undo()

    found = words(chart)

    assert {"b against a", "TTFT p50", "End to end p99", "Errors", "0.0 pp"} <= set(found)
