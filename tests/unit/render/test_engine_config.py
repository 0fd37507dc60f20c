"""vLLM's ``--config`` file for a model; how vLLM reads each form is said in the module under test."""

from typing import Any

import pytest
import yaml

from vllmstack.deployment.model import Deployment, Model
from vllmstack.render.engine_config import model_directory, render_engine_config


def text_of(model: Model, *splits: dict[str, Any], **gateway: Any) -> str:
    deployment = Deployment.model_validate({"name": "one", "models": [model], "splits": splits, "gateway": gateway})
    return render_engine_config(model, deployment)


def rendered(*splits: dict[str, Any], gateway: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    model = Model.model_validate({"name": "llama", "source": {"hub": "meta/llama"}} | changes)
    entries: dict[str, Any] = yaml.safe_load(text_of(model, *splits, **(gateway or {})))
    return entries


def test_a_model_of_the_hub_is_named_with_its_revision() -> None:
    entries = rendered(source={"hub": "meta/llama", "revision": "v1"}, aliases=("l",), drain_seconds=7)

    assert entries == {
        "model": "meta/llama",
        "revision": "v1",
        "served-model-name": ["llama", "l"],
        "host": "0.0.0.0",  # noqa: S104
        "port": 8000,
        "shutdown-timeout": 7,
        "enable-log-requests": True,
    }


def test_a_model_answers_to_the_names_of_its_splits_and_of_those_that_mirror_to_it() -> None:
    splits = (
        {"name": "chat", "weights": {"llama": 9, "llama-awq": 1}},
        {"name": "other", "weights": {"llama-awq": 1, "qwen": 1}},
        {"name": "shadow", "weights": {"qwen": 1}, "mirror": {"model": "llama", "ratio": 0.1}},
    )

    assert rendered(*splits, aliases=["l"])["served-model-name"] == ["llama", "l", "chat", "shadow"]
    assert rendered(*splits, name="qwen")["served-model-name"] == ["qwen", "other", "shadow"]


def test_usage_is_told_in_every_stream_where_keys_are_asked_for_unless_the_deployment_says_otherwise() -> None:
    keys = {"api_keys_file": "keys.json"}
    assert "enable-force-include-usage" not in rendered()
    assert rendered(gateway=keys)["enable-force-include-usage"] is True
    assert rendered(serve={"enable-force-include-usage": True})["enable-force-include-usage"] is True

    without = rendered(gateway=keys, serve={"enable-force-include-usage": False})

    assert without["no-enable-force-include-usage"] is True
    assert "enable-force-include-usage" not in without


def test_an_engine_logs_the_ids_of_requests_unless_the_deployment_says_otherwise() -> None:
    without = rendered(serve={"enable_log_requests": False})

    assert rendered()["enable-log-requests"] is True
    assert without["no-enable-log-requests"] is True
    assert "enable-log-requests" not in without


@pytest.mark.parametrize(
    "changes",
    [
        {"environment": {"VLLM_LOGGING_LEVEL": "DEBUG"}},
        {"environment": {"VLLM_LOGGING_CONFIG_PATH": "/models/mine.json"}},
        {"environment": {"VLLM_CONFIGURE_LOGGING": "0"}},
        {"serve": {"log-level": "DEBUG"}},
        {"serve": {"logging_config": {"formatter": "json"}}},
    ],
)
def test_where_the_deployment_configures_logging_itself_no_prompt_comes_into_it_unasked(
    changes: dict[str, Any],
) -> None:
    assert "enable-log-requests" not in rendered(**changes)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("sql=org/sql", '{"name": "sql", "path": "org/sql"}'),
        # 0.26.0 takes no second `=` in this form.
        ("sql=/home/a=b", '{"name": "sql", "path": "/adapters/1"}'),
        ('{"name": "sql", "path": "/home/sql"}', '{"name": "sql", "path": "/adapters/1"}'),
        (
            {"path": "org/sql", "name": "sql", "base_model_name": "llama"},
            '{"name": "sql", "path": "org/sql", "base_model_name": "llama"}',
        ),
    ],
)
def test_an_adapter_in_any_form_is_json_and_a_folder_is_where_it_is_mounted(written: object, read: str) -> None:
    assert rendered(serve={"lora_modules": [written]})["lora-modules"] == [read]
    assert rendered(serve={"lora-modules": written})["lora-modules"] == [read]


def test_a_local_model_is_named_by_its_mount() -> None:
    model = Model.model_validate({"name": "Org/My.Model", "source": {"directory": "/somewhere/else"}})

    assert model_directory(model) == "/models/org-my-model"
    assert "model: /models/org-my-model\n" in text_of(model)
    assert "somewhere" not in text_of(model)


def test_the_gpus_of_a_replica_are_its_tensor_parallel_size() -> None:
    assert rendered(gpus=4)["tensor-parallel-size"] == 4
    assert rendered(gpus=[[0, 1], [2, 3]])["tensor-parallel-size"] == 2
    assert "tensor-parallel-size" not in rendered(gpus=1)


def test_parallel_sizes_that_are_given_stay() -> None:
    entries = rendered(gpus=4, serve={"pipeline_parallel_size": 4})

    assert entries["pipeline-parallel-size"] == 4
    assert "tensor-parallel-size" not in entries


def test_a_preset_becomes_the_generation_defaults() -> None:
    assert rendered(sampling="deterministic")["override-generation-config"]["temperature"] == 0


@pytest.mark.parametrize(
    ("name", "value", "entry"),
    [
        ("max-model-len", 8192, {"max-model-len": 8192}),
        ("max_num_batched_tokens", "16k", {"max-num-batched-tokens": "16k"}),
        ("enforce_eager", True, {"enforce-eager": True}),
        # 0.26.0 drops `false`, and prefix caching would stay on.
        ("enable_prefix_caching", False, {"no-enable-prefix-caching": True}),
        # A switch knows no `--no-…`: it is off unless named.
        ("aggregate_engine_logging", False, {}),
        ("compilation_config", {"mode": 3}, {"compilation-config": {"mode": 3}}),
        ("speculative_config", '{"method": "ngram"}', {"speculative-config": {"method": "ngram"}}),
        ("cudagraph_capture_sizes", [1, 2], {"cudagraph-capture-sizes": [1, 2]}),
        # A list is several arguments to vLLM, and this option takes one of JSON.
        ("allowed_origins", ["*"], {"allowed-origins": '["*"]'}),
        # vLLM would write a mapping in a list as Python does, which is no JSON.
        (
            "lora_modules",
            [{"name": "a", "path": "org/a"}, "b=/c"],
            {"lora-modules": ['{"name": "a", "path": "org/a"}', '{"name": "b", "path": "/adapters/2"}']},
        ),
    ],
)
def test_options_are_written_so_that_both_releases_read_them_alike(
    name: str, value: object, entry: dict[str, Any]
) -> None:
    plain = rendered()

    assert {key: item for key, item in rendered(serve={name: value}).items() if key not in plain} == entry


def test_the_same_model_gives_the_same_bytes_in_whatever_order_it_is_written() -> None:
    one = Model.model_validate({"name": "a", "source": {"hub": "b/c"}, "serve": {"seed": 1, "dtype": "half"}})
    other = Model.model_validate({"serve": {"dtype": "half", "seed": 1}, "source": {"hub": "b/c"}, "name": "a"})

    assert text_of(one) == text_of(other)


def test_text_of_several_lines_is_written_as_a_block() -> None:
    text = "{{ a }}\n{{ b }}"

    assert rendered(serve={"chat_template": text})["chat-template"] == text
    model = Model.model_validate({"name": "a", "source": {"hub": "b/c"}, "serve": {"chat_template": text}})
    assert "chat-template: |-\n  {{ a }}\n  {{ b }}\n" in text_of(model)
