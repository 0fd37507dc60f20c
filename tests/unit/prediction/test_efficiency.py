"""The calibration that ships: the constants are those with which the recorded runs are predicted as it says."""

import importlib
import json
from types import ModuleType
from typing import Any

import pytest

from scripts import bench_attention
from vllmstack.prediction.efficiency import calibration
from vllmstack.quantiles import quantile

pytestmark = pytest.mark.slow


Run = tuple[str, str, int]
"""Model, mix of lengths, users."""


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The script that compares; it draws too, with a library that is slow to import."""
    return importlib.import_module("scripts.bench_prediction")


@pytest.fixture(scope="module")
def rows(bench: ModuleType) -> list[dict[str, Any]]:
    """Each run and what is predicted of it."""
    efficiency = calibration().efficiency
    return [bench.compare(one, efficiency) for one in bench.load_runs(*bench.RUNS)]


@pytest.fixture(scope="module")
def errors(rows: list[dict[str, Any]]) -> dict[Run, dict[str, float]]:
    """Of each run that it was not calibrated on."""
    return {
        (row["model"], row["mix"], row["concurrency"]): row["errors"] for row in rows if not row["calibration"]
    }  # fmt: skip


def test_predictions_are_as_close_as_the_calibration_says(
    bench: ModuleType, errors: dict[Run, dict[str, float]]
) -> None:
    told = calibration()

    assert len(errors) == told.runs
    for name in bench.MOST:
        off = sorted(abs(one[name]) for one in errors.values())
        assert quantile(off, 0.95) == pytest.approx(getattr(told, name).usual, abs=0.006)
        assert off[-1] == pytest.approx(getattr(told, name).most, abs=0.006)


def test_all_figures_but_four_are_as_close_as_was_asked(bench: ModuleType, errors: dict[Run, dict[str, float]]) -> None:
    """Which, and why: docs/reference/prediction.md."""
    far = {(key, name) for key, off in errors.items() for name, most in bench.MOST.items() if abs(off[name]) > most}

    assert far == {
        (("phi-3-mini", "chat", 1), "ttft_p95"),
        (("phi-3-mini", "chat", 8), "ttft_p95"),
        (("phi-3-mini", "chat", 96), "ttft_p95"),
        (("qwen3-4b", "documents", 8), "ttft_p95"),
    }


def test_the_reference_page_has_the_runs_as_they_are_predicted(bench: ModuleType, rows: list[dict[str, Any]]) -> None:
    """`scripts/bench_prediction.py --page` writes them."""
    assert bench.page_table(rows) in bench.PAGE.read_text()


def test_the_runs_span_what_they_are_said_to(errors: dict[Run, dict[str, float]]) -> None:
    assert len({model for model, _, _ in errors}) == 11
    assert {mix for _, mix, _ in errors} == {"chat", "documents"}
    assert {users for _, _, users in errors} == {1, 8, 32, 96, 256}
    unseen = {"llama-2-7b", "gemma-2-9b", "qwen3-14b", "falcon3-7b"}
    assert sum(model not in unseen for model, _, _ in errors) == calibration().runs_in_view


def test_what_a_tile_of_attention_takes_is_what_the_kernel_took_by_itself() -> None:
    shapes = bench_attention.fit(json.loads(bench_attention.RECORD.read_text()))
    efficiency = calibration().efficiency

    assert efficiency.key_row_seconds == pytest.approx(bench_attention.key_row_seconds(shapes), rel=0.03)
    assert efficiency.tile_row_seconds == pytest.approx(bench_attention.tile_row_seconds(shapes), rel=0.05)


def test_shares_of_a_datasheet_are_shares() -> None:
    efficiency = calibration().efficiency

    for name in ("weights_ratio", "cache_ratio", "flops_ratio", "attention_ratio"):
        assert 0.2 < getattr(efficiency, name) < 1
