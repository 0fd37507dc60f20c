"""Where a model's dimensions are found."""

import json
from pathlib import Path
from typing import Any

import pytest

from vllmstack.deployment.model import Model
from vllmstack.host.model_files import dimensions_of
from vllmstack.planning.dimensions import public_models

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 256,
}


def model(**source: Any) -> Model:
    return Model.model_validate({"name": "m", "source": source})


def write(folder: Path, text: str = json.dumps(CONFIG)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(text)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_directory_is_read(tmp_path: Path) -> None:
    found = dimensions_of(model(directory=str(write(tmp_path / "tiny"))))

    assert found is not None
    assert found.layers == 2


def test_a_relative_directory_is_below_the_deployments_folder(tmp_path: Path) -> None:
    write(tmp_path / "models" / "tiny")

    assert dimensions_of(model(directory="../models/tiny"), tmp_path / "models") is not None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"architectures": ["T5ForConditionalGeneration"]}', "\x00"])
def test_a_config_that_tells_nothing_is_unknown(tmp_path: Path, text: str) -> None:
    assert dimensions_of(model(directory=str(write(tmp_path / "bad", text)))) is None


def test_a_directory_without_config_is_unknown(tmp_path: Path) -> None:
    assert dimensions_of(model(directory=str(tmp_path))) is None


def test_a_public_model_is_in_the_table() -> None:
    assert dimensions_of(model(hub="Qwen/Qwen3-0.6B")) == public_models()["Qwen/Qwen3-0.6B"]


def test_an_unknown_hub_id_is_unknown() -> None:
    assert dimensions_of(model(hub="nobody/nothing")) is None


def test_what_was_downloaded_is_preferred_to_the_table(cache: Path) -> None:
    repository = cache / "models--Qwen--Qwen3-0.6B"
    write(repository / "snapshots" / "abc123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")

    found = dimensions_of(model(hub="Qwen/Qwen3-0.6B"))

    assert found is not None
    assert found.layers == 2


def test_a_revision_that_is_a_commit_is_found(cache: Path) -> None:
    write(cache / "models--nobody--nothing" / "snapshots" / "abc123")

    assert dimensions_of(model(hub="nobody/nothing", revision="abc123")) is not None
    assert dimensions_of(model(hub="nobody/nothing", revision="def456")) is None
