"""The batch's measurement, at a size that takes seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.bench_batch import Count
from tests.unit.conftest import ROOT

pytestmark = pytest.mark.slow


def test_lines_are_counted_as_they_come(tmp_path: Path) -> None:
    file, count = tmp_path / "a", Count(tmp_path / "a")

    assert count.lines() == 0
    file.write_text("one\ntwo\nthr")
    assert count.lines() == 2
    with file.open("a") as stream:
        stream.write("ee\n")
    assert count.lines() == 3
    file.write_text("one\n")  # what a kill had cut off is dropped
    assert count.lines() == 1


def test_a_killed_batch_answers_each_line_once(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/bench_batch.py", "--lines", "400", "--kills", "2"]
    command += ["--json", str(tmp_path / "figures.json")]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    # Status 1 where the machine was so quick that the end came before the second kill.
    assert done.returncode in (0, 1), done.stdout + done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["exit"], figures["answers"], figures["answered"]) == (0, 400, 400)
    assert 10 < figures["megabytes"] < 300
