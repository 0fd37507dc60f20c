"""All rendered files of a deployment, and the values that compose.yaml takes from the environment."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from vllmstack.deployment.hub_models import all_wishes, pinned
from vllmstack.deployment.model import Gateway, GpuAccess
from vllmstack.deployment.model_lock import ModelLock
from vllmstack.images import MONITORING_SERVICES, PROFILES, Image, image_variable
from vllmstack.planning.plan import Plan
from vllmstack.render.alertmanager import render_alertmanager
from vllmstack.render.engine_config import config_path, render_engine_config
from vllmstack.render.engines import render_engines
from vllmstack.render.gateway import listen_port, render_gateway
from vllmstack.render.header import header
from vllmstack.render.loadtest import render_loadtest
from vllmstack.render.prometheus import render_prometheus
from vllmstack.render.targets import render_targets

ONLY_NEW_GATEWAY = (
    "VLLMSTACK_PUBLISH",
    "VLLMSTACK_API_KEYS_FILE",
    "VLLMSTACK_TLS_CERTIFICATE_FILE",
    "VLLMSTACK_TLS_KEY_FILE",
)
"""What a running gateway cannot take over: its port and what is mounted. nginx reads all else again when it is told."""

GPU_PROFILES = {GpuAccess.NVIDIA: PROFILES["gpu-exporter"], GpuAccess.CDI: PROFILES["gpu-exporter-cdi"]}


def render_stack(
    plan: Plan, images: Mapping[str, Image], alertmanager: str, lock: ModelLock | None = None
) -> dict[str, str]:
    """Text by path, relative to ``.vllmstack/NAME/``. Pure and byte-stable: the same plan gives the same bytes.

    ``alertmanager`` is the text of prometheus/alertmanager.yml; ``lock`` has the commits of the hub's models.
    """
    lock = lock or ModelLock()
    wishes = all_wishes(plan.deployment, lock)
    plan = _pinned(plan, lock)
    files = {
        **render_engines(plan, images, wishes),
        **{
            config_path(model, plan.deployment): header(plan.deployment) + render_engine_config(model, plan.deployment)
            for model in plan.deployment.models
        },
        **render_gateway(plan),
        **render_prometheus(plan),
        **render_targets(plan),
        **render_alertmanager(plan.deployment, alertmanager),
        **render_loadtest(plan, images),
    }
    files["compose.env"] = header(plan.deployment) + _variables(plan, images, files)
    return files


def _pinned(plan: Plan, lock: ModelLock) -> Plan:
    deployment = pinned(plan.deployment, lock)
    by_name = {model.name: model for model in deployment.models}
    replicas = tuple(replace(replica, model=by_name[replica.model.name]) for replica in plan.replicas)
    return replace(plan, deployment=deployment, replicas=replicas)


def published_address(gateway: Gateway) -> str:
    """The host address that the gateway is published on: everywhere only if it asks for keys."""
    if gateway.address:
        return gateway.address
    return "0.0.0.0" if gateway.api_keys_file else "127.0.0.1"  # noqa: S104 - keys are asked for


def gateway_url(gateway: Gateway) -> str:
    """Where a client on this host reaches the gateway, without a path."""
    address = published_address(gateway)
    host = "127.0.0.1" if address in ("0.0.0.0", "::") else address  # noqa: S104
    if ":" in host:
        host = f"[{host}]"
    return f"{'https' if gateway.tls else 'http'}://{host}:{gateway.port}"


def _variables(plan: Plan, images: Mapping[str, Image], files: Mapping[str, str]) -> str:
    deployment = plan.deployment
    gateway = deployment.gateway
    address = published_address(gateway)
    values = {
        "VLLMSTACK_STATE": f".vllmstack/{deployment.name}",
        "VLLMSTACK_PUBLISH": f"{f'[{address}]' if ':' in address else address}:{gateway.port}:{listen_port(gateway)}",
        "VLLMSTACK_URL": gateway_url(gateway),
        "VLLMSTACK_RETENTION_DAYS": str(deployment.monitoring.retention_days),
        "VLLMSTACK_SCRAPE_SECONDS": str(deployment.monitoring.scrape_seconds),
    }
    # Copies, made by `up`: the originals may be closed to the user that nginx runs as.
    if gateway.api_keys_file:
        values["VLLMSTACK_API_KEYS_FILE"] = "secrets/api_keys"
        values["VLLMSTACK_STACK_KEY_FILE"] = "secrets/stack_key"
    if gateway.tls:
        values["VLLMSTACK_TLS_CERTIFICATE_FILE"] = "secrets/tls_certificate"
        values["VLLMSTACK_TLS_KEY_FILE"] = "secrets/tls_key"
    values["VLLMSTACK_GATEWAY_DIGEST"] = _digest({name: values[name] for name in ONLY_NEW_GATEWAY if name in values})
    values["VLLMSTACK_ALERTMANAGER_DIGEST"] = _digest(
        {path: text for path, text in files.items() if path.startswith("alertmanager/")}
    )
    for name in ("gateway", "loadtest", *sorted(set(MONITORING_SERVICES.values()))):
        if name in images:
            values[image_variable(name)] = images[name].reference
    profiles = ["grafana"] if "grafana" in images else []
    if any(replica.gpu_ids for replica in plan.replicas):
        profiles.append(GPU_PROFILES[deployment.gpu.access])
    if profiles:
        values["COMPOSE_PROFILES"] = ",".join(profiles)
    return "".join(f"{key}={_quoted(value)}\n" for key, value in values.items())


def _quoted(value: str) -> str:
    """Compose reads single quotes literally; a quote inside cannot be written that way."""
    return value if value.replace("/", "").replace(".", "").isalnum() else "'" + value.replace("'", "\\'") + "'"


def _digest(parts: Mapping[str, str]) -> str:
    """Becomes a label of the container: a new one is made when it changes."""
    text = "".join(f"{name}\0{parts[name]}\0" for name in sorted(parts))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
