"""What `up` shows while engines start."""

import io
from collections.abc import Sequence

import pytest
from rich.console import Console

from vllmstack.commands import progress
from vllmstack.commands.progress import Progress
from vllmstack.host.containers import Container


def seen(*phases: tuple[str, str]) -> Sequence[tuple[Container, str]]:
    return [
        (
            Container(
                service=service, identity=service, model="", replica=0, gpus="", status="running", health="",
                health_line="", restarts=0, exit_code=0, out_of_memory=False,
            ),
            phase,
        )
        for service, phase in phases
    ]  # fmt: skip


def test_without_a_terminal_each_change_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as shown:
        shown.show(list(seen(("engine-a-1", "starting"), ("gateway", "healthy"))))
        shown.show(list(seen(("engine-a-1", "starting"), ("gateway", "healthy"))))
        shown.show(list(seen(("engine-a-1", "loading weights"), ("gateway", "healthy"))))

    assert capsys.readouterr().err.splitlines() == [
        "•     0 s  engine-a-1: starting",
        "•     0 s  gateway: healthy",
        "•     0 s  engine-a-1: loading weights",
    ]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=80, color_system=None, highlight=False)
    monkeypatch.setattr(progress, "notes", console)
    return written


def test_in_a_terminal_the_last_table_stays(terminal: io.StringIO) -> None:
    with Progress() as shown:
        shown.show(list(seen(("engine-a-1", "loading weights"), ("gateway", "healthy"))))
        shown.show(list(seen(("engine-a-1", "serving"), ("gateway", "healthy"))))

    rows = [" ".join(line.split()) for line in terminal.getvalue().splitlines()]
    shown_last = [row for row in rows if "✓" in row][-2:]
    assert "✓ engine-a-1 serving 0 s" in shown_last[0]
    assert "✓ gateway healthy 0 s" in shown_last[1]
    assert "•" not in terminal.getvalue()


def test_in_a_terminal_a_failure_leaves_the_cursor_as_it_was(terminal: io.StringIO) -> None:
    def interrupted() -> None:
        with Progress() as shown:
            shown.show(list(seen(("engine-a-1", "loading weights"))))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    hidden, visible = "\x1b[?25l", "\x1b[?25h"
    assert terminal.getvalue().rindex(visible) > terminal.getvalue().rindex(hidden)
