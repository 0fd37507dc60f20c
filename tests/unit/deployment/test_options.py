"""The option list of the pinned vLLM, and what it answers to what people write."""

from pathlib import Path

import pytest
import yaml

from vllmstack.deployment.options import Kind, normalised, option_list, release_notes
from vllmstack.deployment.serve_checks import OWNED, serve_problems

ROOT = Path(__file__).resolve().parents[3]


def test_the_list_is_of_the_release_that_images_are_pinned_to() -> None:
    pinned = yaml.safe_load((ROOT / "docker" / "images.yaml").read_text())["vllm"]

    assert option_list().release == pinned


def test_the_options_that_experiments_vary_are_known_in_both_releases() -> None:
    varied = (
        "kv_cache_dtype",
        "block_size",
        "max_num_seqs",
        "max_num_batched_tokens",
        "speculative_config",
        "enable_prefix_caching",
        "tensor_parallel_size",
        "shutdown_timeout",
        "override_generation_config",
    )

    assert all(not option_list().options[name].is_new for name in varied)


def test_every_option_that_the_stack_owns_is_one() -> None:
    assert OWNED.keys() <= option_list().options.keys()


@pytest.mark.parametrize(
    ("name", "kind", "is_list"),
    [
        ("enforce_eager", Kind.FLAG, False),
        ("headless", Kind.SWITCH, False),
        ("max_num_seqs", Kind.INTEGER, False),
        ("max_num_batched_tokens", Kind.SIZE, False),
        ("max_model_len", Kind.SIZE_OR_AUTO, False),
        ("gpu_memory_utilization", Kind.NUMBER, False),
        ("dtype", Kind.TEXT, False),
        ("speculative_config", Kind.JSON, False),
        ("hf_overrides", Kind.TEXT_OR_JSON, False),
        ("cudagraph_capture_sizes", Kind.INTEGER, True),
    ],
)
def test_kinds_come_from_vllms_own_parser(name: str, kind: Kind, is_list: bool) -> None:
    option = option_list().options[name]

    assert (option.kind, option.is_list) == (kind, is_list)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_model_len", "16k"),
        ("max_model_len", "16K"),
        ("max_model_len", "1.5k"),
        ("max_model_len", "auto"),
        ("max_model_len", -1),
        ("gpu_memory_utilization", 1),
        ("dtype", "bfloat16"),
        ("enforce_eager", False),
        ("speculative_config", {"method": "ngram"}),
        ("speculative_config", '{"method": "ngram"}'),
        ("hf_overrides", {"rope_theta": 1}),
        ("allowed_origins", ["*"]),
        ("cudagraph_capture_sizes", [1, 2]),
        ("cudagraph_capture_sizes", 1),
        ("lora_modules", [{"name": "a", "path": "/b"}, "c=/d"]),
        ("optimization_level", 2),
        ("seed", -1),
        ("max-num-seqs", 8),
    ],
)
def test_what_vllm_takes_passes(name: str, value: object) -> None:
    assert serve_problems({name: value}) == []


@pytest.mark.parametrize(
    ("name", "value", "fact"),
    [
        ("max_model_len", "1.5K", '"1.5K" is text, where a whole number or `auto` belongs'),
        ("max_model_len", 0, "0 is no number of tokens"),
        ("max_num_seqs", True, "is true, where a whole number belongs"),
        ("max_num_seqs", 0, "0 is less than 1"),
        ("max_num_seqs", [8], "is a list, where a whole number belongs"),
        ("gpu_memory_utilization", "0.9", '"0.9" is text, where a number belongs'),
        ("speculative_config", "{not json", '"{not json" is text, where a mapping belongs'),
        ("allowed_origins", "*", '"*" is text, where a list belongs'),
        ("cudagraph_capture_sizes", [1, "two"], '"two" is text, where a whole number belongs'),
        ("chat_template", "-x", '"-x" begins with a dash, and vLLM would take it for an option'),
        ("tokenizer", False, "is false, where text belongs"),
    ],
)
def test_what_vllm_refuses_is_refused_before_it_starts(name: str, value: object, fact: str) -> None:
    (problem,) = serve_problems({name: value})

    assert problem.fact == fact


def test_a_name_that_is_not_text_is_refused() -> None:
    (problem,) = serve_problems({5: 1})

    assert problem.fact == "5 is a whole number, not an option's name"


def test_options_of_one_release_only_are_noted() -> None:
    assert release_notes({"log_level": "INFO", "max_num_seqs": 8}) == (
        "serve/log_level is new: vLLM 0.32.0 has it, 0.26.0 does not",
    )


def test_normalising_leaves_text_that_is_no_json_alone() -> None:
    serve = {"hf-overrides": "module.function", "speculative-config": "[broken", "chat_template": "{{ x }}"}

    assert normalised(serve) == {
        "hf_overrides": "module.function",
        "speculative_config": "[broken",
        "chat_template": "{{ x }}",
    }
