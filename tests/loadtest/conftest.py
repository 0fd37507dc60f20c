"""Real Locust processes against the built-in mock server, whose times are known."""

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.options import RunOptions
from loadtest.results import RunResult
from loadtest.run import measure

ROOT = Path(__file__).parents[2]
MODEL = "smoke"


class Mock:
    """A mock server in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "loadtest.trust.mock_server", "--port", "0", "--model", MODEL]
        self.process = subprocess.Popen(
            [*command, "--lifetime-seconds", "1500", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        self.url = f"http://127.0.0.1:{json.loads(self.process.stdout.readline())['port']}"

    def truth(self) -> Any:
        """What it has counted."""
        with urllib.request.urlopen(f"{self.url}/mock/truth", timeout=60) as answer:  # noqa: S310 - http, to 127.0.0.1
            return json.load(answer)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)
        if self.process.stdout:
            self.process.stdout.close()


@pytest.fixture
def start_mock() -> Iterator[Callable[..., Mock]]:
    """Starts mock servers with the given arguments; all end with the test."""
    with contextlib.ExitStack() as ending:

        def start(*arguments: str) -> Mock:
            mock = Mock(*arguments)
            ending.callback(mock.end)
            return mock

        yield start


def stack_file(folder: Path, url: str) -> Path:
    """A stack.json of one mock server, with the smoke model's tokenizer."""
    stack = {
        "deployment": "mock",
        "url": url,
        "models": [
            {
                "name": MODEL,
                "max_model_len": 4096,
                "tokenizer": {"directory": str(ROOT / "models" / "smoke")},
                "engines": [{"name": "mock", "metrics": f"{url}/metrics"}],
            }
        ],
    }
    file = folder / "stack.json"
    file.write_text(json.dumps(stack))
    return file


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., RunResult]:
    """Measures once against a URL."""

    def measured(url: str, **options: Any) -> RunResult:
        return measure(run_options(tmp_path, url, **options))

    return measured


def run_options(folder: Path, url: str, **options: Any) -> RunOptions:
    """Without calibration, which has tests of its own, and with prompts that the mock's words are counted by."""
    values: dict[str, Any] = {"calibrate": False, "result": str(folder / "run"), "timeout_seconds": 20.0, **options}
    return RunOptions(stack=str(stack_file(folder, url)), **values)
