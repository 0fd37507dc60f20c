"""The calibration that ships: the constants are those with which the recorded runs are predicted as it says."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from vllmstack.prediction.efficiency import calibration

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def off() -> dict[str, float]:
    """The largest error of each figure over the runs that it was not calibrated on."""
    sys.path.insert(0, str(ROOT / "scripts"))
    bench = importlib.import_module("bench_prediction")

    efficiency = calibration().efficiency
    runs = [one for one in bench.load_runs(bench.RUNS) if one.key not in bench.CALIBRATED_ON]
    assert len(runs) == 28
    errors = [bench.errors(one, bench.simulate(one, efficiency)) for one in runs]
    return {name: max(abs(each[name]) for each in errors) for name in bench.MOST}


def test_predictions_are_as_close_as_the_calibration_says(off: dict[str, float]) -> None:
    told = calibration()

    assert off["throughput"] <= told.throughput_error <= 0.15
    assert off["tpot"] <= told.tpot_error <= 0.15
    assert off["ttft_p95"] <= told.ttft_error <= 0.30


def test_the_runs_span_what_they_are_said_to(off: dict[str, float]) -> None:
    folder = ROOT / "docs/reference/results/2026-11-22-h200-prediction"
    documents = [json.loads(file.read_text()) for file in folder.glob("*.json")]
    runs = [(document["model"], run["mix"], run["concurrency"]) for document in documents for run in document["runs"]]

    assert len({model for model, _, _ in runs}) == 3
    assert {mix for _, mix, _ in runs} == {"chat", "documents"}
    assert {users for _, _, users in runs} == {1, 8, 32, 96, 256}


def test_shares_of_a_datasheet_are_shares() -> None:
    efficiency = calibration().efficiency

    for name in ("weights_ratio", "cache_ratio", "flops_ratio", "attention_ratio"):
        assert 0.2 < getattr(efficiency, name) < 1
