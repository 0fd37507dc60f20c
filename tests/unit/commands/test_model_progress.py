"""A bar in a terminal, lines elsewhere."""

import io

import pytest
from rich.console import Console

from vllmstack import console
from vllmstack.commands import model_progress
from vllmstack.commands.model_progress import ModelProgress

HALF = {"message": "org/m: 0.50 of 1.00 GB", "progress": {"hub": "org/m", "done": 500_000_000, "total": 1_000_000_000}}


def test_in_a_terminal_bytes_move_a_bar_and_the_rest_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=80)
    monkeypatch.setattr(model_progress, "notes", terminal)
    monkeypatch.setattr(console, "notes", terminal)

    with ModelProgress() as progress:
        progress.show({"message": "org/m: asking"})
        progress.show(HALF)
        progress.show({"message": "", "problem": {}})

    assert "org/m: asking" in screen.getvalue()
    assert "0.5/1.0 GB" in screen.getvalue()
    assert "0.50 of" not in screen.getvalue()


def test_elsewhere_it_is_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with ModelProgress() as progress:
        progress.show({"message": "org/m: asking"})
        progress.show(HALF)

    assert capsys.readouterr().err == "• org/m: asking\n"
