"""Every refusal: its place, its exact words, and that what it suggests does fit."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.planning.conftest import PlanOne, machine
from vllmstack.errors import InvalidInput

Refusals = Callable[..., list[tuple[str, str, str]]]

LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
LLAMA_7B = "meta-llama/Llama-2-7b-chat-hf"
LLAMA_13B = "meta-llama/Llama-2-13b-chat-hf"
LLAMA_70B = "meta-llama/Llama-2-70b-chat-hf"
AWQ = "TheBloke/Llama-2-7B-Chat-AWQ"

CASES: list[tuple[str, str, dict[str, Any], str, str, str]] = [
    (
        LLAMA_8B,
        "L4",
        {"serve": {"max_model_len": 131072}},
        "serve/max_model_len",
        "131072 is more than the 26,336 tokens that 1 × L4 (22.0 GiB) holds",
        "write max_model_len: 24576, or gpus: 2",
    ),
    (
        LLAMA_8B,
        "L4",
        {},
        "serve/max_model_len",
        "left out, so it is the model's own 131072: more than the 26,336 tokens that 1 × L4 (22.0 GiB) holds",
        "write max_model_len: 24576, or gpus: 2",
    ),
    (
        LLAMA_13B,
        "L4",
        {},
        "gpus",
        "the weights take 24.2 GiB of each GPU, and 1 × L4 (22.0 GiB) has room for 18.8 GiB at gpu_memory_utilization "
        "0.92",
        "write gpus: 2, or quantization: fp8",
    ),
    (
        LLAMA_70B,
        "T4",
        {},
        "gpus",
        "the weights take 128.5 GiB of each GPU, and 1 × T4 (14.6 GiB) has room for 10.9 GiB at "
        "gpu_memory_utilization 0.92",
        "write gpus: 16",
    ),
    (
        LLAMA_7B,
        "H100",
        {"gpus": 3},
        "gpus",
        "3 GPUs cannot share the model's 32 attention heads (32 of keys and values) evenly",
        "write gpus: 2 or 4",
    ),
    (
        LLAMA_7B,
        "H100",
        {"gpus": 6, "serve": {"tensor_parallel_size": 3, "pipeline_parallel_size": 2}},
        "serve/tensor_parallel_size",
        "3 GPUs cannot share the model's 32 attention heads (32 of keys and values) evenly",
        "write tensor_parallel_size: 2 or 4",
    ),
    (
        LLAMA_7B,
        "H100",
        {"gpus": 1, "serve": {"tensor_parallel_size": 2}},
        "serve/tensor_parallel_size",
        "the parallel sizes multiply to 2 GPUs, and gpus gives a replica 1",
        "write gpus: 2, or leave the parallel sizes out: tensor parallelism then spans a replica's GPUs",
    ),
    (
        LLAMA_7B,
        "H100",
        {"serve": {"max_model_len": 8192}},
        "serve/max_model_len",
        "8192 is more than the 4,096 positions that the model was made for",
        "write max_model_len: 4096",
    ),
    (
        LLAMA_7B,
        "T4",
        {"gpus": 2, "serve": {"dtype": "bfloat16"}},
        "serve/dtype",
        "bfloat16 needs compute capability 8.0, and T4 has 7.5",
        "write dtype: half",
    ),
    (
        LLAMA_7B,
        "L40S",
        {"serve": {"quantization": "awq"}},
        "serve/quantization",
        "awq reads checkpoints that are quantised so, and this one is not quantised",
        "name a quantised model in source, or write quantization: fp8, which quantises while loading",
    ),
    (
        LLAMA_7B,
        "L40S",
        {"serve": {"gpu_memory_utilization": 1.0}},
        "serve/gpu_memory_utilization",
        "1 leaves 0.0 GiB of 1 × L40S (44.4 GiB) for CUDA itself, which takes about 0.5 GiB",
        "write gpu_memory_utilization: 0.98",
    ),
    (
        LLAMA_7B,
        "L40S",
        {"serve": {"max_num_seqs": 0}},
        "serve/max_num_seqs",
        "0 is not a whole number above 0",
        "write max_num_seqs: 8192 or the like; 8k is 8000 and 8K is 8192",
    ),
]


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_run_is_refused(refusals: Refusals, case: tuple[str, str, dict[str, Any], str, str, str]) -> None:
    hub, gpu, model, place, fact, hint = case

    assert refusals(hub, gpu, **model) == [(f"models/0/{place}", fact, hint)]


def test_awq_is_refused_where_no_kernel_runs_it(refusals: Refusals) -> None:
    volta = machine("T4")
    old = volta.gpus[0].__class__(
        id=0, name="Tesla V100", memory_bytes=32 << 30, used_bytes=0, compute_capability=(7, 0)
    )
    inventory = volta.__class__(gpus=(old,), memory_bytes=volta.memory_bytes, core_ids=volta.core_ids)

    assert refusals(AWQ, inventory=inventory) == [
        (
            "models/0/source",
            "awq needs compute capability 7.5, and Tesla V100 has 7.0",
            "use a GPU of the Turing generation or newer, or a GPTQ or unquantised model",
        )
    ]


@pytest.mark.parametrize("gpu", ["T4", "L4", "A10G", "RTX-4090", "L40S", "A100-40GB", "H100-80GB"])
@pytest.mark.parametrize("hub", [LLAMA_8B, LLAMA_13B, LLAMA_70B, "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen3-8B"])
@pytest.mark.parametrize("serve", [{}, {"gpu_memory_utilization": 0.7}, {"kv_cache_dtype": "fp8"}])
def test_each_value_that_is_suggested_fits(
    plan_one: PlanOne, refusals: Refusals, hub: str, gpu: str, serve: dict[str, Any]
) -> None:
    try:
        plan_one(hub, gpu, serve=serve)
    except InvalidInput:
        ((_, _, hint),) = refusals(hub, gpu, serve=serve)
    else:
        return
    suggestions = re.findall(r"(max_model_len|gpus|quantization|kv_cache_dtype): (\w+)", hint)

    for option, value in suggestions:
        if option == "gpus":
            plan = plan_one(hub, gpu, gpus=int(value), serve=serve)
        else:
            plan = plan_one(hub, gpu, serve=serve | {option: int(value) if value.isdigit() else value})
        assert plan.budgets["m"].fits
        assert not any("own error" in warning for warning in plan.warnings)
    assert suggestions or hint.startswith("use a smaller model, or GPUs with ")


def test_max_model_len_auto_takes_what_fits(plan_one: PlanOne) -> None:
    budget = plan_one(LLAMA_8B, "L4", serve={"max_model_len": "auto"}).budgets["m"]

    assert budget.max_model_len == budget.kv_cache_tokens == 26_336


def test_a_length_near_the_limit_is_named(plan_one: PlanOne) -> None:
    warnings = plan_one(LLAMA_8B, "L4", serve={"max_model_len": 26_300}).warnings

    assert warnings[-1] == (
        "m: max_model_len 26300 is within the plan's own error of the 26,336 tokens that fit; 24576 is safe"
    )


@pytest.mark.parametrize(
    ("hub", "gpu", "model", "note"),
    [
        (
            "RedHatAI/Llama-3.2-1B-Instruct-FP8",
            "A100-40GB",
            {},
            "m: A100-40GB (compute capability 8.0) multiplies no FP8: vLLM uses it for the weights alone (Marlin), "
            "which saves memory but computes at 16-bit speed",
        ),
        (
            "Qwen/Qwen3-0.6B",
            "T4",
            {},
            "m: T4 (compute capability 7.5) has no bfloat16; vLLM takes float16 instead",
        ),
        (
            "Qwen/Qwen3-0.6B",
            "L4",
            {"serve": {"speculative_config": {"model": "x/y", "num_speculative_tokens": 3}}},
            "m: the draft model of speculative_config is not counted; leave it room",
        ),
        (
            "Qwen/Qwen3-0.6B",
            "L4",
            {"serve": {"gpu_memory_utilization": 0.98}},
            "m: vLLM takes about 0.5 GiB beside its share of L4, and gpu_memory_utilization 0.98 leaves 0.4 GiB; "
            "0.97 is safe",
        ),
    ],
)
def test_what_is_only_noted(plan_one: PlanOne, hub: str, gpu: str, model: dict[str, Any], note: str) -> None:
    assert note in plan_one(hub, gpu, **model).warnings


def test_the_models_own_length_may_be_passed_where_vllm_allows_it(plan_one: PlanOne) -> None:
    allowed = {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}

    assert plan_one(LLAMA_7B, "H100", serve={"max_model_len": 8192}, environment=allowed).budgets["m"].fits
