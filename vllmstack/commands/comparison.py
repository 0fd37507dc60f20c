"""What runs against what is rendered: the steps from one to the other."""

from collections.abc import Mapping, Sequence

import yaml

from vllmstack.commands.preparation import Prepared
from vllmstack.commands.rendering import Rendering
from vllmstack.host.containers import Container
from vllmstack.host.files import read_rendered
from vllmstack.host.gateway_control import SERVICE as GATEWAY
from vllmstack.host.running import variables_in
from vllmstack.images import MONITORING_SERVICES, PROFILES, image_variable
from vllmstack.render.engines import DIGEST_LABEL
from vllmstack.render.preload import LABEL as PRELOAD_LABEL
from vllmstack.rolling.differences import COMPOSE_FILE, differences
from vllmstack.rolling.steps import OtherChange, RunningReplica, Step, WantedReplica, all_steps, replica_steps

ONLY_A_NEW_ONE: Mapping[str, tuple[str, ...]] = {
    "prometheus": ("VLLMSTACK_RETENTION_DAYS",),
    "alertmanager": ("VLLMSTACK_ALERTMANAGER_DIGEST",),
    "grafana": ("VLLMSTACK_SCRAPE_SECONDS", "VLLMSTACK_URL"),
}
"""Variables that only a new container takes over, by service."""


def running_replicas(stack: Sequence[Container]) -> list[RunningReplica]:
    """The engines among the containers."""
    return [
        RunningReplica(
            service=one.service,
            model=one.model,
            digest=one.digest,
            image=one.image,
            gpu_ids=tuple(int(gpu) for gpu in one.gpus.split(",") if gpu),
            complaint=_complaint(one),
        )
        for one in stack
        if one.is_engine
    ]


def steps_to(prepared: Prepared, rendering: Rendering, stack: Sequence[Container]) -> list[Step]:
    """From the containers that run to what is rendered."""
    project, name = prepared.project, prepared.deployment.name
    old = read_rendered(project, name, COMPOSE_FILE, "compose.env", "engines/", "gateway/")
    running = running_replicas(stack)
    wanted = _wanted(rendering)
    replicas = replica_steps(running, wanted, differences(old, rendering.files))
    variables = variables_in(rendering.files["compose.env"])
    gateway = next(one for one in stack if one.service == GATEWAY)
    container = ""
    if gateway.digest != variables["VLLMSTACK_GATEWAY_DIGEST"]:
        container = "its port, certificate or keys file has changed, which only a new one takes over"
    elif gateway.image != rendering.images.get(variables["VLLMSTACK_IMAGE_GATEWAY"]):
        container = "its image has changed"
    return all_steps(
        replicas,
        models={one.model for one in wanted},
        preloads=_preloads(rendering),
        gateway_container=container,
        gateway_files=_changed_files(prepared, old, rendering.files),
        others=_others(variables_in(old.get("compose.env", "")), variables, rendering, stack),
    )


def _complaint(one: Container) -> str:
    if one.status == "running":
        return "does not answer" if one.health == "unhealthy" else ""
    return {"restarting": "stops again and again"}.get(one.status, f"is {one.status}")


def _wanted(rendering: Rendering) -> list[WantedReplica]:
    services = yaml.safe_load(rendering.files[COMPOSE_FILE])["services"]
    return [
        WantedReplica(
            service=name,
            model=one["labels"]["vllmstack.model"],
            digest=one["labels"][DIGEST_LABEL],
            image=rendering.images.get(one["image"], ""),
            gpu_ids=tuple(int(gpu) for gpu in one["labels"]["vllmstack.gpus"].split(",") if gpu),
        )
        for name, one in services.items()
        if "vllmstack.model" in one["labels"]
    ]


def _preloads(rendering: Rendering) -> dict[str, str]:
    """By model the service that brings its files."""
    services = yaml.safe_load(rendering.files[COMPOSE_FILE])["services"]
    return {one["labels"][PRELOAD_LABEL]: name for name, one in services.items() if PRELOAD_LABEL in one["labels"]}


def _changed_files(prepared: Prepared, old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Why nginx has to read its files again; empty: it need not."""
    paths = {path for path in (*old, *new) if path.startswith("gateway/")}
    changed = sorted(path.removeprefix("gateway/") for path in paths if old.get(path) != new.get(path))
    tls = prepared.deployment.gateway.tls
    if tls:
        copies = {"tls_certificate": tls.certificate, "tls_key": tls.key}
        for name, original in copies.items():
            copy = prepared.project.secrets / name
            if copy.is_file() and copy.read_text() != original.read_text():
                changed.append(name)
    return f"changed: {', '.join(changed)}" if changed else ""


def _others(
    old: Mapping[str, str], new: Mapping[str, str], rendering: Rendering, stack: Sequence[Container]
) -> list[OtherChange]:
    found = []
    profiles = new.get("COMPOSE_PROFILES", "").split(",")
    for service, image_name in MONITORING_SERVICES.items():
        one = next((one for one in stack if one.service == service), None)
        if PROFILES.get(service, profiles[0]) not in profiles:
            if one:
                found.append(OtherChange(service=service, reason="the deployment has it no longer", removed=True))
            continue
        changed = [name for name in ONLY_A_NEW_ONE.get(service, ()) if old.get(name) != new.get(name)]
        image = rendering.images.get(new[image_variable(image_name)])
        if one is None or one.status != "running":
            found.append(OtherChange(service=service, reason="it does not run"))
        elif one.image != image:
            found.append(OtherChange(service=service, reason="its image has changed"))
        elif changed:
            words = {
                "VLLMSTACK_RETENTION_DAYS": "retention_days",
                "VLLMSTACK_SCRAPE_SECONDS": "scrape_seconds",
                "VLLMSTACK_ALERTMANAGER_DIGEST": "receivers",
            }
            reason = ", ".join(words.get(name, name.removeprefix("VLLMSTACK_").lower()) for name in changed)
            found.append(OtherChange(service=service, reason=f"changed: {reason}"))
    return found
