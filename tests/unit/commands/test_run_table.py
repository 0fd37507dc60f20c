"""A run in a terminal."""

import re
from pathlib import Path

import pytest

from loadtest.results import Flag, RunResult
from tests.unit.loadtest.runs import make_run
from vllmstack import console
from vllmstack.commands.run_table import print_run


@pytest.fixture(autouse=True)
def width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.out, "width", 80)


def printed(run: RunResult, capsys: pytest.CaptureFixture[str]) -> str:
    print_run(run, Path("results/mine"))
    return capsys.readouterr().out


def row(text: str, name: str) -> list[str]:
    """The cells of a row of the table."""
    line = next(line for line in text.splitlines() if line.strip().startswith(name))
    return re.split(r"\s{2,}", line.strip())[1:]


def test_each_latency_has_its_mean_and_percentiles(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(make_run(concurrency=4, ttft=0.05, tpot=0.005), capsys)

    assert row(text, "mean") == ["p50", "p90", "p95", "p99"]
    for name, truth in (("TTFT", 50), ("TPOT", 5), ("ITL", 5), ("End to end", 545)):
        cells = row(text, name)
        assert len(cells) == 5
        assert float(cells[1].removesuffix(" ms")) == pytest.approx(truth, rel=0.1)


def test_a_schedule_shows_what_users_felt_above_what_the_server_took(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(make_run(rate=4), capsys)

    lines = text.splitlines()
    assert [lines[number + 1].split("  ")[1] for number, line in enumerate(lines) if line.startswith("TTFT")] == [
        "from sending"
    ]
    assert re.search(r"^offered +\S+/s asked, \S+/s sent \(100 %\)$", text, re.MULTILINE)


def test_a_closed_loop_has_no_schedule_to_speak_of(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(make_run(concurrency=4), capsys)

    assert "from sending" not in text
    assert "offered" not in text


def test_what_failed_is_counted_by_kind(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(make_run(requests=200, failed=3), capsys)

    assert re.search(r"^requests +197 ok \(\S+/s\), 3 failed \(3 \w+\)$", text, re.MULTILINE)


def test_flags_come_with_the_worst_first(capsys: pytest.CaptureFixture[str]) -> None:
    flags = [
        Flag(kind="server", severity="note", fact="the engine waited", hint="look"),
        Flag(kind="client", severity="invalid", fact="the client was late", hint="use [more] processes"),
    ]

    text = printed(make_run(flags=flags), capsys)

    assert text.index("✗ the client was late") < text.index("· the engine waited")
    assert "  hint: use [more] processes\n" in text
    assert "INVALID: these numbers say nothing about the server\n" in text


def test_it_ends_with_where_the_rest_lies(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(make_run(), capsys).endswith("\nresults in results/mine/\n")


def test_it_fits_a_terminal_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert max(map(len, printed(make_run(rate=4), capsys).splitlines())) <= 80
