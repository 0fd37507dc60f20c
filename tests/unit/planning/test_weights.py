"""Parameters and bytes against what the published checkpoints hold."""

from dataclasses import replace

import pytest

from vllmstack.planning.dimensions import Quantization, public_models
from vllmstack.planning.weights import (
    decode_weights_bytes,
    kv_elements_per_token,
    layer_kinds,
    parameter_count,
    rotary_table_bytes,
    token_parameters,
    weights_bytes,
)

PARAMETERS = {
    "meta-llama/Llama-2-7b-chat-hf": 6_738_415_616,
    "meta-llama/Llama-2-13b-chat-hf": 13_015_864_320,
    "meta-llama/Llama-2-70b-chat-hf": 68_976_648_192,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "meta-llama/Llama-3.3-70B-Instruct": 70_553_706_496,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
    "mistralai/Mistral-7B-Instruct-v0.3": 7_248_023_552,
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen2.5-14B-Instruct": 14_770_033_664,
    "Qwen/Qwen2.5-72B-Instruct": 72_706_203_648,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "mistralai/Mixtral-8x7B-Instruct-v0.1": 46_702_792_704,
    "google/gemma-2-2b-it": 2_614_341_888,
    "google/gemma-2-9b-it": 9_241_705_984,
    "google/gemma-2-27b-it": 27_227_128_320,
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "microsoft/phi-4": 14_659_507_200,
    "deepseek-ai/DeepSeek-V2-Lite-Chat": 15_706_484_224,
}
"""As the hub's pages of these repositories give them; each bfloat16 checkpoint is twice as many bytes."""


@pytest.mark.parametrize(("hub", "count"), PARAMETERS.items())
def test_parameters_are_those_of_the_checkpoint(hub: str, count: int) -> None:
    assert parameter_count(public_models()[hub]) == count


def test_deepseek_v3_has_671_billion_parameters_and_37_for_each_token() -> None:
    model = public_models()["deepseek-ai/DeepSeek-V3"]

    # DeepSeek-V3 Technical Report (arXiv 2412.19437), abstract.
    assert parameter_count(model) / 1e9 == pytest.approx(671, rel=0.001)
    assert (token_parameters(model) + model.vocabulary * model.hidden_size) / 1e9 == pytest.approx(37, abs=0.5)


def test_latent_attention_keeps_one_short_vector_for_all_heads_and_ranks() -> None:
    model = public_models()["deepseek-ai/DeepSeek-V3"]

    assert kv_elements_per_token(model) == kv_elements_per_token(model, tensor_parallel=8) == 61 * 576


def test_a_bfloat16_checkpoint_is_two_bytes_a_parameter() -> None:
    model = public_models()["meta-llama/Llama-3.1-8B-Instruct"]

    assert weights_bytes(model, dtype="bfloat16", quantization=None) == 2 * 8_030_261_248


@pytest.mark.parametrize(
    ("hub", "gigabytes"),
    [
        # model.safetensors of the repository
        ("TheBloke/Llama-2-7B-Chat-AWQ", 3.89),
        # vLLM 0.26.0 logs 8.51 GiB for these dimensions with quantization: fp8, of which 0.03 are the rotary table
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8", 9.09),
    ],
)
def test_a_quantised_checkpoint_is_within_one_percent(hub: str, gigabytes: float) -> None:
    model = public_models()[hub]

    size = weights_bytes(model, dtype=model.dtype, quantization=model.quantization)

    assert size / 1e9 == pytest.approx(gigabytes, rel=0.01)


def test_tensor_parallelism_divides_all_but_norms() -> None:
    model = public_models()["meta-llama/Llama-2-70b-chat-hf"]
    whole = weights_bytes(model, dtype="float16", quantization=None)

    quarter = weights_bytes(model, dtype="float16", quantization=None, tensor_parallel=4)

    norms = 2 * (2 * model.layers + 1) * model.hidden_size
    assert quarter - norms == (whole - norms) // 4


def test_heads_of_keys_are_repeated_where_there_are_more_gpus() -> None:
    model = replace(public_models()["meta-llama/Llama-3.1-8B-Instruct"], kv_heads=2)

    [kind] = layer_kinds(model, tensor_parallel=8)

    key = kind.matrices[1]
    assert key == (128, 4096)


def test_pipeline_stages_hold_their_layers_and_one_vocabulary_matrix() -> None:
    model = public_models()["meta-llama/Llama-2-7b-chat-hf"]
    whole = weights_bytes(model, dtype="float16", quantization=None)

    stage = weights_bytes(model, dtype="float16", quantization=None, pipeline_parallel=2)

    assert stage == pytest.approx(whole / 2, rel=0.001)


def test_experts_multiply_the_mlp() -> None:
    mistral = public_models()["mistralai/Mistral-7B-Instruct-v0.2"]
    mixtral = replace(
        mistral, architecture="MixtralForCausalLM", experts=8, experts_per_token=2, expert_intermediate_size=14336
    )

    assert parameter_count(mixtral) == 46_702_792_704


def test_groups_carry_scales_and_zero_points() -> None:
    awq = Quantization(method="awq", bits=4, group_size=128, scale_bytes=2, zero_points=True)

    assert awq.matrix_bytes(256, 1024) == 256 * 1024 // 2 + 256 * 8 * 2 + 256 * 8 // 2


def test_the_rotary_table_is_a_row_for_each_position() -> None:
    assert rotary_table_bytes(public_models()["meta-llama/Llama-3.1-8B-Instruct"], "bfloat16") == 131072 * 128 * 2


def test_a_step_reads_all_but_the_embeddings_table() -> None:
    model = public_models()["meta-llama/Llama-3.1-8B-Instruct"]

    read = decode_weights_bytes(model, dtype="bfloat16", quantization=None)

    assert read == 2 * (8_030_261_248 - 128_256 * 4096)


def test_a_step_reads_a_table_that_the_output_layer_shares() -> None:
    model = public_models()["meta-llama/Llama-3.2-1B-Instruct"]

    assert model.tied_embeddings
    assert decode_weights_bytes(model, dtype="bfloat16", quantization=None) == 2 * 1_235_814_400


def test_a_step_reads_the_experts_of_one_token() -> None:
    dense = replace(public_models()["mistralai/Mistral-7B-Instruct-v0.3"], vocabulary=32_000)
    mixture = replace(dense, experts=8, experts_per_token=2, expert_intermediate_size=14336)

    read = decode_weights_bytes(mixture, dtype="bfloat16", quantization=None)

    # Mixtral 8x7B: 12.9 billion of its 46.7 billion parameters are active (Jiang et al., 2024), its table among them.
    assert (read / 2 + 32_000 * 4096) / 1e9 == pytest.approx(12.9, abs=0.05)
    assert weights_bytes(mixture, dtype="bfloat16", quantization=None) / 2e9 == pytest.approx(46.7, abs=0.05)


def test_a_step_of_a_quantised_model_reads_what_is_stored() -> None:
    model = public_models()["TheBloke/Llama-2-7B-Chat-AWQ"]
    whole = weights_bytes(model, dtype="float16", quantization=model.quantization)

    read = decode_weights_bytes(model, dtype="float16", quantization=model.quantization)

    assert read == whole - 32_000 * 4096 * 2
