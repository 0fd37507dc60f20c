"""What travels, and how the deployment's file reads afterwards."""

import json
from pathlib import Path
from typing import Any

import pytest

from vllmstack.bundle.contents import changed_values, folders_of, missing_weights, receiver_files
from vllmstack.deployment.model import Deployment
from vllmstack.deployment.model_lock import Locked, LockedFile, ModelLock
from vllmstack.errors import InvalidInput
from vllmstack.hub.wishes import Use, Wish

MODEL: dict[str, Any] = {"name": "Llama 3.2".replace(" ", "-"), "source": {"hub": "org/llama", "revision": "v1"}}


def deployment(**changes: Any) -> Deployment:
    return Deployment.model_validate({"name": "chat", "models": [MODEL]} | changes)


def test_each_model_and_adapter_has_a_folder_of_its_own() -> None:
    local = {
        "name": "smoke",
        "source": {"directory": "/data/smoke"},
        "serve": {"lora_modules": [{"name": "a", "path": "/data/a"}, {"name": "b", "path": "org/b"}]},
    }

    found = folders_of(deployment(models=[MODEL, local]), ModelLock(), "chat.yaml")

    assert [(one.archived_as, one.described, one.wish) for one in found] == [
        ("models/llama-3-2", "org/llama", Wish(hub="org/llama", revision="v1")),
        ("models/smoke", "/data/smoke", None),
        ("adapters/smoke-1", "/data/a", None),
        ("adapters/smoke-2", "org/b", Wish(hub="org/b", use=Use.ADAPTER)),
    ]


def test_what_is_locked_travels_as_it_is_locked() -> None:
    commit, files = "a" * 40, {"adapter_model.safetensors": LockedFile(bytes=2, blob="b" * 40)}
    lock = ModelLock(models=(Locked(hub="org/b", revision="main", commit=commit, files=files),))
    adapted = MODEL | {"serve": {"lora_modules": [{"name": "b", "path": "org/b"}]}}

    _, adapter = folders_of(deployment(models=[adapted]), lock, "chat.yaml")

    assert adapter.wish == Wish(hub="org/b", use=Use.ADAPTER, commit=commit, files=lock.models[0].hub_files)


def test_a_tokenizer_of_the_same_revision_is_in_the_models_folder_and_another_one_is_not() -> None:
    def bundled(revision: str) -> int:
        of = deployment(models=[MODEL | {"serve": {"tokenizer_revision": revision}}])
        return len(folders_of(of, ModelLock(), "chat.yaml"))

    assert bundled("v1") == 1
    with pytest.raises(InvalidInput, match=r"serve/tokenizer_revision: org/llama is fetched from the hub"):
        bundled("v2")


@pytest.mark.parametrize(
    ("serve", "place"),
    [
        ({"tokenizer": "org/other"}, "tokenizer"),
        ({"hf_config_path": "org/other"}, "hf_config_path"),
        ({"spec_model": "org/other"}, "spec_model"),
        ({"speculative_config": {"model": "org/other", "method": "eagle"}}, "speculative_config/model"),
    ],
)
def test_a_second_repository_that_an_engine_would_fetch_is_refused(serve: dict[str, Any], place: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        folders_of(deployment(models=[MODEL | {"serve": serve}]), ModelLock(), "chat.yaml")

    assert str(caught.value) == (
        f"chat.yaml: models/0/serve/{place}: org/other is fetched from the hub by the engine, and a bundle holds a "
        "model's own files alone\n"
        "  hint: put what the engine needs of it into the model's folder, or leave the option out"
    )


def test_a_speculative_method_without_a_model_travels() -> None:
    serve = {"speculative_config": {"method": "ngram", "num_speculative_tokens": 4}, "tokenizer_mode": "auto"}

    assert len(folders_of(deployment(models=[MODEL | {"serve": serve}]), ModelLock(), "chat.yaml")) == 1


def test_weights_come_from_beside_the_file_and_images_are_named() -> None:
    serve = {"lora_modules": ["a=/data/a"]}

    values = changed_values(
        deployment(models=[MODEL | {"serve": serve}], images={"engine": "mine:1"}), {"gateway": "g:1"}
    )

    assert values == {
        ("models", 0, "source"): {"directory": "models/llama-3-2"},
        ("models", 0, "serve", "lora_modules"): [{"name": "a", "path": "adapters/llama-3-2-1"}],
        ("images",): {"engine": "mine:1", "gateway": "g:1"},
        ("monitoring", "grafana"): False,
    }


def test_grafana_stays_where_its_image_travels() -> None:
    assert ("monitoring", "grafana") not in changed_values(deployment(), {"grafana": "grafana/grafana:12"})


def test_secrets_are_the_other_hosts_own() -> None:
    gateway = {"api_keys_file": "/etc/keys", "tls": {"certificate": "/etc/c.pem", "key": "/etc/k.pem"}}

    values = changed_values(deployment(gateway=gateway), {})

    assert values["gateway", "api_keys_file"] == "../../secrets/chat.keys.json"
    assert values["gateway", "tls"] == {
        "certificate": "../../secrets/chat.certificate.pem",
        "key": "../../secrets/chat.key.pem",
    }


def test_what_receivers_read_is_known_by_name() -> None:
    hook = {"webhook_configs": [{"url_file": "/run/secrets/alerts/hook"}]}
    mail = {"email_configs": [{"to": "a@example.org", "auth_password_file": "/run/secrets/alerts/smtp/password"}]}

    assert receiver_files(deployment(monitoring={"receivers": {"page": hook, "warn": mail}})) == [
        "hook",
        "smtp/password",
    ]
    assert receiver_files(deployment()) == []


INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})


@pytest.mark.parametrize(
    ("files", "indexes", "lacking"),
    [
        (["model-1.safetensors", "model-2.safetensors"], {"model.safetensors.index.json": INDEX}, []),
        (["model-1.safetensors"], {"model.safetensors.index.json": INDEX}, ["model-2.safetensors"]),
        (["model.safetensors"], {}, []),
        (["x"], {"model.safetensors.index.json": "no json"}, []),
        (["x"], {"model.safetensors.index.json": "[]"}, []),
        (
            ["model-1.safetensors", "model-2.safetensors"],
            {
                "model.safetensors.index.json": INDEX,
                "pytorch_model.bin.index.json": INDEX.replace("safetensors", "bin"),
            },
            [],
        ),
    ],
)
def test_a_download_that_did_not_end_is_seen_by_its_index(
    files: list[str], indexes: dict[str, str], lacking: list[str]
) -> None:
    assert missing_weights(files, indexes) == lacking


def test_a_bundle_names_no_path_of_the_first_host() -> None:
    source = {"directory": Path("/data/smoke")}

    values = changed_values(deployment(models=[{"name": "smoke", "source": source}]), {})

    assert "/data" not in str(values)
