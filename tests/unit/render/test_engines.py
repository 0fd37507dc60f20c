"""The Compose services of the engines, byte for byte."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from vllmstack.deployment.hub_models import all_wishes
from vllmstack.deployment.model import Deployment
from vllmstack.images import images_for, load_images
from vllmstack.planning.placement import place
from vllmstack.planning.plan import Plan
from vllmstack.render.engine_config import config_path
from vllmstack.render.engines import DIGEST_LABEL, render_engines

KNOWN = load_images(Path(__file__).parents[3] / "docker" / "images.yaml")

CPU: dict[str, Any] = {"name": "smoke", "source": {"directory": "/clone/models/smoke"}, "engine": "vllm-cpu"}
HUB: dict[str, Any] = {"name": "org/Llama-3.1", "source": {"hub": "org/Llama-3.1"}}


def deployment(*models: dict[str, Any], **changes: Any) -> Deployment:
    return Deployment.model_validate({"name": "test", "models": list(models)} | changes)


def rendered(of: Deployment) -> str:
    plan = Plan(deployment=of, replicas=place(of.models, core_ids=(0, 1)))
    return render_engines(plan, images_for(of, KNOWN), all_wishes(of))["engines.compose.yaml"]


def engines(of: Deployment) -> dict[str, Any]:
    """The services that serve."""
    return {name: one for name, one in document(of)["services"].items() if name.startswith("engine-")}


def document(of: Deployment) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(rendered(of))
    return parsed


def service(of: Deployment, name: str) -> dict[str, Any]:
    one: dict[str, Any] = document(of)["services"][name]
    return one


def digest(of: Deployment, name: str) -> str:
    return str(service(of, name)["labels"][DIGEST_LABEL])


def config(of: Deployment, index: int = 0) -> str:
    return config_path(of.models[index], of)


def test_a_local_model_on_cores() -> None:
    smoke = deployment(
        CPU
        | {"serve": {"enforce_eager": True}, "environment": {"VLLM_CPU_KVCACHE_SPACE": "1"}}
        | {"startup_seconds": 300, "drain_seconds": 10}
    )

    assert (
        rendered(smoke)
        == f"""\
# Rendered by vllmstack from the deployment test: change its file and run `vllmstack up`.
# What is edited here is lost.
services:
  engine-smoke-1:
    extends:
      file: ../../docker/engine/service.yaml
      service: engine-cpu
    image: vllmstack/engine-cpu:{KNOWN.vllm}
    labels:
      vllmstack.model: smoke
      vllmstack.replica: '1'
      vllmstack.gpus: ''
      vllmstack.config: {digest(smoke, "engine-smoke-1")}
    environment:
      VLLMSTACK_HUNG_SECONDS: '20'
      VLLM_CPU_OMP_THREADS_BIND: '0'
      VLLM_CPU_KVCACHE_SPACE: '1'
    volumes:
    - type: bind
      source: ./{config(smoke)}
      target: /etc/vllmstack/engine.yaml
      read_only: true
      bind:
        create_host_path: false
    - type: bind
      source: /clone/models/smoke
      target: /models/smoke
      read_only: true
      bind:
        create_host_path: false
    mem_limit: 10240m
    stop_grace_period: 25s
    healthcheck:
      start_period: 300s
    networks:
    - engines
networks:
  engines:
    internal: true
volumes:
  hub-cache: {{}}
  compile-cache: {{}}
"""
    )


def test_a_gated_model_of_the_hub_on_two_gpus_with_the_nvidia_runtime() -> None:
    gated = deployment(
        HUB | {"source": {"hub": "org/Llama-3.1", "gated": True}, "gpus": [[3], [5]], "memory_gib": 48.5}
    )

    assert (
        rendered(gated)
        == f"""\
# Rendered by vllmstack from the deployment test: change its file and run `vllmstack up`.
# What is edited here is lost.
services:
  preload-org-llama-3-1:
    extends:
      file: ../../docker/models/service.yaml
      service: preload
    image: {KNOWN.images["models"].reference}
    command:
    - pull
    - /etc/vllmstack/request.json
    labels:
      vllmstack.preload: org/Llama-3.1
      vllmstack.request: {service(gated, "preload-org-llama-3-1")["labels"]["vllmstack.request"]}
    volumes:
    - type: bind
      source: ./preload/org-llama-3-1.json
      target: /etc/vllmstack/request.json
      read_only: true
      bind:
        create_host_path: false
    secrets:
    - hub_token
  engine-org-llama-3-1-1:
    extends:
      file: ../../docker/engine/service.yaml
      service: engine-gpu
    image: vllm/vllm-openai:v{KNOWN.vllm}
    labels:
      vllmstack.model: org/Llama-3.1
      vllmstack.replica: '1'
      vllmstack.gpus: '3'
      vllmstack.config: {digest(gated, "engine-org-llama-3-1-1")}
    environment:
      VLLMSTACK_HUNG_SECONDS: '20'
    volumes:
    - type: bind
      source: ./{config(gated)}
      target: /etc/vllmstack/engine.yaml
      read_only: true
      bind:
        create_host_path: false
    mem_limit: 49664m
    stop_grace_period: 45s
    healthcheck:
      start_period: 1800s
    networks:
    - engines
    deploy:
      resources:
        reservations:
          devices:
          - driver: nvidia
            device_ids:
            - '3'
            capabilities:
            - gpu
    depends_on:
      preload-org-llama-3-1:
        condition: service_completed_successfully
  engine-org-llama-3-1-2:
    extends:
      file: ../../docker/engine/service.yaml
      service: engine-gpu
    image: vllm/vllm-openai:v{KNOWN.vllm}
    labels:
      vllmstack.model: org/Llama-3.1
      vllmstack.replica: '2'
      vllmstack.gpus: '5'
      vllmstack.config: {digest(gated, "engine-org-llama-3-1-2")}
    environment:
      VLLMSTACK_HUNG_SECONDS: '20'
    volumes:
    - type: bind
      source: ./{config(gated)}
      target: /etc/vllmstack/engine.yaml
      read_only: true
      bind:
        create_host_path: false
    mem_limit: 49664m
    stop_grace_period: 45s
    healthcheck:
      start_period: 1800s
    networks:
    - engines
    deploy:
      resources:
        reservations:
          devices:
          - driver: nvidia
            device_ids:
            - '5'
            capabilities:
            - gpu
    depends_on:
      preload-org-llama-3-1:
        condition: service_completed_successfully
      engine-org-llama-3-1-1:
        condition: service_healthy
networks:
  engines:
    internal: true
  downloads: {{}}
volumes:
  hub-cache: {{}}
  compile-cache: {{}}
secrets:
  hub_token:
    file: ../../secrets/hub_token
"""
    )


def test_with_cdi_each_gpu_is_named_as_a_device() -> None:
    replicas = engines(deployment(HUB | {"replicas": 2}, gpu={"access": "cdi"}))

    assert {name: one["devices"] for name, one in replicas.items()} == {
        "engine-org-llama-3-1-1": ["nvidia.com/gpu=0"],
        "engine-org-llama-3-1-2": ["nvidia.com/gpu=1"],
    }
    assert not any("deploy" in one for one in replicas.values())


@pytest.mark.parametrize(
    ("access", "gpus"),
    [
        ("cdi", {"devices": ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]}),
        (
            "nvidia",
            {
                "deploy": {
                    "resources": {
                        "reservations": {
                            "devices": [{"driver": "nvidia", "device_ids": ["0", "1"], "capabilities": ["gpu"]}]
                        }
                    }
                }
            },
        ),
    ],
)
def test_a_replica_that_spans_two_gpus_gets_both(access: str, gpus: dict[str, Any]) -> None:
    one = service(deployment(HUB | {"gpus": 2}, gpu={"access": access}), "engine-org-llama-3-1-1")

    assert {key: one[key] for key in gpus} == gpus
    assert one["labels"]["vllmstack.gpus"] == "0,1"


def test_two_models_have_a_file_an_image_and_a_gpu_each() -> None:
    three = deployment(HUB, CPU, {"name": "qwen", "source": {"hub": "org/qwen"}})

    both = engines(three)

    assert {name: (one["image"], one["labels"]["vllmstack.gpus"]) for name, one in both.items()} == {
        "engine-org-llama-3-1-1": (f"vllm/vllm-openai:v{KNOWN.vllm}", "0"),
        "engine-smoke-1": (f"vllmstack/engine-cpu:{KNOWN.vllm}", ""),
        "engine-qwen-1": (f"vllm/vllm-openai:v{KNOWN.vllm}", "1"),
    }
    assert [one["volumes"][0]["source"] for one in both.values()] == [f"./{config(three, index)}" for index in range(3)]
    assert [list(one.get("depends_on", {})) for one in both.values()] == [
        ["preload-org-llama-3-1"],
        [],
        ["preload-qwen"],
    ]


@pytest.mark.parametrize(
    ("model", "waits"),
    [
        (HUB, True),
        (CPU, True),
        # Nothing to compile; weights are there before the first one starts.
        (HUB | {"serve": {"enforce_eager": True}}, False),
        (CPU | {"serve": {"enforce_eager": True}}, False),
    ],
)
def test_replicas_that_share_a_cache_wait_for_the_first(model: dict[str, Any], waits: bool) -> None:
    first, *others = engines(deployment(model | {"replicas": 3})).items()

    assert first[0] not in first[1].get("depends_on", {})
    assert [one.get("depends_on", {}).get(first[0]) for _, one in others] == [
        {"condition": "service_healthy"} if waits else None
    ] * 2


def test_no_engine_reaches_the_internet() -> None:
    local = document(deployment(CPU))
    hub = document(deployment(HUB))

    assert local["services"]["engine-smoke-1"]["networks"] == ["engines"]
    assert local["networks"] == {"engines": {"internal": True}}
    assert hub["services"]["engine-org-llama-3-1-1"]["networks"] == ["engines"]
    assert hub["networks"] == {"engines": {"internal": True}, "downloads": {}}
    assert list(local["services"]) == ["engine-smoke-1"]


def test_the_token_is_only_given_to_the_preload_of_a_model_that_asks_for_one() -> None:
    gated = {"name": "gated", "source": {"hub": "org/gated", "gated": True}}

    mixed = document(deployment(gated, HUB))["services"]

    assert [name for name, one in mixed.items() if "secrets" in one] == ["preload-gated"]
    assert mixed["preload-gated"]["secrets"] == ["hub_token"]
    assert "secrets" not in document(deployment(HUB))


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({}, None),  # service.yaml has it
        ({"environment": {"VLLM_LOGGING_LEVEL": "DEBUG"}}, ""),
        ({"environment": {"VLLM_LOGGING_CONFIG_PATH": "/models/mine.json"}}, "/models/mine.json"),
        ({"serve": {"log_level": "DEBUG"}}, ""),
    ],
)
def test_logging_is_the_stacks_unless_the_deployment_configures_it(changes: dict[str, Any], path: str | None) -> None:
    one = service(deployment(CPU | changes), "engine-smoke-1")

    assert one["environment"].get("VLLM_LOGGING_CONFIG_PATH") == path


def test_a_python_path_of_the_deployment_is_added_to_the_stacks_own() -> None:
    one = service(deployment(CPU | {"environment": {"PYTHONPATH": "/models/plugins"}}), "engine-smoke-1")

    assert one["environment"]["PYTHONPATH"] == "/etc/vllmstack/middleware:/models/plugins"


def test_the_deployments_environment_has_the_last_word() -> None:
    one = service(deployment(CPU | {"environment": {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}}), "engine-smoke-1")

    assert one["environment"]["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"


def test_a_dollar_sign_stays_one_when_compose_reads_the_file() -> None:
    priced = CPU | {"environment": {"PRICE": "$5 ${HOME}"}, "source": {"directory": "/models/a$b"}}

    one = service(deployment(priced), "engine-smoke-1")

    assert one["environment"]["PRICE"] == "$$5 $${HOME}"
    assert one["volumes"][1]["source"] == "/models/a$$b"


def test_adapters_from_folders_are_mounted_where_the_configuration_names_them() -> None:
    modules = [{"name": "sql", "path": "org/sql"}, {"name": "tone", "path": "/adapters-of-ours/tone"}]
    one = service(deployment(HUB | {"serve": {"enable_lora": True, "lora_modules": modules}}), "engine-org-llama-3-1-1")

    assert one["volumes"][1:] == [
        {
            "type": "bind",
            "source": "/adapters-of-ours/tone",
            "target": "/adapters/2",
            "read_only": True,
            "bind": {"create_host_path": False},
        }
    ]


def test_a_split_is_part_of_what_an_engine_is_made_from() -> None:
    split = {"name": "chat", "weights": {"smoke": 1, "org/Llama-3.1": 1}}
    other = HUB | {"name": "other"}

    def digests(**changes: Any) -> list[str]:
        services = engines(deployment(HUB, CPU, other, **changes)).values()
        return [str(one["labels"][DIGEST_LABEL]) for one in services]

    changed = [before != after for before, after in zip(digests(), digests(splits=[split]), strict=True)]
    assert changed == [True, True, False]


def test_an_image_of_the_deployments_own_is_run() -> None:
    own = deployment(HUB, images={"engine": "own/vllm:1"})

    assert service(own, "engine-org-llama-3-1-1")["image"] == "own/vllm:1"


def test_changed_options_make_a_new_container() -> None:
    def label(**serve: Any) -> str:
        labels = service(deployment(HUB | {"serve": serve}), "engine-org-llama-3-1-1")["labels"]
        return str(labels["vllmstack.config"])

    assert label(max_model_len=4096) == label(max_model_len=4096)
    assert label(max_model_len=4096) != label(max_model_len=8192)


def test_the_same_plan_gives_the_same_bytes() -> None:
    models = [HUB | {"replicas": 2}, CPU]

    assert rendered(deployment(*models)) == rendered(deployment(*models))
