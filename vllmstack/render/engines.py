"""``engines.compose.yaml``: one Compose service a replica, and the networks and volumes that engines need."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from vllmstack.deployment.adapters import adapters_of
from vllmstack.deployment.model import Deployment, Engine, GpuAccess
from vllmstack.hub.wishes import Wish
from vllmstack.images import ENGINE_IMAGES, MODELS_IMAGE, Image
from vllmstack.planning.host_memory import CONTAINER_GIB
from vllmstack.planning.placement import Replica
from vllmstack.planning.plan import Plan
from vllmstack.render.engine_config import adapter_directory, config_path, model_directory, uses_own_logging
from vllmstack.render.header import header
from vllmstack.render.preload import (
    commits_label,
    preload_service,
    render_preload,
    render_request,
    request_path,
)

STATE_TO_ROOT = "../.."
"""From ``.vllmstack/NAME/`` to the clone's root: Compose takes paths relative to the file that names them."""

DEFAULT_MEMORY_GIB = {Engine.VLLM: 64.0, Engine.VLLM_CPU: CONTAINER_GIB}
"""Limits, not reservations. vllm: weights are mapped through the page cache, and swap space and pinned buffers add a
few GiB; vllm-cpu: 2.5 GB were measured for a tiny model with 1 GiB of KV cache, and torch.compile's compilers add."""

DIGEST_LABEL = "vllmstack.config"
"""Of an engine's container: what it was made from."""

GRACE_SECONDS = 15
"""What an engine gets beyond its drain before Docker kills it: docker/engine/middleware has 5 of it, at most."""

MIDDLEWARE = "/etc/vllmstack/middleware"
"""The PYTHONPATH of docker/engine/service.yaml."""


def render_engines(plan: Plan, images: Mapping[str, Image], wishes: Mapping[str, Sequence[Wish]]) -> dict[str, str]:
    """File by path: the Compose file that compose.yaml includes, and what each preload reads.

    ``wishes`` has by model's name what must be in the volume before its engines start.
    """
    first: dict[str, Replica] = {}
    services: dict[str, Any] = {}
    requests: dict[str, str] = {}
    for replica in plan.replicas:
        model = replica.model
        service = _service(replica, plan.deployment, images, wishes.get(model.name, ()))
        waits = {}
        if needed := wishes.get(model.name):
            preload = preload_service(model)
            services[preload] = render_preload(model, needed, images[MODELS_IMAGE].reference, root=STATE_TO_ROOT)
            requests[request_path(model)] = render_request(needed)
            waits[preload] = {"condition": "service_completed_successfully"}
        # Whoever comes first compiles; the others find it in the volume.
        leader = first.setdefault(model.name, replica)
        if leader is not replica and not model.serve.get("enforce_eager", False):
            waits[leader.service] = {"condition": "service_healthy"}
        services[replica.service] = service | ({"depends_on": waits} if waits else {})
    document: dict[str, Any] = {
        "services": services,
        "networks": {"engines": {"internal": True}},
        "volumes": {"hub-cache": {}, "compile-cache": {}},
    }
    if requests:
        document["networks"]["downloads"] = {}
    if any(replica.model.source.gated for replica in plan.replicas):
        document["secrets"] = {"hub_token": {"file": f"{STATE_TO_ROOT}/secrets/hub_token"}}
    text = yaml.safe_dump(_literal(document), sort_keys=False, width=120)
    return {"engines.compose.yaml": header(plan.deployment) + text, **requests}


def _literal(value: Any) -> Any:
    """With every `$` doubled: Compose would put the shell's variables into a path or an engine's environment."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _literal(part) for key, part in value.items()}
    return [_literal(part) for part in value] if isinstance(value, list) else value


def _service(
    replica: Replica, deployment: Deployment, images: Mapping[str, Image], wishes: Sequence[Wish]
) -> dict[str, Any]:
    model = replica.model
    on_cpu = model.engine is Engine.VLLM_CPU
    memory_gib = model.memory_gib or DEFAULT_MEMORY_GIB[model.engine]
    service: dict[str, Any] = {
        "extends": {
            "file": f"{STATE_TO_ROOT}/docker/engine/service.yaml",
            "service": "engine-cpu" if on_cpu else "engine-gpu",
        },
        "image": images[ENGINE_IMAGES[model.engine]].reference,
        "labels": {
            "vllmstack.model": model.name,
            "vllmstack.replica": str(replica.number),
            "vllmstack.gpus": ",".join(map(str, replica.gpu_ids)),
            **commits_label(wishes),
        },
        "environment": _environment(replica),
        "volumes": [_bind(f"./{config_path(model, deployment)}", "/etc/vllmstack/engine.yaml")],
        "mem_limit": f"{round(memory_gib * 1024)}m",
        "stop_grace_period": f"{model.drain_seconds + GRACE_SECONDS}s",
        "healthcheck": {"start_period": f"{model.startup_seconds}s"},
        "networks": ["engines"],
    }
    if model.source.directory:
        service["volumes"].append(_bind(str(model.source.directory), model_directory(model)))
    for number, adapter in enumerate(adapters_of(model.serve), start=1):
        if adapter.folder:
            service["volumes"].append(_bind(str(adapter.folder), adapter_directory(number)))
    if replica.gpu_ids:
        service |= _gpus(replica.gpu_ids, deployment.gpu.access)
    # Of all that makes the container, its options too, which the mounted file's name stands for: `apply` compares it.
    service["labels"][DIGEST_LABEL] = _digest(json.dumps(service, sort_keys=True))
    return service


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _environment(replica: Replica) -> dict[str, str]:
    model = replica.model
    environment = {"VLLMSTACK_HUNG_SECONDS": str(model.health.hung_seconds)}  # of docker/engine/health.py
    if model.engine is Engine.VLLM_CPU:
        # Without it every engine binds its threads to the same first core.
        environment["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, replica.cpu_ids))
    if uses_own_logging(model):
        environment["VLLM_LOGGING_CONFIG_PATH"] = ""  # in place of that of docker/engine/service.yaml
    environment |= model.environment
    if theirs := model.environment.get("PYTHONPATH"):
        environment["PYTHONPATH"] = f"{MIDDLEWARE}:{theirs}"
    return environment


def _bind(source: str, target: str) -> dict[str, Any]:
    # create_host_path would make an empty folder of a path that is not there, and the engine would start on it.
    return {
        "type": "bind",
        "source": source,
        "target": target,
        "read_only": True,
        "bind": {"create_host_path": False},
    }


def _gpus(gpu_ids: tuple[int, ...], access: GpuAccess) -> dict[str, Any]:
    """Explicit ids: a plain count gives every container the first GPU."""
    if access is GpuAccess.CDI:
        return {"devices": [f"nvidia.com/gpu={gpu}" for gpu in gpu_ids]}
    device = {"driver": "nvidia", "device_ids": [str(gpu) for gpu in gpu_ids], "capabilities": ["gpu"]}
    return {"deploy": {"resources": {"reservations": {"devices": [device]}}}}
