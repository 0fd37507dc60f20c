"""A real Locust with its web UI, in a process of its own, before a mock of an engine."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.awaiting import wait_until
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
LOCUSTFILE = ROOT / "loadtest" / "locustfile.py"
START_SECONDS = 120
TARGETS = [
    # Below 2 s: a machine that makes one answer slow gets the limit's line into the chart, and that must not change its
    # unit from milliseconds to seconds.
    {"load": {"concurrency": 4}, "ttft_seconds": {"p50": 1.5}, "output_tokens_per_second": 1e9},
    {"load": {"concurrency": 64}, "e2e_seconds": {"p95": 8}},
]


@dataclass(frozen=True)
class Locust:
    """One that runs."""

    url: str
    metrics_url: str
    results: Path
    log: Path

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:  # noqa: S310 - http, to 127.0.0.1
            return json.load(answer)

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get("llm/state")
        return found


def until(what: str, found: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The first true value that ``found`` gives."""
    return wait_until(found, seconds=seconds, what=what, every=0.1)


@contextmanager
def running_locust(engine_port: int, folder: Path, *arguments: str, path: str = "") -> Iterator[Locust]:
    """Locust's web UI on the real locustfile; ended as Compose ends it."""
    stack = folder / "stack.json"
    stack.write_text(json.dumps(stack_facts(engine_port)))
    port, metrics_port, log = free_port(), free_port(), folder / "locust.log"
    command = [
        sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE), "--web-host", "127.0.0.1",
        "--web-port", str(port), "--stack", str(stack), "--result", str(folder / "results"), "--no-calibration",
        "--metrics-port", str(metrics_port), *arguments,
    ]  # fmt: skip
    environment = {**os.environ, "LOCUST_CONFIG_FILE": os.devnull}
    with (
        log.open("wb") as stream,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
        ) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}/{path}"
            until("Locust answers", lambda: process.poll() is not None or answers(url), START_SECONDS)
            assert process.poll() is None, log.read_text()
            yield Locust(url, f"http://127.0.0.1:{metrics_port}/metrics", folder / "results", log)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def stack_facts(engine_port: int) -> dict[str, Any]:
    model = {
        "name": "smoke",
        "max_model_len": 32768,
        "tokenizer": {"directory": str(ROOT / "models" / "smoke")},
        "engines": [{"name": "mock", "metrics": f"http://127.0.0.1:{engine_port}/metrics"}],
        "targets": TARGETS,
    }
    return {"deployment": "smoke", "url": f"http://127.0.0.1:{engine_port}", "vllm": "mock", "models": [model]}


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - http, to 127.0.0.1
            return True
    except (OSError, urllib.error.URLError):
        return False
