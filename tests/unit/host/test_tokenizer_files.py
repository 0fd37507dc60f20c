"""The tokenizers that a load test counts with."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.conftest import Clone
from vllmstack.deployment.model import Deployment
from vllmstack.host.files import write_rendered
from vllmstack.host.tokenizer_files import tokenizer_files
from vllmstack.planning.placement import place
from vllmstack.planning.plan import Plan


def plan(*models: dict[str, Any]) -> Plan:
    deployment = Deployment.model_validate({"name": "test", "models": list(models)})
    return Plan(deployment=deployment, replicas=place(deployment.models, core_ids=(0,)))


def served(folder: Path, name: str = "org/Model:1", **changes: Any) -> dict[str, Any]:
    return {"name": name, "source": {"directory": folder}, "engine": "vllm-cpu"} | changes


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes('{"é": "\r\n"}'.encode())
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "model.safetensors").write_bytes(b"\xff\xfe weights")
    return folder


def test_only_what_a_tokenizer_needs_is_copied(model: Path) -> None:
    files = tokenizer_files(plan(served(model, replicas=2)))

    assert files == {
        "loadtest/tokenizers/org-model-1/tokenizer.json": '{"é": "\r\n"}',
        "loadtest/tokenizers/org-model-1/chat_template.jinja": "{{ messages }}",
    }


def test_a_copy_has_the_same_bytes_and_is_not_written_again(model: Path, clone: Clone) -> None:
    files = tokenizer_files(plan(served(model)))
    copy = write_rendered(clone.project, "test", files) / "loadtest" / "tokenizers" / "org-model-1" / "tokenizer.json"
    written = copy.stat().st_ino

    write_rendered(clone.project, "test", files)

    assert copy.read_bytes() == (model / "tokenizer.json").read_bytes()
    assert copy.stat().st_ino == written


def test_a_model_that_is_gone_takes_its_copy_with_it(model: Path, clone: Clone) -> None:
    write_rendered(clone.project, "test", tokenizer_files(plan(served(model), served(model, "other"))))

    folder = write_rendered(clone.project, "test", tokenizer_files(plan(served(model))))

    kept = {file.parent.name for file in (folder / "loadtest").rglob("*") if file.is_file()}
    assert kept == {"org-model-1"}


def test_a_model_from_the_hub_has_its_tokenizer_in_the_hubs_cache() -> None:
    assert tokenizer_files(plan({"name": "llama", "source": {"hub": "org/llama"}})) == {}


def test_what_cannot_be_read_is_left_out(model: Path) -> None:
    (model / "tokenizer.json").write_bytes(b"\xff\xfe")
    (model / "config.json").mkdir()

    assert list(tokenizer_files(plan(served(model)))) == ["loadtest/tokenizers/org-model-1/chat_template.jinja"]
