"""What promtool says inside a Prometheus that a test makes: samples by figure."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from vllmstack.stack_queries import FIGURE

Program = Callable[[list[str]], tuple[int, str]]


def sample(figure: str, value: float | str, **labels: str) -> dict[str, Any]:
    """One row of the answer to `vllmstack top`'s question."""
    return {"metric": {FIGURE: figure, **labels}, "value": [1795246421.165, str(value)]}


def samples(level: str, values: Mapping[str, float | str], **labels: str) -> list[dict[str, Any]]:
    """The figures of one model, replica or GPU."""
    return [sample(f"{level}.{name}", value, **labels) for name, value in values.items()]


def promtool(rows: list[dict[str, Any]]) -> Program:
    """Answers every question with these rows."""

    def run(arguments: list[str]) -> tuple[int, str]:
        assert arguments[:4] == ["query", "instant", "--format=json", "http://127.0.0.1:9090"]
        return 0, json.dumps(rows)

    return run
