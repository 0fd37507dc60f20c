"""docs/reference/metrics.md is what its script makes, and tells of all that rules, dashboards and commands name."""

import re

import pytest

from scripts import metrics_reference
from tests.unit.prometheus.test_metrics_exist import RECORDED, expressions, named

PAGE = metrics_reference.PAGE.read_text("utf-8")


def test_the_committed_page_is_what_the_script_makes() -> None:
    assert metrics_reference.metrics_text() == PAGE, "run `python scripts/metrics_reference.py`"


def test_every_metric_that_is_asked_for_is_told_of() -> None:
    asked = {metric for _, expression in expressions() for metric in named(expression)[0]} - RECORDED.keys()

    missing = {re.sub(r"_(bucket|sum|count)$", "", metric) for metric in asked if f"| `{metric}` |" not in PAGE}

    assert asked
    assert sorted(metric for metric in missing if f"| `{metric}` |" not in PAGE) == []


def test_every_recorded_series_has_a_row() -> None:
    rows = metrics_reference.recorded_by_row()

    assert {metrics_reference.row_of(name) for name in RECORDED} == set(rows)
    assert "model:time_to_first_token_seconds:p95_rate5m" in RECORDED
    assert "`{replica,model,stack}:time_to_first_token_seconds:{p50,p95,p99}_rate5m`" in PAGE


def test_no_meaning_is_left_over() -> None:
    assert set(metrics_reference.MEANINGS) <= set(metrics_reference.recorded_by_row())


@pytest.mark.parametrize(
    ("metric", "unit"),
    [
        ("vllm:time_to_first_token_seconds", "s"),
        ("vllm:kv_cache_usage_perc", "0 to 1"),
        ("vllm:prompt_tokens_by_source_total", "tokens"),
        ("vllm:num_preemptions_total", ""),
        ("vllmstack_gpu_temperature_slowdown_celsius", "°C"),
        ("vllmstack_gateway_sheds_total", "requests"),
        ("vllmstack_certificate_expires_timestamp_seconds", "s since 1970"),
        ("vllmstack_loadtest_offered_requests_per_second", "requests/s"),
        ("node_network_receive_bytes_total", "B"),
    ],
)
def test_units_are_read_off_names(metric: str, unit: str) -> None:
    assert metrics_reference.unit(metric) == unit
