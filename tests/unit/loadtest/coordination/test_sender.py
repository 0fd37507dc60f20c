"""One process's part of a run: the whole schedule is sent, whatever the machine does meanwhile."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.options import RunOptions
from loadtest.trust.mock_process import python_environment
from tests.attempts import attempts
from tests.ports import free_port

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[4]
SENDER = Path(__file__).with_name("stalled_sender.py")


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """Of a server that refuses every connection."""
    tokenizer = {"directory": str(ROOT / "models" / "smoke")}
    model = {"name": "smoke", "max_model_len": 4096, "tokenizer": tokenizer, "engines": []}
    file = tmp_path / "stack.json"
    file.write_text(json.dumps({"deployment": "none", "url": f"http://127.0.0.1:{free_port()}", "models": [model]}))
    return file


def test_what_was_due_while_the_process_stood_still_is_sent_and_counted_also_after_the_windows_end(
    tmp_path: Path, stack: Path
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("at,prompt_tokens,completion_tokens\n0,40,5\n" + "1.0,60,6\n" * 200)
    options = RunOptions(
        stack=str(stack), scenario="random-512-256", arrivals="trace", trace=str(trace), calibrate=False
    )

    command = {"options": options.model_dump(mode="json"), "stall": [0.5, 1.0]}
    for attempt in attempts():
        ended = subprocess.run(
            [sys.executable, str(SENDER)], input=json.dumps(command), capture_output=True, text=True, timeout=300,
            env=python_environment(), check=False,
        )  # fmt: skip

        assert ended.returncode == 0, ended.stderr
        finished = json.loads(ended.stdout.splitlines()[-1])
        assert finished["recorded"]["asked"] == 201
        assert finished["recorded"]["whole"]["sent"] == 201
        # All but the first left after the window's end: the shortfall that a verdict tells of.
        assert finished["recorded"]["sent"] <= 1
        with attempt:  # that one too, if the machine itself stands still just then
            assert finished["recorded"]["sent"] == 1
