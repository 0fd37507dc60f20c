"""Step times against what the GPU's datasheet allows, and against each other."""

from collections import Counter

import pytest

from tests.unit.prediction.designs import design
from vllmstack.planning.dimensions import public_models
from vllmstack.planning.gpus import gpu_types
from vllmstack.planning.weights import decode_weights_bytes, token_parameters
from vllmstack.prediction.design import Design, Speculation
from vllmstack.prediction.efficiency import calibration
from vllmstack.prediction.roofline import attention_rows, flops_per_second

H200 = gpu_types()["H200"]


def seconds(one: Design, *, decoding: int = 0, context: int = 0, prefill: int = 0) -> float:
    times = one.profile(calibration().efficiency).times
    return times.seconds(decoding=decoding, context=context, prefill=prefill, prefill_context=prefill**2 / 2)


def test_a_token_takes_longer_than_its_weights_at_full_bandwidth() -> None:
    one = design()
    least = decode_weights_bytes(one.model, dtype="bfloat16", quantization=None) / H200.bandwidth_bytes_per_second

    # vLLM 0.26.0 on an H200: 4.8 ms (docs/reference/prediction.md), of which the weights are 3.1.
    assert least == pytest.approx(0.0031, rel=0.02)
    assert seconds(one, decoding=1, context=500) == pytest.approx(0.0048, rel=0.08)


def test_a_full_batch_of_prompts_takes_longer_than_its_products_at_full_speed() -> None:
    one = design()
    least = 2 * token_parameters(one.model) * 8192 / H200.flops_per_second

    assert least < seconds(one, prefill=8192) < 2 * least


def test_two_gpus_share_weights_but_not_what_is_fixed() -> None:
    alone, both = seconds(design(), decoding=1, context=500), seconds(design(gpus=2), decoding=1, context=500)

    assert alone / 2 < both < alone


def test_few_tokens_wake_few_experts() -> None:
    mixtral = design("mistralai/Mixtral-8x7B-Instruct-v0.1", gpu="B200")

    one, many = seconds(mixtral, decoding=1, context=100), seconds(mixtral, decoding=64, context=6400)

    # 2 of 8 experts are read for one token, nearly all for 64.
    assert many > 2.5 * one


def test_eight_bit_weights_are_read_and_multiplied_faster() -> None:
    plain, packed = design(), design(quantization="fp8")

    assert seconds(packed, decoding=1, context=100) < 0.75 * seconds(plain, decoding=1, context=100)
    assert seconds(packed, prefill=8192) < 0.65 * seconds(plain, prefill=8192)


def test_a_gpu_without_eight_bit_products_multiplies_as_before() -> None:
    quantization = design("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8").model.quantization

    assert flops_per_second(gpu_types()["A100-80GB"], quantization) == gpu_types()["A100-80GB"].flops_per_second
    assert flops_per_second(H200, quantization) == 2 * H200.flops_per_second


def test_a_window_bounds_the_context_that_is_read() -> None:
    windowed = design("microsoft/Phi-3-mini-4k-instruct", max_model_len=4096)

    assert seconds(windowed, decoding=1, context=4000) == pytest.approx(
        seconds(windowed, decoding=1, context=2047), rel=1e-3
    )


@pytest.mark.parametrize(
    ("hub", "gpu", "rows"),
    [
        ("meta-llama/Llama-3.1-8B", "H200", {64: 32}),
        ("meta-llama/Llama-3.2-1B", "H200", {64: 16}),
        ("microsoft/Phi-3-mini-4k-instruct", "H200", {192: 32}),  # head size 96
        ("tiiuae/Falcon3-7B-Base", "H100-80GB", {128: 28}),  # 256
        ("google/gemma-2-27b-it", "H200", {64: 23, 128: 23}),  # 128, every other layer with a window
        ("microsoft/Phi-3-mini-4k-instruct", "A100-80GB", {0: 32}),
        ("deepseek-ai/DeepSeek-V2-Lite-Chat", "H200", {0: 27}),
    ],
)
def test_tiles_of_attention_are_those_of_flash_attention_3(hub: str, gpu: str, rows: dict[int, int]) -> None:
    assert Counter(attention_rows(public_models()[hub], gpu_types()[gpu])) == rows


def test_many_speculated_tokens_need_larger_tiles() -> None:
    llama = public_models()["meta-llama/Llama-3.1-8B"]

    assert set(attention_rows(llama, H200, speculated_tokens=15)) == {64}  # with 4 heads to a head of keys
    assert set(attention_rows(llama, H200, speculated_tokens=16)) == {128}


def test_keys_take_as_long_as_they_are_computed_with_where_that_is_longer_than_reading_them() -> None:
    phi, efficiency = design("microsoft/Phi-3-mini-4k-instruct", max_model_len=4096), calibration().efficiency
    heads, context = phi.model.layers * phi.model.kv_heads, 100_000
    read = 4 * heads * phi.model.head_dim / (H200.bandwidth_bytes_per_second * efficiency.cache_ratio)

    taken = seconds(phi, decoding=256, context=2 * context) - seconds(phi, decoding=256, context=context)

    assert taken / context == pytest.approx(heads * 192 * efficiency.key_row_seconds)
    assert taken / context > 1.3 * read


def test_a_small_prompt_beyond_the_graphs_takes_as_long_as_launching_it() -> None:
    graphs, eager = seconds(design(), prefill=500), seconds(design(), prefill=520)

    assert eager > 1.5 * graphs
    assert seconds(design(enforce_eager=True), decoding=1, context=500) > 3 * seconds(design(), decoding=1, context=500)


def test_speculation_checks_its_tokens_in_one_step() -> None:
    speculating = design(speculation=Speculation(tokens=3, acceptance=0.7))

    assert speculating.speculation is not None
    assert speculating.speculation.tokens_per_step == pytest.approx(1 + 0.7 + 0.49 + 0.343)
    assert seconds(speculating, decoding=1, context=500) < 1.5 * seconds(design(), decoding=1, context=500)
