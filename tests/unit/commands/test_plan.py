"""`vllmstack plan`, as a person and as a script sees it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from vllmstack.commands import preparation
from vllmstack.commands.plan import command
from vllmstack.errors import InvalidInput
from vllmstack.planning.inventory import Inventory

GOOD = """\
name: good
models:
  - name: llama
    source: {hub: meta-llama/Llama-3.1-8B-Instruct}
    replicas: 2
    serve: {max_model_len: 8192}
gpu: {type: L40S}
"""


@pytest.fixture(autouse=True)
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with one deployment on a machine without GPUs, and a terminal of 80 columns."""
    for name in ("compose.yaml", "docker/images.yaml", "deployments/good.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "deployments" / "good.yaml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(preparation, "see_inventory", lambda: Inventory(memory_bytes=16 << 30, core_ids=(0, 1)))
    return tmp_path


def test_the_plan_shows_placement_memory_and_what_was_assumed() -> None:
    result = CliRunner().invoke(command, ["good"])

    assert result.exit_code == 0
    assert "llama  engine-llama-2  GPU 1" in result.output
    assert "weights      14.96 GiB" in result.output
    assert "sequences of 8,192 tokens at a time" in result.output
    assert "planned for 2 × L40S, which are assumed and not seen here" in result.output
    assert max(map(len, result.output.splitlines())) <= 80


def test_another_gpu_can_be_asked_for() -> None:
    result = CliRunner().invoke(command, ["good", "--gpu", "h100"])

    assert "each H100-80GB, 79.2 GiB" in result.output


def test_a_script_gets_bytes() -> None:
    result = CliRunner().invoke(command, ["good", "--json"])

    document = json.loads(result.stdout)
    memory = document["memory"]["llama"]
    parts = ("weights", "activations", "cuda_graphs", "overhead", "kv_cache", "left_free")
    assert document["assumed_gpu"] == "L40S"
    assert [replica["gpu_ids"] for replica in document["replicas"]] == [[0], [1]]
    assert sum(memory[f"{part}_bytes"] for part in parts) == memory["total_bytes"]
    assert memory["weights_bytes"] == 2 * 8_030_261_248


def test_an_unknown_gpu_is_refused_by_the_option() -> None:
    with pytest.raises(InvalidInput, match="--gpu: Z9 is not in the table of GPUs"):
        CliRunner().invoke(command, ["good", "--gpu", "Z9"], catch_exceptions=False)


def test_what_does_not_fit_names_the_file(clone: Path) -> None:
    (clone / "deployments" / "good.yaml").write_text(GOOD.replace("8192", "100000"))

    place = "deployments/good.yaml: models/0/serve/max_model_len"
    with pytest.raises(InvalidInput, match=f"^{place}: 100000 is more than"):
        CliRunner().invoke(command, ["good", "--gpu", "L4"], catch_exceptions=False)
