"""The budget of a GPU against what vLLM 0.26.0 logged on one and two H200s."""

from dataclasses import replace
from typing import Any

import pytest

from vllmstack.planning.budget import GpuShare
from vllmstack.planning.dimensions import ModelDimensions, public_models
from vllmstack.planning.engine_options import read_options, release_of
from vllmstack.planning.gpus import gpu_type
from vllmstack.planning.memory import cpu_budget, gpu_budget, resolve_dtype

GIB = 1 << 30
OLD = release_of("vllm/vllm-openai:v0.26.0")
NEW = release_of("vllm/vllm-openai:v0.32.0")


def share(name: str) -> GpuShare:
    row = gpu_type(name)
    return GpuShare(
        name=row.name,
        memory_bytes=row.memory_bytes,
        usable_bytes=row.usable_bytes,
        compute_capability=row.compute_capability,
    )


def dimensions(name: str) -> ModelDimensions:
    """A model of public dimensions in bfloat16, as it was measured."""
    hub = {
        "llama2-7b": "meta-llama/Llama-2-7b-chat-hf",
        "llama2-13b": "meta-llama/Llama-2-13b-chat-hf",
        "llama3.1-8b": "meta-llama/Llama-3.1-8B-Instruct",
        "llama3.2-1b": "meta-llama/Llama-3.2-1B-Instruct",
    }
    return replace(public_models()[hub[name]], dtype="bfloat16")


SMALL = {"max_num_batched_tokens": 2048, "max_num_seqs": 256}
FP8 = {"quantization": "fp8", "kv_cache_dtype": "fp8"}

MEASURED: list[tuple[str, int, dict[str, Any], int]] = [
    ("llama3.1-8b", 1, {"gpu_memory_utilization": 0.9}, 896_912),
    ("llama3.1-8b", 1, {"gpu_memory_utilization": 0.9, **FP8}, 1_899_696),
    ("llama2-7b", 1, {"gpu_memory_utilization": 0.6, "max_model_len": 4096}, 144_016),
    ("llama3.1-8b", 1, {"gpu_memory_utilization": 0.9, **SMALL}, 897_680),
    ("llama3.1-8b", 1, {"gpu_memory_utilization": 0.9, "enforce_eager": True, **SMALL}, 903_968),
    ("llama3.2-1b", 1, {"quantization": "fp8", "max_model_len": 8192, **SMALL}, 4_142_496),
    ("llama2-7b", 1, {"gpu_memory_utilization": 0.6, "enforce_eager": True, **SMALL}, 145_200),
    ("llama2-13b", 1, {}, 135_184),
    ("llama2-7b", 2, {"gpu_memory_utilization": 0.6, "max_model_len": 4096}, 315_408),
    ("llama3.1-8b", 2, {"gpu_memory_utilization": 0.9}, 1_925_200),
]
"""Model, GPUs, options, and the tokens in vLLM's line "GPU KV cache size"."""


@pytest.mark.parametrize(("name", "devices", "serve", "logged"), MEASURED)
def test_kv_cache_tokens_are_those_that_vllm_logs(name: str, devices: int, serve: dict[str, Any], logged: int) -> None:
    budget = gpu_budget(dimensions(name), read_options(serve), share("H200"), devices=devices, release=OLD)

    assert budget.kv_cache_tokens == pytest.approx(logged, rel=0.001)


@pytest.mark.parametrize(
    ("name", "devices", "serve", "logged_gib"),
    [
        ("llama2-7b", 1, {"max_model_len": 4096}, 0.73),
        ("llama3.1-8b", 1, SMALL, 0.59),
        ("llama3.1-8b", 1, FP8, 0.90),
        ("llama3.2-1b", 1, SMALL, 0.29),
        ("llama2-13b", 1, {}, 1.20),
        ("llama3.1-8b", 2, {}, 0.72),
    ],
)
def test_cuda_graphs_are_within_a_fifth_of_what_vllm_logs(
    name: str, devices: int, serve: dict[str, Any], logged_gib: float
) -> None:
    budget = gpu_budget(dimensions(name), read_options(serve), share("H200"), devices=devices, release=OLD)

    assert budget.graphs_bytes / GIB == pytest.approx(logged_gib, rel=0.2)


def test_the_parts_add_up_to_the_whole() -> None:
    for release in (OLD, NEW):
        budget = gpu_budget(dimensions("llama2-7b"), read_options({}), share("L40S"), devices=1, release=release)

        assert sum(size for _, size in budget.parts) == budget.total_bytes


def test_the_newer_release_takes_graphs_and_sampler_out_of_the_kv_cache() -> None:
    options = read_options({})
    old = gpu_budget(dimensions("llama3.1-8b"), options, share("H200"), devices=1, release=OLD)

    new = gpu_budget(dimensions("llama3.1-8b"), options, share("H200"), devices=1, release=NEW)

    assert old.kv_cache_bytes - new.kv_cache_bytes == old.uncounted_bytes
    assert new.uncounted_bytes == 0


def test_tokens_come_in_whole_blocks() -> None:
    options = read_options({"block_size": 128})

    budget = gpu_budget(dimensions("llama3.1-8b"), options, share("L40S"), devices=1, release=NEW)

    assert budget.kv_cache_tokens % 128 == 0


def test_a_sliding_window_holds_more_sequences_than_full_attention() -> None:
    windowed = replace(dimensions("llama3.1-8b"), sliding_window=4096)
    options = read_options({"max_model_len": 131072})
    full = gpu_budget(dimensions("llama3.1-8b"), options, share("H200"), devices=1, release=NEW)

    budget = gpu_budget(windowed, options, share("H200"), devices=1, release=NEW)

    # 4095 tokens of the window and a batch of 8192, and one block more because the window need not start at one's edge
    assert budget.blocks_per_sequence == -(-(4095 + 8192) // 16) + 1
    assert budget.full_length_sequences > 10 * full.full_length_sequences


def test_weights_larger_than_the_gpu_leave_nothing() -> None:
    budget = gpu_budget(dimensions("llama2-13b"), read_options({}), share("L4"), devices=1, release=NEW)

    assert budget.kv_cache_bytes < 0
    assert (budget.kv_cache_tokens, budget.fits) == (0, False)


def test_kv_cache_memory_bytes_replaces_the_reckoning() -> None:
    options = read_options({"kv_cache_memory_bytes": "4G", "max_model_len": 4096})

    budget = gpu_budget(dimensions("llama2-7b"), options, share("L40S"), devices=1, release=NEW)

    assert budget.kv_cache_tokens == 4 * GIB // (16 * 524288) * 16


@pytest.mark.parametrize(
    ("written", "checkpoint", "capability", "served"),
    [
        ("auto", "bfloat16", (8, 0), "bfloat16"),
        ("auto", "bfloat16", (7, 5), "float16"),
        ("auto", "float32", (8, 0), "bfloat16"),
        ("auto", "float32", (7, 5), "float16"),
        ("auto", "float16", (9, 0), "float16"),
        ("half", "bfloat16", (9, 0), "float16"),
        ("float", "bfloat16", (9, 0), "float32"),
        ("auto", "bfloat16", None, "bfloat16"),
    ],
)
def test_dtype_is_resolved_as_vllm_does(
    written: str, checkpoint: str, capability: tuple[int, int] | None, served: str
) -> None:
    model = replace(dimensions("llama2-7b"), dtype=checkpoint)

    assert resolve_dtype(model, read_options({"dtype": written}), capability) == served


def test_a_cpu_replica_takes_weights_process_and_kv_space() -> None:
    model = public_models()["Qwen/Qwen3-0.6B"]

    budget = cpu_budget(model, read_options({"enforce_eager": True}), memory_bytes=10 * GIB, kv_space_bytes=GIB)

    assert budget.requested_bytes == 2 * 596_049_920 + 1_400_000_000 + GIB
    assert budget.block_size == 128
    assert budget.kv_cache_tokens == GIB // (128 * 28 * 2 * 8 * 128 * 2) * 128


def test_a_cpu_replica_without_kv_space_takes_its_share_of_the_memory() -> None:
    model = public_models()["Qwen/Qwen3-0.6B"]

    budget = cpu_budget(model, read_options({}), memory_bytes=10 * GIB, kv_space_bytes=None)

    assert budget.requested_bytes == pytest.approx(9.2 * GIB, abs=2)
