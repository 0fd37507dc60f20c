"""Designs and what may be changed of them."""

import pytest

from tests.unit.prediction.designs import design
from vllmstack.prediction.design import Speculation
from vllmstack.prediction.efficiency import calibration

EFFICIENCY = calibration().efficiency


def test_a_profile_has_the_blocks_of_the_plan() -> None:
    one = design(gpu_memory_utilization=0.9)

    # vLLM 0.26.0 on an H200 logs 896,912 tokens.
    assert one.profile(EFFICIENCY).blocks * 16 == pytest.approx(896_912, rel=0.001)
    assert (one.profile(EFFICIENCY).max_sequences, one.profile(EFFICIENCY).max_batched_tokens) == (1024, 8192)


def test_a_model_that_does_not_fit_has_no_profile() -> None:
    with pytest.raises(ValueError, match="one sequence of 8192 tokens does not fit"):
        design("Qwen/Qwen2.5-72B-Instruct").profile(EFFICIENCY)


def test_widths_are_those_that_can_share_the_heads_and_fit() -> None:
    assert [one.gpus_per_replica for one in design().widths()] == [1, 2, 4, 8]
    assert [one.gpus_per_replica for one in design("Qwen/Qwen2.5-72B-Instruct").widths()] == [2, 4, 8]
    assert [one.gpus_per_replica for one in design("Qwen/Qwen2.5-0.5B-Instruct").widths()] == [1, 2]


def test_alternatives_are_written_as_in_a_deployment() -> None:
    assert [one.change for one in design().alternatives()] == [
        "max_num_batched_tokens: 2048",
        "max_num_batched_tokens: 16384",
        "quantization: fp8",
        "quantization: fp8, kv_cache_dtype: fp8",
    ]


def test_what_a_gpu_cannot_multiply_is_not_proposed() -> None:
    changes = [one.change for one in design(gpu="A100-80GB", enforce_eager=True).alternatives()]

    assert changes == ["max_num_batched_tokens: 8192", "max_num_batched_tokens: 16384", "enforce_eager: false"]


def test_speculated_tokens_come_by_the_acceptance() -> None:
    assert Speculation(tokens=1, acceptance=0.5).tokens_per_step == pytest.approx(1.5)
    assert Speculation(tokens=4, acceptance=0.0).tokens_per_step == pytest.approx(1.0)
