"""``loadtest/stack.json``: what a load test must know of the stack that it measures; ``loadtest.stack`` reads it.

It is written here as plain values: what serves does not import what measures.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from vllmstack.deployment.model import Model
from vllmstack.deployment.options import normalised
from vllmstack.images import ENGINE_IMAGES, Image
from vllmstack.planning.engine_options import whole_number
from vllmstack.planning.gpus import gpu_types
from vllmstack.planning.inventory import SeenGpu
from vllmstack.planning.placement import Replica, gpus_per_replica, model_slug
from vllmstack.planning.plan import Plan
from vllmstack.render.gateway import listen_port

STACK_FILE = "loadtest/stack.json"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_RELEASE = re.compile(r":v?(\d+\.\d+\.\d+)")


def render_loadtest(plan: Plan, images: Mapping[str, Image]) -> dict[str, str]:
    """File by path. URLs are those inside the stack's own networks, where the load test's container is."""
    gateway = plan.deployment.gateway
    stack = {
        "deployment": plan.deployment.name,
        "url": f"{'https' if gateway.tls else 'http'}://gateway:{listen_port(gateway)}",
        "vllm": _release(images),
        "models": [_model(plan, model) for model in plan.deployment.models],
    }
    # default: YAML knows dates, JSON does not.
    return {STACK_FILE: json.dumps(stack, indent=2, ensure_ascii=False, default=str) + "\n"}


def tokenizer_folder(replica: Replica) -> str:
    """Where the tokenizer's files of a model that is served from a directory are copied, relative to ``stack.json``.

    The directory itself may lie anywhere on the host; the load test's container sees only what is rendered.
    """
    return f"tokenizers/{model_slug(replica.model)}"


def _release(images: Mapping[str, Image]) -> str:
    """From the tag of the engine's image; empty if it does not say."""
    for name in ENGINE_IMAGES.values():
        if name in images and (match := _RELEASE.search(images[name].reference)):
            return match[1]
    return ""


def _model(plan: Plan, model: Model) -> dict[str, Any]:
    replicas = [replica for replica in plan.replicas if replica.model.name == model.name]
    gpus = [_gpus(plan, replica) for replica in replicas]
    options = normalised(model.serve)
    budget = plan.budgets.get(model.name)
    return {
        "name": model.name,
        "aliases": list(model.aliases),
        "max_model_len": budget.max_model_len if budget else _asked_length(options),
        "tokenizer": _tokenizer(replicas[0], options),
        "engines": [{"name": replica.service, "metrics": f"http://{replica.address}/metrics"} for replica in replicas],
        "targets": [target.model_dump(mode="json", exclude_none=True) for target in model.targets],
        "options": options,
        "gpu": gpus[0][0].name if gpus[0] else None,
        "gpus_per_replica": gpus_per_replica(model),
        "weights_bytes": budget.decode_weights_bytes if budget else None,
        "memory_bytes_per_second": _bandwidth(gpus),
    }


def _asked_length(options: Mapping[str, Any]) -> int | None:
    length = whole_number(options.get("max_model_len", "auto"))
    return length if length and length > 0 else None


def _tokenizer(replica: Replica, options: Mapping[str, Any]) -> dict[str, str]:
    """Empty where nothing here can get at it: `tokenizer` may name a path inside the engine's image."""
    model = replica.model
    if "tokenizer" in options:
        name = str(options["tokenizer"])
        revision = options.get("tokenizer_revision")
        if not _HUB_ID.fullmatch(name):
            return {}
        return {"hub": name, "revision": str(revision)} if revision else {"hub": name}
    if model.source.directory is not None:
        return {"directory": tokenizer_folder(replica)}
    source = {"hub": model.source.hub or ""}
    revision = options.get("tokenizer_revision") or model.source.revision
    return source | {"revision": str(revision)} if revision else source


def _gpus(plan: Plan, replica: Replica) -> list[SeenGpu]:
    """Those of a replica that the plan knows."""
    machine = plan.inventory.gpus if plan.inventory else ()
    return [gpu for gpu in machine if gpu.id in replica.gpu_ids]


def _bandwidth(replicas: list[list[SeenGpu]]) -> float | None:
    """Bytes a second of the fastest replica's GPUs together; None on a CPU, or with a GPU that is not in the table."""
    rows = gpu_types()
    if any(gpu.short_name not in rows for gpus in replicas for gpu in gpus):
        return None
    sums = [sum(rows[gpu.short_name].bandwidth_bytes_per_second for gpu in gpus) for gpus in replicas]
    return max(sums, default=0.0) or None
