"""`vllmstack report`, as a person and as CI sees it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from loadtest.report.charts import canvas
from loadtest.report.charts.canvas import Chart
from loadtest.results import Flag, save
from tests.unit.conftest import Clone, Outcome
from tests.unit.loadtest.runs import make_run
from vllmstack.commands import report as report_command

Run = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts have tests of their own."""

    def draw(chart: Chart, size: tuple[int, int] = (0, 0)) -> str:
        return "<svg></svg>"

    monkeypatch.setattr(canvas, "svg", draw)
    monkeypatch.setattr(canvas, "png", lambda _: b"\x89PNG")


@pytest.fixture
def results(clone: Clone) -> Path:
    """Three repeats of a fast and of a slow server, in the clone's results/."""
    for name, ttft in (("fast", 0.05), ("slow", 0.1)):
        for seed in range(3):
            save(make_run(ttft=ttft, seed=seed, requests=60), clone.root / "results" / name / str(seed))
    return clone.root / "results"


def test_a_run_gets_its_page_beside_it(results: Path, vllmstack: Run) -> None:
    outcome = vllmstack("report", "results/fast/1")

    assert outcome.status == 0
    assert outcome.out.splitlines() == ["chat, concurrency 4: valid", "results/fast/1/report.html"]
    assert (results / "fast" / "1" / "report.html").is_file()
    assert (results / "fast" / "1" / "report.md").is_file()


def test_without_a_name_it_is_the_newest(results: Path, vllmstack: Run) -> None:
    save(make_run(rate=6, requests=50), results / "newest")

    outcome = vllmstack("report")

    assert "chat, 6/s poisson: valid" in outcome.out
    assert (results / "newest" / "report.html").is_file()


def test_several_folders_are_one_page_in_a_folder_of_its_own(results: Path, vllmstack: Run) -> None:
    outcome = vllmstack("report", "results/fast/0", "results/slow/0")

    [folder] = results.glob("*-report")
    assert outcome.status == 0
    assert str(folder / "report.html") == outcome.out.splitlines()[-1]


def test_an_output_folder_can_be_chosen(results: Path, vllmstack: Run, tmp_path: Path) -> None:
    vllmstack("report", "results/fast", "--output", str(tmp_path / "there"))

    assert (tmp_path / "there" / "report.html").is_file()
    assert not (results / "fast" / "report.html").exists()


def test_a_report_of_an_invalid_run_is_a_report(results: Path, vllmstack: Run) -> None:
    flag = Flag(kind="client", severity="invalid", fact="the client was late", hint="give it a core")
    save(make_run(requests=50, flags=[flag]), results / "invalid")

    outcome = vllmstack("report", "results/invalid")

    assert (outcome.status, outcome.out.splitlines()[0]) == (0, "chat, concurrency 4: INVALID")


def test_a_regression_exits_with_one(results: Path, vllmstack: Run, tmp_path: Path) -> None:
    outcome = vllmstack("report", "compare", "results/fast", "results/slow", "--output", str(tmp_path))

    assert outcome.status == 1
    assert "slow against fast, concurrency 4" in outcome.out
    [row] = [line for line in outcome.out.splitlines() if line.startswith("TTFT p50")]
    assert row.endswith("regression")
    assert (tmp_path / "comparison.html").is_file()


def test_no_regression_exits_with_zero(results: Path, vllmstack: Run) -> None:
    outcome = vllmstack("report", "compare", "results/slow", "results/fast")

    assert outcome.status == 0
    assert [folder.name for folder in results.glob("*-comparison")]


def test_a_wide_threshold_lets_it_pass(results: Path, vllmstack: Run) -> None:
    assert vllmstack("report", "compare", "results/fast", "results/slow", "--threshold", "300").status == 0


def test_single_runs_are_warned_of(results: Path, vllmstack: Run) -> None:
    assert "measure repeats" in vllmstack("report", "compare", "results/slow/0", "results/fast/0").err


def test_different_loads_exit_with_two_and_say_what_differs(results: Path, vllmstack: Run) -> None:
    save(make_run(rate=6, requests=50), results / "open")

    outcome = vllmstack("report", "compare", "results/fast", "results/open")

    assert outcome.status == 2
    assert "open: load: is 6/s poisson, and concurrency 4 in fast" in outcome.err
    assert "--force" in outcome.err
    assert vllmstack("report", "compare", "results/fast", "results/open", "--force").status in (0, 1)


def test_folders_of_one_name_are_told_apart(results: Path, vllmstack: Run) -> None:
    assert "slow/0 against fast/0" in vllmstack("report", "compare", "results/fast/0", "results/slow/0").out


def test_the_same_folder_twice_and_a_file_are_told_apart_too(results: Path, vllmstack: Run) -> None:
    assert "2: 0 against 1: 0" in vllmstack("report", "compare", "results/fast/0/run.json", "results/fast/0").out


@pytest.mark.parametrize("arguments", [("nowhere",), ("compare", "nowhere", "results/fast")])
def test_a_folder_without_a_run_exits_with_two(results: Path, vllmstack: Run, arguments: Sequence[str]) -> None:
    outcome = vllmstack("report", *arguments)

    assert outcome.status == 2
    assert outcome.err == (
        "vllmstack: nowhere: there is no such folder\n  hint: give the folder of a run, or of several\n"
    )


def test_outside_of_a_clone_the_newest_run_cannot_be_found(
    vllmstack: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert vllmstack("report").status == 2


def test_a_host_without_matplotlib_leaves_it_to_the_container(
    results: Path, vllmstack: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[str | Path]] = []

    def run_in_container(arguments: Sequence[str | Path], *, needs_stack: bool) -> int:
        assert not needs_stack
        given.append(list(arguments))
        return 1

    monkeypatch.setattr(report_command, "has_loadtest_extra", lambda: False)
    monkeypatch.setattr(report_command, "run_in_container", run_in_container)

    assert vllmstack("report", "compare", "results/fast", "results/slow", "--force").status == 1
    assert vllmstack("report", "results/fast", "--output", "results/x").status == 1
    assert given == [
        ["report", "compare", "--threshold", "5", "--force", Path("results/fast"), Path("results/slow")],
        ["report", "make", "--output", Path("results/x"), Path("results/fast")],
    ]


def test_help_shows_both_uses(vllmstack: Run) -> None:
    out = vllmstack("report", "--help").out

    assert "report compare A B" in out
    assert "make" in out
