"""The calibration that ships: the constants are those with which the recorded runs are predicted as it says."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from vllmstack.prediction.efficiency import calibration

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]


Run = tuple[str, str, int]
"""Model, mix of lengths, users."""


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The script that compares."""
    sys.path.insert(0, str(ROOT / "scripts"))
    return importlib.import_module("bench_prediction")


@pytest.fixture(scope="module")
def errors(bench: ModuleType) -> dict[Run, dict[str, float]]:
    """Of each run that it was not calibrated on."""
    efficiency = calibration().efficiency
    runs = [one for one in bench.load_runs(*bench.RUNS) if one.key not in bench.CALIBRATED_ON]
    return {one.key: bench.errors(one, bench.simulate(one, efficiency)) for one in runs}


def test_predictions_are_as_close_as_the_calibration_says(errors: dict[Run, dict[str, float]]) -> None:
    told = calibration()
    largest = {name: max(abs(off[name]) for off in errors.values()) for name in ("throughput", "tpot", "ttft_p95")}

    assert len(errors) == told.runs
    assert largest["throughput"] == pytest.approx(told.throughput_error, abs=0.006)
    assert largest["tpot"] == pytest.approx(told.tpot_error, abs=0.006)
    assert largest["ttft_p95"] == pytest.approx(told.ttft_error, abs=0.006)


def test_all_runs_but_one_are_as_close_as_was_asked(bench: ModuleType, errors: dict[Run, dict[str, float]]) -> None:
    """Of 8 users' 80 requests the fourth longest wait was in the first of two steps: docs/reference/prediction.md."""
    far = [(key, name) for key, off in errors.items() for name, most in bench.MOST.items() if abs(off[name]) > most]

    assert far == [(("qwen3-4b", "documents", 8), "ttft_p95")]


def test_the_runs_span_what_they_are_said_to(errors: dict[Run, dict[str, float]]) -> None:
    assert len({model for model, _, _ in errors}) == 7
    assert {mix for _, mix, _ in errors} == {"chat", "documents"}
    assert {users for _, _, users in errors} == {1, 8, 32, 96, 256}


def test_shares_of_a_datasheet_are_shares() -> None:
    efficiency = calibration().efficiency

    for name in ("weights_ratio", "cache_ratio", "flops_ratio", "attention_ratio"):
        assert 0.2 < getattr(efficiency, name) < 1
