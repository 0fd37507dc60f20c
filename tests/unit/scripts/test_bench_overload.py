"""What the overload measurement concludes."""

from typing import Any

import pytest

from scripts.bench_gateway_chat import Answered
from scripts.bench_overload import figures, judge


def answer(status: int, ttft: float | None = None, seconds: float = 1.0) -> Answered:
    return Answered(status=status, head_seconds=0.0, ttft_seconds=ttft, seconds=seconds, text="", tokens=0)


def test_figures_tell_taken_from_refused() -> None:
    found = figures([answer(200, 0.1), answer(200, 0.3), answer(429, seconds=0.02), answer(0)], 2.0)

    assert found["statuses"] == {"200": 2, "429": 1, "0": 1}
    assert found["completed_per_second"] == 1.0
    assert (found["ttft_p99_seconds"], found["refusal_p99_seconds"]) == (0.3, 0.02)


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, set()),
        ({"ttft_p99_seconds": 0.31}, {"TTFT p99 ÷ that at capacity"}),
        ({"refusal_p99_seconds": 0.06}, {"429 within, p99, s"}),
        ({"completed_per_second": 8.9}, {"goodput ÷ capacity"}),
        ({"statuses": {"200": 10, "503": 1}}, {"neither answered nor 429"}),
    ],
)
def test_each_limit_is_judged(change: dict[str, Any], missed: set[str]) -> None:
    capacity = {"ttft_p99_seconds": 0.2, "completed_per_second": 10.0}
    good = {
        "ttft_p99_seconds": 0.29,
        "refusal_p99_seconds": 0.04,
        "completed_per_second": 9.1,
        "statuses": {"200": 1, "429": 9},
    }

    verdict = judge(capacity, {**good, **change})

    assert {name for name, row in verdict.items() if not row["met"]} == missed
