"""The mock server in a process of its own, for as long as a ``with`` lasts."""

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.errors import LoadTestError
from vllmstack.errors import Problem

_CLONE = Path(__file__).resolve().parents[2]
_START_SECONDS = 30.0
_END_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class MockProcess:
    """A mock server that listens."""

    url: str
    pid: int

    def get(self, path: str) -> Any:
        """The JSON that it answers to a GET."""
        return self._ask(path, None)

    def post(self, path: str) -> Any:
        """The JSON that it answers to a POST without a body."""
        return self._ask(path, b"")

    def _ask(self, path: str, body: bytes | None) -> Any:
        with urllib.request.urlopen(self.url + path, data=body, timeout=10) as answer:  # noqa: S310  # its own mock
            return json.load(answer)


def python_command(module: str, *arguments: str, core: int | None = None) -> list[str]:
    """Runs one of this clone's modules, on one core only if ``core`` is given."""
    pin = [] if core is None else ["taskset", "--cpu-list", str(core)]
    return [*pin, sys.executable, "-m", module, *arguments]


def python_environment() -> dict[str, str]:
    """The environment of this process, in which a Python finds the clone wherever it starts."""
    path = os.pathsep.join(part for part in (str(_CLONE), os.environ.get("PYTHONPATH")) if part)
    return {**os.environ, "PYTHONPATH": path}


@contextmanager
def mock_server(*arguments: str, lifetime_seconds: float = 60.0, core: int | None = None) -> Iterator[MockProcess]:
    """Starts a mock on a free port of 127.0.0.1; ends it on the way out.

    Args:
        arguments: More options of ``python -m loadtest.trust.mock_server``.
        lifetime_seconds: It ends by itself after this long, should nobody be left to end it.
        core: The CPU core to bind it to.

    Raises:
        LoadTestError: it did not start within half a minute.
    """
    command = python_command(
        "loadtest.trust.mock_server", "--lifetime-seconds", str(lifetime_seconds), *arguments, core=core
    )
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=python_environment())
    assert process.stdout is not None  # noqa: S101  # PIPE
    too_long = threading.Timer(_START_SECONDS, process.kill)
    too_long.start()
    try:
        line = process.stdout.readline()
        too_long.cancel()
        if not line:
            raise LoadTestError(
                Problem(fact=f"the mock server ended with status {process.wait()}", hint="its own words are above")
            )
        yield MockProcess(url=f"http://127.0.0.1:{json.loads(line)['port']}", pid=process.pid)
    finally:
        too_long.cancel()
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a child, gently if it lets itself be ended."""
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def cores() -> Sequence[int]:
    """The CPU cores that this process may use."""
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    return range(os.cpu_count() or 1)
