"""What compose.yaml and the engines' service file promise, whatever a deployment asks for."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from vllmstack.deployment.model import Deployment
from vllmstack.host import loadtest_container, loadtest_web
from vllmstack.images import MONITORING_SERVICES, images_for, load_images
from vllmstack.planning.placement import place
from vllmstack.planning.plan import Plan
from vllmstack.render.gateway import listen_port
from vllmstack.render.stack import render_stack

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
ENGINE_TEXT = (ROOT / "docker" / "engine" / "service.yaml").read_text()
ENGINE: dict[str, Any] = yaml.safe_load(ENGINE_TEXT)["services"]["engine"]
PRELOAD_TEXT = (ROOT / "docker" / "models" / "service.yaml").read_text()
PRELOAD: dict[str, Any] = yaml.safe_load(PRELOAD_TEXT)["services"]["preload"]
KNOWN = load_images(ROOT / "docker" / "images.yaml")

SERVICES: dict[str, dict[str, Any]] = {**COMPOSE["services"], "engine": ENGINE, "preload": PRELOAD}
LOADTEST = {name: service for name, service in SERVICES.items() if name.startswith("loadtest")}
ONE_RUN = loadtest_container.RUN_SERVICE
ENDING = (ONE_RUN, "preload")
"""They end by themselves: no health to check, and no crash to come back from."""
LASTING = {name: service for name, service in SERVICES.items() if name not in ENDING}
EACH_SERVICE = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
EACH_LASTING_SERVICE = pytest.mark.parametrize("service", LASTING.values(), ids=LASTING)


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
    return render_stack(plan, images_for(deployment, KNOWN), (ROOT / "prometheus/alertmanager.yml").read_text())


def rendered_variables() -> set[str]:
    return {line.partition("=")[0] for line in rendered()["compose.env"].splitlines() if not line.startswith("#")}


def megabytes(size: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([mg])", size).groups()  # type: ignore[union-attr]
    return int(number) * {"m": 1, "g": 1024}[unit]


@EACH_LASTING_SERVICE
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
    forbidden = {"privileged", "cap_add", "network_mode", "pid", "ipc", "userns_mode"}
    assert not forbidden & service.keys()
    assert service.get("devices", []) in ([], ["nvidia.com/gpu=all"])


@EACH_SERVICE
def test_a_services_log_is_bounded(service: dict[str, Any]) -> None:
    options = service["logging"]["options"]

    assert megabytes(options["max-size"]) * int(options["max-file"]) <= 100


@EACH_LASTING_SERVICE
def test_a_service_comes_back_after_a_crash(service: dict[str, Any]) -> None:
    assert service["restart"] == "unless-stopped"


def test_a_measurement_ends_by_itself_and_no_check_takes_time_from_it() -> None:
    assert (SERVICES[ONE_RUN]["restart"], SERVICES[ONE_RUN]["healthcheck"]) == ("no", {"disable": True})


def test_the_load_test_runs_only_when_it_is_asked_for() -> None:
    profiles = {name: service.get("profiles") for name, service in COMPOSE["services"].items()}

    assert {name for name, of in profiles.items() if not of} == {
        *("gateway", "prometheus", "alertmanager", "node-exporter", "container-exporter"),
    }
    assert LOADTEST.keys() == {loadtest_web.SERVICE, loadtest_container.WORKER_SERVICE, ONE_RUN}
    # One each: whoever starts the web UI by its profile gets no worker that looks for a master.
    assert len({name for service in LOADTEST.values() for name in service["profiles"]}) == len(LOADTEST)


@EACH_SERVICE
def test_a_tmpfs_is_bounded(service: dict[str, Any]) -> None:
    assert all(re.search(r"[:,]size=\d+[mg]\b", mount) for mount in service["tmpfs"])


@pytest.mark.parametrize("service", COMPOSE["services"].values(), ids=COMPOSE["services"])
def test_a_services_memory_is_limited(service: dict[str, Any]) -> None:
    assert megabytes(service["mem_limit"]) > 0


def test_every_engines_memory_is_limited_when_it_is_rendered() -> None:
    services = yaml.safe_load(rendered()["engines.compose.yaml"])["services"]
    engines = {name: one for name, one in services.items() if name.startswith("engine-")}

    assert len(engines) == 3
    assert all(megabytes(engine["mem_limit"]) > 0 for engine in engines.values())


def test_a_service_that_waits_waits_for_health_or_for_its_models_files() -> None:
    engines = yaml.safe_load(rendered()["engines.compose.yaml"])["services"]
    waiting = [one["depends_on"] for one in (*SERVICES.values(), *engines.values()) if "depends_on" in one]

    assert len(waiting) >= 2
    conditions = {(name.partition("-")[0], edge["condition"]) for edges in waiting for name, edge in edges.items()}
    assert {condition for name, condition in conditions if name != "preload"} == {"service_healthy"}
    assert ("preload", "service_completed_successfully") in conditions


@pytest.mark.parametrize("text", [TEXT, ENGINE_TEXT, PRELOAD_TEXT], ids=["compose.yaml", "engine", "models"])
def test_names_and_versions_are_left_to_compose(text: str) -> None:
    document = yaml.safe_load(text)

    assert "version" not in document
    assert not any("container_name" in service for service in document["services"].values())
    assert "/docker.sock" not in text


def test_only_the_gateway_and_the_load_tests_web_ui_are_published() -> None:
    engines = yaml.safe_load(rendered()["engines.compose.yaml"])["services"]

    assert [name for name, service in COMPOSE["services"].items() if "ports" in service] == ["gateway", "loadtest"]
    assert "ports" not in ENGINE
    assert not any("ports" in engine for engine in engines.values())


def test_the_load_tests_web_ui_is_published_on_the_loopback_address() -> None:
    (port,) = COMPOSE["services"]["loadtest"]["ports"]

    assert port == f"${{VLLMSTACK_LOADTEST_PUBLISH:-{loadtest_web.PUBLISHED}}}:8089"
    assert loadtest_web.is_loopback(loadtest_web.published_at(loadtest_web.PUBLISHED)[0])


def test_the_port_for_workers_on_other_hosts_is_published_by_a_file_of_its_own() -> None:
    override = yaml.safe_load((ROOT / loadtest_web.MASTER_OVERRIDE).read_text())

    assert list(override["services"]) == ["loadtest"]
    (port,) = override["services"]["loadtest"]["ports"]
    assert port.endswith(f":{loadtest_web.MASTER_PORT}")
    assert "127.0.0.1:" in port


def test_only_what_is_published_is_on_a_network_that_leads_outside() -> None:
    outside = {name for name, network in COMPOSE["networks"].items() if not (network or {}).get("internal")}

    assert outside == {"edge"}
    on_edge = [name for name, one in COMPOSE["services"].items() if outside & set(one["networks"])]
    assert on_edge == ["gateway", "alertmanager", "loadtest"]
    assert "edge" not in ENGINE["networks"]


def test_the_gateway_publishes_a_port_that_nginx_listens_on() -> None:
    deployment = full_deployment()
    plain = deployment.gateway.model_copy(update={"tls": None})

    assert {"http": listen_port(plain), "https": listen_port(deployment.gateway)} == {"http": 8080, "https": 8443}


def test_no_image_is_latest() -> None:
    defaults = [service["image"] for service in COMPOSE["services"].values()]
    references = [image.reference for image in KNOWN.images.values()]

    assert len(defaults) == len(COMPOSE["services"]) >= 6
    assert "latest" not in " ".join([*defaults, *references])
    assert all(re.search(r":v?\d[\w.+-]*$", reference) for reference in references)


def test_the_images_of_plain_docker_compose_are_those_of_the_list() -> None:
    defaults = {
        name: re.fullmatch(r"\$\{VLLMSTACK_IMAGE_\w+:-(.+)}", service["image"])
        for name, service in COMPOSE["services"].items()
    }

    assert {name: match and match[1] for name, match in defaults.items()} == {
        name: KNOWN.images["loadtest" if name in LOADTEST else MONITORING_SERVICES.get(name, name)].reference
        for name in defaults
    }


def test_every_value_has_a_default_for_plain_docker_compose() -> None:
    used = re.findall(r"(?<!\$)\$\{([A-Z_]+)(:-)?", TEXT)

    assert used
    assert [name for name, default in used if not default] == []
    assert not re.search(r"(?<!\$)\$\{", ENGINE_TEXT)


def test_the_values_that_are_used_are_those_that_are_rendered() -> None:
    used = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", TEXT))

    # Compose's own: which optional services run.
    by_deployment = rendered_variables() - {"COMPOSE_PROFILES"}
    assert by_deployment | set(loadtest_container.VARIABLES) == used
    assert by_deployment.isdisjoint(loadtest_container.VARIABLES)


def test_secrets_are_files_below_the_secrets_folder() -> None:
    files = [secret["file"] for secret in COMPOSE["secrets"].values()]

    assert all(re.fullmatch(r"secrets/\w+|\$\{\w+:-secrets/\w+}", file) for file in files)
    mounted = {name for service in SERVICES.values() for name in service.get("secrets", [])}
    assert mounted == COMPOSE["secrets"].keys()


def test_volumes_that_keep_data_are_named_and_declared() -> None:
    mounts = [mount for service in COMPOSE["services"].values() for mount in service.get("volumes", [])]
    named = {mount.partition(":")[0] for mount in mounts if not mount.startswith((".", "$", "/"))}
    of_engines = yaml.safe_load(rendered()["engines.compose.yaml"])["volumes"]

    assert COMPOSE["volumes"].keys() <= named <= COMPOSE["volumes"].keys() | of_engines.keys()


def test_what_is_mounted_from_the_host_is_read_only() -> None:
    mounts = [mount for service in COMPOSE["services"].values() for mount in service.get("volumes", [])]

    assert [mount for mount in mounts if mount.startswith("/")] == ["/:/host:ro", "/sys/fs/cgroup:/host/cgroup:ro"]


def test_what_is_mounted_from_the_clone_is_read_only() -> None:
    mounts = [mount for service in COMPOSE["services"].values() for mount in service.get("volumes", [])]
    from_clone = [mount for mount in mounts if mount.startswith((".", "$"))]

    assert len(from_clone) >= 5
    writable = {mount for mount in from_clone if not mount.endswith(":ro")}
    assert writable == {"./results:/opt/vllmstack/results"}


@pytest.mark.parametrize("service", LOADTEST.values(), ids=LOADTEST)
def test_the_load_test_only_reads_weights_and_writes_nothing_but_results(service: dict[str, Any]) -> None:
    writable = [mount for mount in service["volumes"] if not mount.endswith(":ro")]

    assert any(mount.startswith("hub-cache:") for mount in service["volumes"])
    assert writable == ["./results:/opt/vllmstack/results"]
    assert service["secrets"] == ["stack_key"]
    assert service["user"] == "${VLLMSTACK_USER:-1000:1000}"


def test_paths_of_the_clone_are_the_same_in_the_load_tests_container() -> None:
    service = SERVICES[ONE_RUN]

    for folder in loadtest_container.MOUNTED:
        assert any(mount.startswith(f"./{folder}:{service['working_dir']}/{folder}") for mount in service["volumes"])


def test_the_load_test_finds_the_engines_hub_cache() -> None:
    (mount,) = [mount for mount in LOADTEST["loadtest"]["volumes"] if mount.startswith("hub-cache:")]

    # huggingface_hub's default: $HF_HOME/hub.
    assert ENGINE["environment"]["HF_HOME"] == mount.split(":")[1]
    assert LOADTEST["loadtest"]["environment"]["HF_HUB_CACHE"] == ENGINE["environment"]["HF_HOME"] + "/hub"


def test_an_engine_has_more_shared_memory_than_dockers_own_64_mb() -> None:
    kinds = yaml.safe_load(ENGINE_TEXT)["services"]

    assert megabytes(kinds["engine-gpu"]["shm_size"]) >= 8 * 1024
    assert megabytes(kinds["engine-cpu"]["shm_size"]) >= 1024
    assert all(kinds[name]["extends"] == {"service": "engine"} for name in ("engine-gpu", "engine-cpu"))


def test_an_engine_is_stopped_only_after_its_drain() -> None:
    deployment = full_deployment()
    engine = yaml.safe_load(rendered()["engines.compose.yaml"])["services"]["engine-llama-1"]

    assert int(engine["stop_grace_period"].removesuffix("s")) > deployment.models[0].drain_seconds
