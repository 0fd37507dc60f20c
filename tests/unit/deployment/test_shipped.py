"""Every deployment that ships: it loads, says what it is for, and points editors to the schema."""

from pathlib import Path

import pytest

from vllmstack.deployment.loader import load
from vllmstack.deployment.model import Engine
from vllmstack.deployment.options import release_notes
from vllmstack.planning.placement import gpus_per_replica, replica_count

FOLDER = Path(__file__).resolve().parents[3] / "deployments"
DEPLOYMENTS = sorted(FOLDER.glob("*.yaml"))
PROMISED = {
    "canary",
    "cpu-smoke",
    "llama-2-13b-chat",
    "llama-2-70b-chat",
    "llama-2-7b-awq",
    "llama-2-7b-chat",
    "llama-3.1-8b-latency",
    "llama-3.1-8b-long-context",
    "llama-3.1-8b-throughput",
    "llama-3.2-1b-fp8",
    "mistral-7b",
    "qwen3-0.6b-cpu",
    "two-models",
    "two-replicas",
}

every_deployment = pytest.mark.parametrize("path", DEPLOYMENTS, ids=lambda path: path.stem)


def test_all_that_was_promised_ships() -> None:
    assert {path.stem for path in DEPLOYMENTS} >= PROMISED


@every_deployment
def test_it_loads_under_its_files_name(path: Path) -> None:
    deployment = load(path)

    assert deployment.name == path.stem
    assert deployment.description


@every_deployment
def test_it_points_editors_to_the_schema_and_is_commented(path: Path) -> None:
    lines = path.read_text().splitlines()

    assert lines[0] == "# yaml-language-server: $schema=../schema/deployment.schema.json"
    assert sum(line.strip().startswith("# ") for line in lines) >= 3


@every_deployment
def test_every_model_has_targets_and_a_preset_and_runs_on_both_releases(path: Path) -> None:
    for model in load(path).models:
        assert model.targets
        assert model.sampling
        assert release_notes(model.serve) == ()


@every_deployment
def test_on_gpus_it_says_which_gpu_it_is_planned_for(path: Path) -> None:
    deployment = load(path)
    on_gpus = any(model.engine is Engine.VLLM for model in deployment.models)

    assert (deployment.gpu.type is not None) == on_gpus


@every_deployment
def test_models_that_the_hub_gates_say_so(path: Path) -> None:
    for model in load(path).models:
        asks_for_licence = (model.source.hub or "").startswith(("meta-llama/", "mistralai/"))

        assert model.source.gated == asks_for_licence


def test_the_defaults_need_no_token() -> None:
    for name in ("cpu-smoke", "llama-3.2-1b-fp8"):
        assert not any(model.source.gated for model in load(FOLDER / f"{name}.yaml").models)


def test_the_shapes_that_names_promise() -> None:
    smoke = load(FOLDER / "cpu-smoke.yaml").models[0]
    seventy = load(FOLDER / "llama-2-70b-chat.yaml").models[0]
    twice = load(FOLDER / "two-replicas.yaml").models[0]

    assert (smoke.engine, replica_count(smoke)) == (Engine.VLLM_CPU, 2)
    assert gpus_per_replica(seventy) == 4
    assert twice.gpus == ((0,), (1,))
    assert len(load(FOLDER / "two-models.yaml").models) == 2


def test_the_canary_gets_a_tenth_of_the_requests() -> None:
    canary = load(FOLDER / "canary.yaml")
    (split,) = canary.splits

    assert split.weights == {"llama-3.1-8b": 90, "llama-3.1-8b-fp8": 10}
    assert [model.source.hub for model in canary.models if model.name in split.weights] == [
        "meta-llama/Llama-3.1-8B-Instruct",
        "RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8",
    ]
