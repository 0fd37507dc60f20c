"""All rendered files together, and the values that compose.yaml is given."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from vllmstack.deployment.model import Deployment, Gateway
from vllmstack.images import Image, images_for, load_images
from vllmstack.planning.placement import place
from vllmstack.planning.plan import Plan
from vllmstack.render.engine_config import config_path
from vllmstack.render.stack import gateway_url, published_address, render_stack

ROOT = Path(__file__).parents[3]
KNOWN = load_images(ROOT / "docker" / "images.yaml")
ALERTMANAGER = (ROOT / "prometheus" / "alertmanager.yml").read_text()
TLS = {"certificate": "/tls/cert.pem", "key": "/tls/key.pem"}
KEYS = "/keys/keys.txt"


def plan(**changes: Any) -> Plan:
    models = [
        {"name": "llama", "source": {"hub": "org/llama"}, "replicas": 2},
        {"name": "smoke", "source": {"directory": "/models/smoke"}, "engine": "vllm-cpu"},
    ]
    deployment = Deployment.model_validate({"name": "test", "models": models} | changes)
    return Plan(deployment=deployment, replicas=place(deployment.models, core_ids=(0, 1)))


def rendered(of: Plan) -> dict[str, str]:
    return render_stack(of, images_for(of.deployment, KNOWN), ALERTMANAGER)


def variables(**changes: Any) -> dict[str, str]:
    """compose.env as Compose reads it."""
    lines = [line for line in rendered(plan(**changes))["compose.env"].splitlines() if not line.startswith("#")]
    return {key: value.strip("'") for key, _, value in (line.partition("=") for line in lines)}


def test_every_file_has_its_place() -> None:
    assert sorted(rendered(plan())) == [
        "alertmanager/alertmanager.yml",
        "compose.env",
        "engines.compose.yaml",
        *sorted(config_path(model, plan().deployment) for model in plan().deployment.models),
        "gateway/admission.conf",
        "gateway/limits.conf",
        "gateway/listen.conf",
        "gateway/mirror.conf",
        "gateway/routes.json",
        "gateway/upstreams.conf",
        "loadtest/stack.json",
        "preload/llama.json",
        "prometheus/engines.json",
        "prometheus/gateway.json",
        "prometheus/rules/targets.yml",
    ]


def test_the_values_of_a_deployment_that_leaves_all_to_the_defaults() -> None:
    of = plan()
    digests = variables()

    assert (
        rendered(of)["compose.env"]
        == f"""\
# Rendered by vllmstack from the deployment test: change its file and run `vllmstack up`.
# What is edited here is lost.
VLLMSTACK_STATE=.vllmstack/test
VLLMSTACK_PUBLISH='127.0.0.1:8000:8080'
VLLMSTACK_URL='http://127.0.0.1:8000'
VLLMSTACK_RETENTION_DAYS=15
VLLMSTACK_SCRAPE_SECONDS=5
VLLMSTACK_GATEWAY_DIGEST={digests["VLLMSTACK_GATEWAY_DIGEST"]}
VLLMSTACK_ALERTMANAGER_DIGEST={digests["VLLMSTACK_ALERTMANAGER_DIGEST"]}
VLLMSTACK_IMAGE_GATEWAY='{KNOWN.images["gateway"].reference}'
VLLMSTACK_IMAGE_LOADTEST='{KNOWN.images["loadtest"].reference}'
VLLMSTACK_IMAGE_ALERTMANAGER='{KNOWN.images["alertmanager"].reference}'
VLLMSTACK_IMAGE_EXPORTERS='{KNOWN.images["exporters"].reference}'
VLLMSTACK_IMAGE_GRAFANA='{KNOWN.images["grafana"].reference}'
VLLMSTACK_IMAGE_NODE_EXPORTER='{KNOWN.images["node-exporter"].reference}'
VLLMSTACK_IMAGE_PROMETHEUS='{KNOWN.images["prometheus"].reference}'
COMPOSE_PROFILES='grafana,gpu-nvidia'
"""
    )


def test_with_keys_it_is_published_on_every_address_and_reads_the_copied_key_file() -> None:
    values = variables(gateway={"api_keys_file": KEYS})

    assert values["VLLMSTACK_PUBLISH"] == "0.0.0.0:8000:8080"
    assert values["VLLMSTACK_URL"] == "http://127.0.0.1:8000"
    assert values["VLLMSTACK_API_KEYS_FILE"] == "secrets/api_keys"
    assert values["VLLMSTACK_STACK_KEY_FILE"] == "secrets/stack_key"
    assert "VLLMSTACK_TLS_KEY_FILE" not in values


def test_with_tls_the_published_port_leads_to_the_one_that_speaks_it() -> None:
    values = variables(gateway={"tls": TLS, "port": 443})

    assert values["VLLMSTACK_PUBLISH"] == "127.0.0.1:443:8443"
    assert values["VLLMSTACK_URL"] == "https://127.0.0.1:443"
    assert values["VLLMSTACK_TLS_CERTIFICATE_FILE"] == "secrets/tls_certificate"
    assert values["VLLMSTACK_TLS_KEY_FILE"] == "secrets/tls_key"
    assert "VLLMSTACK_API_KEYS_FILE" not in values


def test_an_ipv6_address_stands_in_brackets() -> None:
    values = variables(gateway={"address": "fd00::1", "api_keys_file": KEYS})

    assert values["VLLMSTACK_PUBLISH"] == "[fd00::1]:8000:8080"
    assert values["VLLMSTACK_URL"] == "http://[fd00::1]:8000"


@pytest.mark.parametrize(
    ("gateway", "address", "url"),
    [
        ({}, "127.0.0.1", "http://127.0.0.1:8000"),
        ({"api_keys_file": KEYS}, "0.0.0.0", "http://127.0.0.1:8000"),  # noqa: S104
        ({"api_keys_file": KEYS, "address": "127.0.0.1"}, "127.0.0.1", "http://127.0.0.1:8000"),
        ({"api_keys_file": KEYS, "address": "::"}, "::", "http://127.0.0.1:8000"),
        ({"address": "::1", "port": 9000}, "::1", "http://[::1]:9000"),
        ({"api_keys_file": KEYS, "address": "10.1.2.3", "tls": TLS}, "10.1.2.3", "https://10.1.2.3:8000"),
    ],
)
def test_a_client_on_this_host_is_given_an_address_it_can_reach(
    gateway: dict[str, Any], address: str, url: str
) -> None:
    settings = Gateway.model_validate(gateway)

    assert published_address(settings) == address
    assert gateway_url(settings) == url


def test_an_image_that_was_left_out_is_not_started() -> None:
    of = plan()
    without = {name: image for name, image in images_for(of.deployment, KNOWN).items() if name != "grafana"}

    text = render_stack(of, without, ALERTMANAGER)["compose.env"]

    assert "grafana" not in text


def test_the_images_that_were_provided_are_run_not_those_of_the_list() -> None:
    of = plan()
    provided = dict(images_for(of.deployment, KNOWN)) | {"prometheus": Image(reference="vllmstack/prometheus:3.5.0")}

    text = render_stack(of, provided, ALERTMANAGER)["compose.env"]

    assert "VLLMSTACK_IMAGE_PROMETHEUS='vllmstack/prometheus:3.5.0'\n" in text


def test_prometheus_gets_the_deployments_own_times() -> None:
    values = variables(monitoring={"retention_days": 3, "scrape_seconds": 10})

    assert values["VLLMSTACK_RETENTION_DAYS"] == "3"
    assert values["VLLMSTACK_SCRAPE_SECONDS"] == "10"


@pytest.mark.parametrize(
    "change",
    [
        {"gateway": {"port": 9000}},
        {"gateway": {"address": "127.0.0.2", "api_keys_file": KEYS}},
        {"gateway": {"tls": TLS}},
        {"gateway": {"api_keys_file": KEYS, "address": "127.0.0.1"}},
    ],
)
def test_what_a_running_gateway_cannot_take_over_changes_its_digest(change: dict[str, Any]) -> None:
    assert variables()["VLLMSTACK_GATEWAY_DIGEST"] != variables(**change)["VLLMSTACK_GATEWAY_DIGEST"]


@pytest.mark.parametrize(
    "change",
    [
        {"gateway": {"body_limit_mib": 64, "connections": 3, "requests_per_minute": 9}},
        {"models": [{"name": "one", "source": {"hub": "org/one"}}]},
        {"monitoring": {"scrape_seconds": 7}},
        {"description": "Other words"},
    ],
)
def test_what_is_read_again_while_it_runs_makes_no_container_anew(change: dict[str, Any]) -> None:
    before, after = variables(), variables(**change)

    digests = [name for name in before if name.endswith("_DIGEST")]
    assert len(digests) == 2
    assert [after[name] for name in digests] == [before[name] for name in digests]


def test_an_engines_options_are_a_file_whose_name_changes_with_them() -> None:
    model = plan().deployment.models[0]
    other = model.model_copy(update={"serve": {"max_model_len": 128}})

    assert re.fullmatch(r"engines/llama-[0-9a-f]{8}\.yaml", config_path(model, plan().deployment))
    assert config_path(model, plan().deployment) == config_path(
        model.model_copy(update={"replicas": 7}), plan().deployment
    )
    assert config_path(model, plan().deployment) != config_path(other, plan().deployment)


def test_the_engines_configuration_says_where_it_comes_from() -> None:
    text = rendered(plan())[config_path(plan().deployment.models[0], plan().deployment)]

    assert text.startswith("# Rendered by vllmstack from the deployment test")
    assert yaml.safe_load(text)["model"] == "org/llama"


def test_the_same_plan_gives_the_same_bytes() -> None:
    assert rendered(plan(gateway={"tls": TLS})) == rendered(plan(gateway={"tls": TLS}))
