"""config.json → dimensions."""

from typing import Any

import pytest

from vllmstack.planning.dimensions import UnknownDimensions, from_config, public_models

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}


def test_head_size_and_heads_of_keys_have_llamas_defaults() -> None:
    model = from_config({key: value for key, value in LLAMA.items() if key != "num_key_value_heads"})

    assert (model.head_dim, model.kv_heads) == (64, 32)


def test_a_sliding_window_that_is_switched_off_is_none() -> None:
    qwen = LLAMA | {"architectures": ["Qwen2ForCausalLM"], "sliding_window": 32768, "use_sliding_window": False}

    assert from_config(qwen).sliding_window is None
    assert from_config(qwen | {"use_sliding_window": True}).sliding_window == 32768


@pytest.mark.parametrize(
    ("scaling", "longest"),
    [
        ({"rope_type": "llama3", "factor": 32.0, "original_max_position_embeddings": 8192}, 131072),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        ({"type": "linear", "factor": 2.0}, 262144),
        (None, 131072),
    ],
)
def test_rope_scaling_lengthens_the_model_as_vllm_reckons(scaling: dict[str, Any] | None, longest: int) -> None:
    assert from_config(LLAMA | {"rope_scaling": scaling}).max_positions == longest


@pytest.mark.parametrize(
    ("section", "bits", "group", "lm_head", "kv"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 4, 128, False, None),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, 8, None, False, None),
        ({"quant_method": "fp8"}, 8, None, False, None),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}},
                "ignore": ["lm_head"],
                "kv_cache_scheme": {"num_bits": 8, "type": "float"},
            },
            8,
            None,
            False,
            "fp8",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "group_0": {"weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}}
                },
                "ignore": [],
            },
            4,
            128,
            True,
            None,
        ),
    ],
)
def test_quantisation_of_a_checkpoint_is_read(
    section: dict[str, Any], bits: int, group: int | None, lm_head: bool, kv: str | None
) -> None:
    found = from_config(LLAMA | {"quantization_config": section}).quantization

    assert found is not None
    assert (found.bits, found.group_size, found.lm_head, found.kv_cache_dtype) == (bits, group, lm_head, kv)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "the architecture MambaForCausalLM is not one that the planner"),
        ({"architectures": None}, r"the architecture \(none\) is not one that the planner knows"),
        ({"hidden_size": "wide"}, "config.json: invalid literal"),
        ({"quantization_config": {"quant_method": "aqlm"}}, "the quantisation aqlm is not one that the planner knows"),
    ],
)
def test_what_cannot_be_computed_is_unknown(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnknownDimensions, match=reason):
        from_config(LLAMA | change)


def test_a_missing_number_is_named() -> None:
    with pytest.raises(UnknownDimensions, match=r"^config\.json has no vocab_size$"):
        from_config({key: value for key, value in LLAMA.items() if key != "vocab_size"})


def test_the_public_table_has_every_model_that_the_documentation_names() -> None:
    assert {
        "RedHatAI/Llama-3.2-1B-Instruct-FP8",
        "Qwen/Qwen3-0.6B",
        "meta-llama/Llama-2-7b-chat-hf",
        "meta-llama/Llama-2-13b-chat-hf",
        "meta-llama/Llama-2-70b-chat-hf",
        "TheBloke/Llama-2-7B-Chat-AWQ",
        "mistralai/Mistral-7B-Instruct-v0.3",
        "meta-llama/Llama-3.1-8B-Instruct",
        "RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8",
    } <= public_models().keys()
