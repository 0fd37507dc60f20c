"""What a load test is told of the stack."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadtest.stack import StackFacts
from vllmstack.deployment.loader import load
from vllmstack.deployment.model import Deployment
from vllmstack.host.model_files import dimensions_of
from vllmstack.images import Image, images_for, load_images
from vllmstack.planning.gpus import gpu_type
from vllmstack.planning.inventory import Inventory, SeenGpu
from vllmstack.planning.placement import place
from vllmstack.planning.plan import Plan, make_plan
from vllmstack.render.loadtest import STACK_FILE, render_loadtest, tokenizer_folder

ROOT = Path(__file__).parents[3]
KNOWN = load_images(ROOT / "docker" / "images.yaml")
SHIPPED = sorted((ROOT / "deployments").glob("*.yaml"))
GIB = 1 << 30
MACHINE = Inventory(memory_bytes=512 * GIB, core_ids=tuple(range(16)))
LLAMA = {"name": "llama", "source": {"hub": "meta-llama/Llama-3.1-8B-Instruct"}}


def plan(*models: dict[str, Any], inventory: Inventory = MACHINE, **changes: Any) -> Plan:
    deployment = Deployment.model_validate({"name": "test", "models": models or (LLAMA,)} | changes)
    return make_plan(deployment, inventory, {model.name: dimensions_of(model) for model in deployment.models})


def facts(of: Plan) -> StackFacts:
    """What the load test reads; it refuses what it does not know."""
    return StackFacts.model_validate_json(render_loadtest(of, images_for(of.deployment, KNOWN))[STACK_FILE])


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_a_load_test_understands_every_shipped_deployment(file: Path) -> None:
    deployment = load(file)
    planned = make_plan(deployment, MACHINE, {model.name: dimensions_of(model) for model in deployment.models})

    stack = facts(planned)

    assert stack.deployment == file.stem
    assert stack.vllm == KNOWN.vllm
    assert [model.name for model in stack.models] == [model.name for model in deployment.models]
    for told, model in zip(stack.models, deployment.models, strict=True):
        assert told.targets == model.targets
        assert len(told.engines) == sum(replica.model is model for replica in planned.replicas)
        assert told.max_model_len is not None
        assert bool(told.tokenizer.hub) != bool(told.tokenizer.directory)
        assert told.weights_bytes is not None
        assert (told.memory_bytes_per_second is None) == (told.gpus_per_replica == 0)


def test_urls_are_those_inside_the_stacks_networks() -> None:
    stack = facts(plan(LLAMA | {"replicas": 2}))

    assert stack.url == "http://gateway:8080"
    assert [(engine.name, engine.metrics) for engine in stack.models[0].engines] == [
        ("engine-llama-1", "http://engine-llama-1:8000/metrics"),
        ("engine-llama-2", "http://engine-llama-2:8000/metrics"),
    ]


def test_with_tls_the_gateway_is_asked_on_the_port_that_speaks_it() -> None:
    stack = facts(plan(gateway={"tls": {"certificate": "/tls/cert.pem", "key": "/tls/key.pem"}}))

    assert stack.url == "https://gateway:8443"


def test_targets_are_written_without_what_is_not_asked() -> None:
    target = {"load": {"concurrency": 4}, "output_tokens_per_second": 50, "ttft_seconds": {"p95": 2}, "error_ratio": 0}
    of = plan(LLAMA | {"targets": [target]}, {"name": "other", "source": {"hub": "org/other"}})

    written = json.loads(render_loadtest(of, images_for(of.deployment, KNOWN))[STACK_FILE])

    assert written["models"][0]["targets"] == [target | {"scenario": "chat"}]
    assert written["models"][1]["targets"] == []


@pytest.mark.parametrize(
    ("model", "source"),
    [
        (LLAMA, {"hub": "meta-llama/Llama-3.1-8B-Instruct"}),
        ({"source": {"hub": "org/m", "revision": "v1"}}, {"hub": "org/m", "revision": "v1"}),
        ({"source": {"directory": "/models/smoke"}}, {"directory": "tokenizers/llama"}),
        ({"serve": {"tokenizer": "org/other"}}, {"hub": "org/other"}),
        ({"serve": {"tokenizer": "org/other", "tokenizer-revision": "v2"}}, {"hub": "org/other", "revision": "v2"}),
        ({"serve": {"tokenizer": "/inside/the/image"}}, {}),
    ],
)
def test_the_tokenizer_is_the_one_that_the_engine_uses(model: dict[str, Any], source: dict[str, str]) -> None:
    told = facts(plan(LLAMA | model)).models[0].tokenizer

    assert told.model_dump(exclude_none=True) == source


def test_two_models_from_directories_have_tokenizer_folders_of_their_own() -> None:
    models = ({"name": "Org/Smoke", "source": {"directory": "/a"}}, {"name": "smoke-2", "source": {"directory": "/b"}})
    replicas = place(plan(*models).deployment.models, core_ids=(0,))

    assert [tokenizer_folder(replica) for replica in replicas] == ["tokenizers/org-smoke", "tokenizers/smoke-2"]


def test_a_replicas_weights_and_bandwidth_are_those_of_all_its_gpus() -> None:
    told = facts(plan(LLAMA | {"gpus": 2, "replicas": 2}, gpu={"type": "H200"})).models[0]

    assert told.gpu == "NVIDIA H200"
    assert told.gpus_per_replica == 2
    assert told.memory_bytes_per_second == 2 * 4800e9
    assert told.weights_bytes == pytest.approx(2 * (8.03e9 - 128_256 * 4096), rel=0.001)


def test_of_unlike_replicas_the_fastest_bounds_the_time_of_a_token() -> None:
    seen = [_gpu(0, "A10G"), _gpu(1, "L4")]
    inventory = Inventory(memory_bytes=64 * GIB, core_ids=(0,), gpus=tuple(seen))
    model = LLAMA | {"gpus": [[0], [1]], "serve": {"max_model_len": 8192}}

    assert facts(plan(model, inventory=inventory)).models[0].memory_bytes_per_second == 600e9


def test_a_gpu_that_is_not_in_the_table_has_no_known_bandwidth() -> None:
    unknown = SeenGpu(
        id=0, name="NVIDIA Z9", memory_bytes=80 * GIB, used_bytes=0, compute_capability=(9, 0), reserved_bytes=0
    )
    inventory = Inventory(memory_bytes=64 * GIB, core_ids=(0,), gpus=(unknown,))

    told = facts(plan(LLAMA, inventory=inventory)).models[0]

    assert (told.gpu, told.memory_bytes_per_second) == ("NVIDIA Z9", None)


@pytest.mark.parametrize(
    "serve", [{"quantization": "modelopt"}, {"hf_overrides": {"num_hidden_layers": 2}}], ids=["method", "overrides"]
)
def test_weights_that_an_option_changes_in_an_unknown_way_are_not_told(serve: dict[str, Any]) -> None:
    assert facts(plan(LLAMA | {"serve": serve}, gpu={"type": "H200"})).models[0].weights_bytes is None


def test_what_the_plan_cannot_judge_is_left_open_and_the_asked_length_still_told() -> None:
    model = {"name": "m", "source": {"hub": "org/unknown"}, "serve": {"max-model-len": "4K"}}

    told = facts(plan(model)).models[0]

    assert (told.weights_bytes, told.gpu, told.max_model_len) == (None, None, 4096)
    assert facts(plan(model | {"serve": {"max_model_len": "auto"}})).models[0].max_model_len is None


def test_options_are_vllms_own_with_underscores() -> None:
    serve = {"max-num-seqs": 8, "speculative-config": '{"method": "ngram", "num_speculative_tokens": 3}'}

    assert facts(plan(LLAMA | {"serve": serve})).models[0].options == {
        "max_num_seqs": 8,
        "speculative_config": {"method": "ngram", "num_speculative_tokens": 3},
    }


@pytest.mark.parametrize(
    ("reference", "release"),
    [
        ("vllm/vllm-openai:v0.26.0", "0.26.0"),
        ("registry:5000/vllm:0.32.0-cu130", "0.32.0"),
        ("vllm/vllm-openai:nightly", ""),
    ],
)
def test_the_release_is_the_one_in_the_images_tag(reference: str, release: str) -> None:
    of = plan()

    text = render_loadtest(of, {"engine": Image(reference=reference)})[STACK_FILE]

    assert StackFacts.model_validate_json(text).vllm == release


def test_the_same_plan_gives_the_same_bytes() -> None:
    images = images_for(plan().deployment, KNOWN)

    assert render_loadtest(plan(), images) == render_loadtest(plan(), images)


def _gpu(identity: int, kind: str) -> SeenGpu:
    row = gpu_type(kind)
    return SeenGpu(
        id=identity,
        name=row.seen_as[0],
        memory_bytes=row.memory_bytes,
        used_bytes=0,
        compute_capability=row.compute_capability,
        reserved_bytes=row.memory_bytes - row.usable_bytes,
    )
