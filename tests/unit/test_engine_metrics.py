"""The numbers of `vllmstack status`, read from a capture of the pinned vLLM."""

import re
from pathlib import Path

import pytest

from vllmstack.engine_metrics import EngineNumbers, read_numbers

CAPTURE = (Path(__file__).parents[1] / "captures" / "vllm-0.32.0-metrics.txt").read_text()


def with_value(metric: str, value: float) -> str:
    """The capture with another value of the one sample that this metric has."""
    text, count = re.subn(rf"^({re.escape(metric)}\{{[^}}]*}}) .*$", rf"\1 {value}", CAPTURE, flags=re.MULTILINE)
    assert count == 1
    return text


def test_a_capture_of_the_pinned_vllm_is_understood() -> None:
    assert read_numbers(CAPTURE) == EngineNumbers(running=0, waiting=0, kv_cache_ratio=0.0, generation_tokens=569.0)


@pytest.mark.parametrize(
    ("metric", "value", "field"),
    [
        ("vllm:num_requests_running", 3.0, "running"),
        ("vllm:num_requests_waiting", 7.0, "waiting"),
        ("vllm:kv_cache_usage_perc", 0.25, "kv_cache_ratio"),
        ("vllm:generation_tokens_total", 1234.0, "generation_tokens"),
    ],
)
def test_each_number_comes_from_its_own_metric(metric: str, value: float, field: str) -> None:
    changed = read_numbers(with_value(metric, value))

    assert getattr(changed, field) == value
    assert {name: getattr(changed, name) for name in vars(changed) if name != field} == {
        name: number for name, number in vars(read_numbers(CAPTURE)).items() if name != field
    }


def test_requests_of_several_engines_are_added_and_their_caches_averaged() -> None:
    text = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0"} 2.0
vllm:num_requests_running{engine="1"} 3.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0"} 0.5
vllm:kv_cache_usage_perc{engine="1"} 1.0
"""

    numbers = read_numbers(text)

    assert numbers.running == 5
    assert numbers.kv_cache_ratio == 0.75


def test_what_is_not_there_counts_as_nothing() -> None:
    assert read_numbers("") == EngineNumbers(running=0, waiting=0, kv_cache_ratio=0.0, generation_tokens=0.0)
