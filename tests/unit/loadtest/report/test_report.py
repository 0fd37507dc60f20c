"""What a report says, without drawing it."""

from collections.abc import Sequence

import pytest

from loadtest.report.charts import canvas
from loadtest.report.charts.canvas import Chart
from loadtest.report.document import Cards, Columns, Document, Figures, Fold, Section, Table, drawings
from loadtest.report.report import report
from loadtest.results import Calibration, Flag, RunResult
from loadtest.verdict.targets import judge
from tests.unit.loadtest.report.findings import engine, run_with
from tests.unit.loadtest.report.test_grouping import saturating
from tests.unit.loadtest.runs import make_run
from vllmstack.deployment.model import Target

INVALID = Flag(kind="client", severity="invalid", fact="the client was late", hint="give it a core")


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts have tests of their own; here their names are enough."""

    def draw(chart: Chart, size: tuple[int, int]) -> str:
        return f"<svg><title>{chart.name}</title></svg>"

    monkeypatch.setattr(canvas, "svg", draw)


def section(document: Document, title: str) -> Section:
    [found] = [one for one in document.sections if one.title == title]
    return found


def tables(blocks: Sequence[object]) -> list[Table]:
    found = []
    for block in blocks:
        if isinstance(block, Table):
            found.append(block)
        elif isinstance(block, Columns | Fold):
            found += tables(block.blocks)
    return found


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def rows(document: Document, title: str) -> dict[str, list[str]]:
    """All rows of a section's tables, by their first cell."""
    return {row[0]: row[1:] for table in tables(section(document, title).blocks) for row in texts(table)}


def test_a_single_run_has_every_section() -> None:
    document = report([run_with(engine(), failed=3, limits={"ttft": 1.0})])

    assert [one.title for one in document.sections] == [
        "Key numbers",
        "What limited it, and what to change",
        "Errors",
        "Latency distributions",
        "Time line",
        "Server and client",
        "The client's own error",
        "Environment and configuration",
        "How to repeat it",
        "What each number means",
    ]
    assert (document.title, document.badge, document.tone) == ("chat, concurrency 4", "valid", "good")


def test_key_numbers_are_the_runs_own() -> None:
    document = report([make_run(concurrency=4, limits={"ttft": 1.0})])

    [cards] = [block for block in section(document, "Key numbers").blocks if isinstance(block, Cards)]
    shown = {card.title: f"{card.value} {card.unit}" for card in cards.cards}
    assert shown["Output tokens"] == "662 tok/s"
    assert shown["Errors"] == "0 %"
    assert shown["Goodput"] == "100 %"
    assert set(rows(document, "Key numbers")) >= {"TTFT", "TPOT", "ITL", "End to end", "requests due in the window"}


def test_an_open_loop_shows_service_times_beside_scheduled_ones() -> None:
    assert "from sending" in rows(report([make_run(rate=6)]), "Key numbers")
    assert "from sending" not in rows(report([make_run(concurrency=6)]), "Key numbers")


def test_an_invalid_run_says_so_first_and_why() -> None:
    document = report([make_run(flags=[INVALID])])

    assert (document.badge, document.tone) == ("INVALID", "bad")
    notice = section(document, "Key numbers").blocks[0]
    assert getattr(notice, "title", "") == "INVALID: these numbers say nothing about the server"
    assert getattr(notice, "lines", []) == ["the client was late"]
    assert ["invalid", "client", "the client was late"] in texts(tables(section(document, "Flags").blocks)[0])


def test_an_interrupted_run_is_marked() -> None:
    assert report([make_run(interrupted=True)]).badge == "interrupted"


def test_server_and_client_stand_side_by_side() -> None:
    run = run_with(engine(generation_tokens=20_100, peak_running=4, restarted=True))
    run.whole.sent = run.whole.ok = 200
    run.whole.completion_tokens = 20_000

    found = rows(report([run]), "Server and client")

    assert found["requests that succeeded"] == ["200", "200", "0.0 %"]
    assert found["output tokens"] == ["20,000", "20,100", "−0.5 %"]


def test_a_percentile_that_cannot_be_is_left_out() -> None:
    coarse = engine(quantiles_seconds={"queue": {"p50": 0.15, "p95": 0.285, "p99": 0.297}})
    found = tables(section(report([run_with(coarse)]), "Server and client").blocks)

    [queue] = [row for table in found for row in texts(table) if "queue" in row]

    assert queue[2:] == ["1.00 ms", "–", "–", "–"]


def test_the_clients_own_error_is_told() -> None:
    calibration = Calibration(
        streams=256,
        ttft_true_seconds=0.1,
        itl_true_seconds=0.01,
        ttft_error_seconds={"p50": 0.0021, "p99": 0.0083},
        itl_error_seconds={"p50": -0.00002, "p99": 0.0004},
        microseconds_a_chunk=13.8,
        headroom_chunks_per_second=72_000,
        loop_lag_p99_seconds=0.002,
        counts_exact=True,
    )
    run = make_run(rate=6)
    run.client.calibration = calibration

    found = rows(report([run]), "The client's own error")

    assert found["TTFT, p50"] == ["+2.10 ms", "true: 100 ms"]
    assert found["ITL, p50"] == ["−20.0 µs", "true: 10.0 ms"]
    assert found["counts"] == ["exact", ""]
    assert found["sent in time"][0] == "6.67 req/s"


def test_targets_stand_with_their_verdicts() -> None:
    target = Target.model_validate({"load": {"concurrency": 4}, "ttft_seconds": {"p95": 0.01}, "error_ratio": 0})
    run = make_run(concurrency=4)

    document = report([run], verdicts=[judge(target, [run], "smoke")])

    assert [one.title for one in document.sections[:2]] == ["Key numbers", "Targets"]
    found = rows(document, "Targets")
    assert found["ttft p95"][0] == "≤ 10.0 ms"
    assert found["ttft p95"][3] == "missed"
    assert found["error ratio"][3] == "met"


def sweep() -> list[RunResult]:
    return [saturating(count, seed=seed) for count in (1, 2, 4, 8, 16, 32, 64, 128) for seed in (0, 1)]


def test_a_sweep_has_a_row_for_each_load_and_its_curves() -> None:
    document = report(sweep())

    assert document.title == "chat, concurrency 1 to 128"
    assert list(rows(document, "All loads")) == ["1", "2", "4", "8", "16, knee", "32", "64", "128"]
    curves = drawings(section(document, "Throughput against latency").blocks)
    assert [drawing.name for drawing in curves] == ["curve-ttft", "curve-tpot", "curve-throughput", "curve-e2e-by-load"]


def test_each_run_of_a_sweep_has_its_details_and_no_two_charts_share_a_name() -> None:
    document = report(sweep())

    folds = [block for block in section(document, "Each run").blocks if isinstance(block, Fold)]
    assert len(folds) == 16
    assert folds[0].title.startswith("concurrency 1, run 1 (chat-c1-0): ")
    names = [drawing.name for one in document.sections for drawing in drawings(one.blocks)]
    assert len(names) == len(set(names)) == 4 + 4 + 16 * 4


def test_distributions_of_a_sweep_hold_few_loads_and_the_knee() -> None:
    [figures] = [
        block for block in section(report(sweep()), "Latency distributions").blocks if isinstance(block, Figures)
    ]

    assert len(figures.drawings) == 4


def test_an_invalid_load_of_a_sweep_is_named() -> None:
    runs = [saturating(count) for count in (1, 2, 4)]
    runs[1].flags.append(INVALID)

    document = report(runs)

    assert document.badge == "1 of 3 runs INVALID"
    assert "2, INVALID" in rows(document, "All loads")


def test_repeats_of_one_load_are_listed() -> None:
    document = report([make_run(seed=seed) for seed in range(3)])

    assert {"chat-c4-0", "chat-c4-1", "chat-c4-2"} <= set(rows(document, "Key numbers"))


def test_two_scenarios_are_two_parts_of_one_page() -> None:
    document = report([make_run(), make_run(scenario="rag", scenario_text={"name": "rag"})])

    titles = [one.title for one in document.sections]
    assert "Key numbers: chat, concurrency 4" in titles
    assert "Key numbers: rag, concurrency 4" in titles


def test_the_command_repeats_the_run_with_its_parameters() -> None:
    run = make_run()

    document = report([run], parameters={run.id: {"completion_tokens": "64"}})

    [code] = [getattr(block, "text", "") for block in section(document, "How to repeat it").blocks]
    assert code.startswith("vllmstack load --scenario chat")
    assert "--parameters completion_tokens=64" in code


def test_what_differs_between_runs_is_listed_beside_the_environment() -> None:
    one, two = make_run(seed=1), make_run(seed=2)
    two.environment = two.environment.model_copy(update={"git": "fedcba"})

    assert rows(report([one, two]), "Environment and configuration")["clone"] == ["0123456789abcdef", "fedcba"]


def test_an_empty_run_is_reported_all_the_same() -> None:
    document = report([make_run(requests=0)])

    assert rows(document, "Key numbers")["requests due in the window"][0] == "0"
    with pytest.raises(ValueError, match="needs a run"):
        report([])
