"""``engines.compose.yaml``: one Compose service a replica, and the networks and volumes that engines need."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import yaml

from vllmstack.deployment.adapters import adapters_of
from vllmstack.deployment.model import Deployment, Engine, GpuAccess, Model
from vllmstack.images import ENGINE_IMAGES, Image
from vllmstack.planning.host_memory import CONTAINER_GIB
from vllmstack.planning.placement import Replica
from vllmstack.planning.plan import Plan
from vllmstack.render.engine_config import adapter_directory, config_path, model_directory, uses_own_logging
from vllmstack.render.header import header

STATE_TO_ROOT = "../.."
"""From ``.vllmstack/NAME/`` to the clone's root: Compose takes paths relative to the file that names them."""

DEFAULT_MEMORY_GIB = {Engine.VLLM: 64.0, Engine.VLLM_CPU: CONTAINER_GIB}
"""Limits, not reservations. vllm: weights are mapped through the page cache, and swap space and pinned buffers add a
few GiB; vllm-cpu: 2.5 GB were measured for a tiny model with 1 GiB of KV cache, and torch.compile's compilers add."""

DIGEST_LABEL = "vllmstack.config"
"""Of an engine's container: what it was made from."""

GRACE_SECONDS = 15
"""What an engine gets beyond its drain before Docker kills it."""


def render_engines(plan: Plan, images: Mapping[str, Image]) -> dict[str, str]:
    """File by path: the Compose file that compose.yaml includes."""
    first: dict[str, Replica] = {}
    services: dict[str, Any] = {}
    for replica in plan.replicas:
        service = _service(replica, plan.deployment, images[ENGINE_IMAGES[replica.model.engine]].reference)
        # Whoever comes first downloads and compiles; the others find both in the volumes.
        leader = first.setdefault(replica.model.name, replica)
        if leader is not replica and _fills_a_shared_cache(replica.model):
            service["depends_on"] = {leader.service: {"condition": "service_healthy"}}
        services[replica.service] = service
    document: dict[str, Any] = {
        "services": services,
        "networks": {"engines": {"internal": True}},
        "volumes": {"hub-cache": {}, "compile-cache": {}},
    }
    if any(replica.model.source.hub for replica in plan.replicas):
        document["networks"]["downloads"] = {}
    if any(_needs_token(replica.model) for replica in plan.replicas):
        document["secrets"] = {"hub_token": {"file": f"{STATE_TO_ROOT}/secrets/hub_token"}}
    text = yaml.safe_dump(_literal(document), sort_keys=False, width=120)
    return {"engines.compose.yaml": header(plan.deployment) + text}


def _literal(value: Any) -> Any:
    """With every `$` doubled: Compose would put the shell's variables into a path or an engine's environment."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _literal(part) for key, part in value.items()}
    return [_literal(part) for part in value] if isinstance(value, list) else value


def _service(replica: Replica, deployment: Deployment, image: str) -> dict[str, Any]:
    model = replica.model
    on_cpu = model.engine is Engine.VLLM_CPU
    memory_gib = model.memory_gib or DEFAULT_MEMORY_GIB[model.engine]
    service: dict[str, Any] = {
        "extends": {
            "file": f"{STATE_TO_ROOT}/docker/engine/service.yaml",
            "service": "engine-cpu" if on_cpu else "engine-gpu",
        },
        "image": image,
        "labels": {
            "vllmstack.model": model.name,
            "vllmstack.replica": str(replica.number),
            "vllmstack.gpus": ",".join(map(str, replica.gpu_ids)),
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
    else:
        service["networks"].append("downloads")
    for number, adapter in enumerate(adapters_of(model.serve), start=1):
        if adapter.folder:
            service["volumes"].append(_bind(str(adapter.folder), adapter_directory(number)))
    if _needs_token(model):
        service["secrets"] = ["hub_token"]
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
    if model.source.directory:
        environment["HF_HUB_OFFLINE"] = "1"
    if _needs_token(model):
        environment["HF_TOKEN_PATH"] = "/run/secrets/hub_token"  # noqa: S105 - a path
    return environment | model.environment


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


def _needs_token(model: Model) -> bool:
    return model.source.hub is not None and model.source.gated


def _fills_a_shared_cache(model: Model) -> bool:
    return model.source.hub is not None or not model.serve.get("enforce_eager", False)
