"""The client measures itself, in processes that do not outlive it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.errors import LoadTestError
from loadtest.results import Calibration
from loadtest.trust import calibration
from loadtest.trust.calibration import calibrate, rehearse
from loadtest.trust.mock_process import python_environment
from tests.attempts import attempts

pytestmark = pytest.mark.slow


def test_on_one_core_the_client_s_error_is_small_and_its_counts_are_exact() -> None:
    pin = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))]
    for attempt in attempts():
        done = subprocess.run(
            [*pin, sys.executable, "-m", "loadtest.trust.calibration", "--streams", "4", "--tokens", "20"],
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
            env=python_environment(),
        )
        found = Calibration.model_validate_json(done.stdout)
        assert found.counts_exact
        assert (found.streams, found.ttft_true_seconds, found.itl_true_seconds) == (4, 0.1, 0.01)
        assert found.itl_error_seconds.keys() == found.ttft_error_seconds.keys() == {"p50", "p99"}
        assert found.headroom_chunks_per_second == pytest.approx(1e6 / found.microseconds_a_chunk)
        assert found.microseconds_a_chunk > 1
        assert found.loop_lag_p99_seconds >= 0
        with attempt:
            assert 0 < found.ttft_error_seconds["p50"] < 0.05
            assert abs(found.itl_error_seconds["p50"]) < 0.005
            assert found.loop_lag_p99_seconds < 1


def test_a_client_that_fails_is_named_and_nothing_is_left_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "python_command", command_of("raise SystemExit('no gevent here')"))
    with pytest.raises(LoadTestError, match="the calibration failed: no gevent here"):
        calibrate()


def test_a_client_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "python_command", command_of("import time; time.sleep(60)"))
    with pytest.raises(LoadTestError, match=r"longer than 0\.5 s"):
        rehearse(limit_seconds=0.5)


def command_of(code: str) -> Any:
    def command(*_: str, **__: Any) -> list[str]:
        return [sys.executable, "-c", code]

    return command


@pytest.fixture(autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


def children() -> set[str]:
    """The process ids of this process's children."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
