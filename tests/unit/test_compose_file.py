"""What compose.yaml and the engines' service file promise, whatever a deployment asks for."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from vllmstack.deployment.model import Deployment
from vllmstack.images import images_for, load_images
from vllmstack.planning.placement import place
from vllmstack.planning.plan import Plan
from vllmstack.render.gateway import listen_port
from vllmstack.render.stack import render_stack

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
ENGINE_TEXT = (ROOT / "docker" / "engine" / "service.yaml").read_text()
ENGINE: dict[str, Any] = yaml.safe_load(ENGINE_TEXT)["services"]["engine"]
KNOWN = load_images(ROOT / "docker" / "images.yaml")

SERVICES: dict[str, dict[str, Any]] = {**COMPOSE["services"], "engine": ENGINE}
EACH_SERVICE = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


def full_deployment() -> Deployment:
    """One that uses every part, so that every value is rendered."""
    return Deployment.model_validate(
        {
            "name": "full",
            "models": [
                {"name": "llama", "source": {"hub": "org/llama", "gated": True}, "replicas": 2},
                {"name": "smoke", "source": {"directory": "/models/smoke"}, "engine": "vllm-cpu"},
            ],
            "gateway": {"api_keys_file": "/keys", "tls": {"certificate": "/cert.pem", "key": "/key.pem"}},
        }
    )


def rendered() -> dict[str, str]:
    deployment = full_deployment()
    plan = Plan(deployment=deployment, replicas=place(deployment.models, core_ids=(0,)))
    return render_stack(plan, images_for(deployment, KNOWN))


def rendered_variables() -> set[str]:
    return {line.partition("=")[0] for line in rendered()["compose.env"].splitlines() if not line.startswith("#")}


def megabytes(size: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([mg])", size).groups()  # type: ignore[union-attr]
    return int(number) * {"m": 1, "g": 1024}[unit]


@EACH_SERVICE
def test_a_service_has_a_health_check(service: dict[str, Any]) -> None:
    assert service["healthcheck"]["test"][0] == "CMD"
    assert {"interval", "timeout", "retries"} <= service["healthcheck"].keys()


@EACH_SERVICE
def test_a_service_can_do_as_little_as_possible(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] > 0
    assert service["tmpfs"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices", "userns_mode"} & service.keys()


@EACH_SERVICE
def test_a_services_log_is_bounded(service: dict[str, Any]) -> None:
    options = service["logging"]["options"]

    assert megabytes(options["max-size"]) * int(options["max-file"]) <= 100


@EACH_SERVICE
def test_a_service_comes_back_after_a_crash(service: dict[str, Any]) -> None:
    assert service["restart"] == "unless-stopped"


@EACH_SERVICE
def test_a_tmpfs_is_bounded(service: dict[str, Any]) -> None:
    assert all(re.search(r"[:,]size=\d+[mg]\b", mount) for mount in service["tmpfs"])


@pytest.mark.parametrize("service", COMPOSE["services"].values(), ids=COMPOSE["services"])
def test_a_services_memory_is_limited(service: dict[str, Any]) -> None:
    assert megabytes(service["mem_limit"]) > 0


def test_every_engines_memory_is_limited_when_it_is_rendered() -> None:
    engines = yaml.safe_load(rendered()["engines.compose.yaml"])["services"]

    assert len(engines) == 3
    assert all(megabytes(engine["mem_limit"]) > 0 for engine in engines.values())


def test_a_service_that_waits_waits_for_health() -> None:
    engines = yaml.safe_load(rendered()["engines.compose.yaml"])["services"]
    waiting = [one["depends_on"] for one in (*SERVICES.values(), *engines.values()) if "depends_on" in one]

    assert len(waiting) >= 2
    assert {edge["condition"] for edges in waiting for edge in edges.values()} == {"service_healthy"}


@pytest.mark.parametrize("text", [TEXT, ENGINE_TEXT], ids=["compose.yaml", "service.yaml"])
def test_names_and_versions_are_left_to_compose(text: str) -> None:
    document = yaml.safe_load(text)

    assert "version" not in document
    assert not any("container_name" in service for service in document["services"].values())
    assert "docker.sock" not in text


def test_only_the_gateway_is_published() -> None:
    engines = yaml.safe_load(rendered()["engines.compose.yaml"])["services"]

    assert [name for name, service in COMPOSE["services"].items() if "ports" in service] == ["gateway"]
    assert "ports" not in ENGINE
    assert not any("ports" in engine for engine in engines.values())


def test_only_the_gateway_is_on_a_network_that_leads_outside() -> None:
    outside = {name for name, network in COMPOSE["networks"].items() if not (network or {}).get("internal")}

    assert outside == {"edge"}
    assert [name for name, one in COMPOSE["services"].items() if outside & set(one["networks"])] == ["gateway"]
    assert "edge" not in ENGINE["networks"]


def test_the_gateway_publishes_a_port_that_nginx_listens_on() -> None:
    deployment = full_deployment()
    plain = deployment.gateway.model_copy(update={"tls": None})

    assert {"http": listen_port(plain), "https": listen_port(deployment.gateway)} == {"http": 8080, "https": 8443}


def test_no_image_is_latest() -> None:
    defaults = [service["image"] for service in COMPOSE["services"].values()]
    references = [image.reference for image in KNOWN.images.values()]

    assert len(defaults) == 3
    assert "latest" not in " ".join([*defaults, *references])
    assert all(re.search(r":v?\d[\w.+-]*$", reference) for reference in references)


def test_the_images_of_plain_docker_compose_are_those_of_the_list() -> None:
    defaults = {
        name: re.fullmatch(r"\$\{VLLMSTACK_IMAGE_\w+:-(.+)}", service["image"])
        for name, service in COMPOSE["services"].items()
    }

    assert {name: match and match[1] for name, match in defaults.items()} == {
        name: KNOWN.images[name].reference for name in defaults
    }


def test_every_value_has_a_default_for_plain_docker_compose() -> None:
    used = re.findall(r"(?<!\$)\$\{([A-Z_]+)(:-)?", TEXT)

    assert used
    assert [name for name, default in used if not default] == []
    assert not re.search(r"(?<!\$)\$\{", ENGINE_TEXT)


def test_the_values_that_are_used_are_those_that_are_rendered() -> None:
    used = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", TEXT))

    # Compose's own: which optional services run.
    assert rendered_variables() - {"COMPOSE_PROFILES"} == used


def test_secrets_are_files_below_the_secrets_folder() -> None:
    files = [secret["file"] for secret in COMPOSE["secrets"].values()]

    assert all(re.fullmatch(r"secrets/\w+|\$\{\w+:-secrets/\w+}", file) for file in files)
    mounted = {name for service in SERVICES.values() for name in service.get("secrets", [])}
    assert mounted == COMPOSE["secrets"].keys()


def test_volumes_that_keep_data_are_named_and_declared() -> None:
    mounts = [mount for service in COMPOSE["services"].values() for mount in service.get("volumes", [])]
    named = {mount.partition(":")[0] for mount in mounts if not mount.startswith((".", "$"))}

    assert named == COMPOSE["volumes"].keys()


def test_what_is_mounted_from_the_clone_is_read_only() -> None:
    mounts = [mount for service in COMPOSE["services"].values() for mount in service.get("volumes", [])]
    from_clone = [mount for mount in mounts if mount.startswith((".", "$"))]

    assert len(from_clone) >= 5
    assert all(mount.endswith(":ro") for mount in from_clone)


def test_an_engine_has_more_shared_memory_than_dockers_own_64_mb() -> None:
    kinds = yaml.safe_load(ENGINE_TEXT)["services"]

    assert megabytes(kinds["engine-gpu"]["shm_size"]) >= 8 * 1024
    assert megabytes(kinds["engine-cpu"]["shm_size"]) >= 1024
    assert all(kinds[name]["extends"] == {"service": "engine"} for name in ("engine-gpu", "engine-cpu"))


def test_an_engine_is_stopped_only_after_its_drain() -> None:
    deployment = full_deployment()
    engine = yaml.safe_load(rendered()["engines.compose.yaml"])["services"]["engine-llama-1"]

    assert int(engine["stop_grace_period"].removesuffix("s")) > deployment.models[0].drain_seconds
