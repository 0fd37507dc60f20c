"""Rules that no single value breaks: pure checks over the sections of a deployment that are typed already."""

import ipaddress
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from vllmstack.deployment.model import MOST_REPLICAS, Engine, Gateway, Gpu, Model
from vllmstack.deployment.options import PARALLEL_SIZES
from vllmstack.deployment.presets import PRESETS
from vllmstack.deployment.target_checks import target_problems
from vllmstack.deployment.wording import listed, perhaps, shown
from vllmstack.errors import Problem
from vllmstack.planning.placement import gpus_per_replica, replica_count, service_prefix

_SECRET_NAME = re.compile(
    r"(TOKEN|API_KEY|SECRET|PASSWORD|PASSWD|CREDENTIALS|ACCESS_KEY|PRIVATE_KEY)S?(_ID)?$", re.IGNORECASE
)
_SECRET_VALUE = re.compile(r"\b(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{16,})")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_OWNED_VARIABLES: Mapping[str, str] = {
    "CUDA_VISIBLE_DEVICES": "use `gpus`",
    "NVIDIA_VISIBLE_DEVICES": "use `gpus`",
    "HF_HOME": "leave it out: weights are kept in the volume hub-cache",
    "HF_HUB_CACHE": "leave it out: weights are kept in the volume hub-cache",
    "HF_HUB_OFFLINE": "leave it out: an engine never asks the hub, a preload has brought its files",
    "HF_ENDPOINT": "set it where `vllmstack` is run: `HF_ENDPOINT=https://… vllmstack up`",
    "HF_TOKEN_PATH": "set `source/gated: true` and put the token into secrets/hub_token",
    "VLLM_CACHE_ROOT": "leave it out: compiled graphs are kept in the volume compile-cache",
    "VLLM_PORT": "leave it out: each engine has its own network address",
    "VLLM_HOST_IP": "leave it out: each engine has its own network address",
}
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LONGEST_HOST_NAME = 63
"""A DNS label: a replica's service name is its host name (RFC 1035, 2.3.4)."""


def model_problems(index: int, model: Model) -> Iterator[Problem]:
    """Mistakes within one model, but for those of ``serve`` and of the disk."""
    place = f"models/{index}"
    yield from _source(place, model)
    yield from _devices(place, model)
    yield from _parallel_sizes(place, model)
    yield from _sampling(place, model)
    yield from _environment(place, model.environment)
    for number, target in enumerate(model.targets):
        yield from target_problems(f"{place}/targets/{number}", target)
    # "-48": the longest number a replica can have.
    if len(service_prefix(model)) + 3 > _LONGEST_HOST_NAME:
        yield Problem(
            place=f"{place}/name",
            fact=f"has {len(model.name)} characters, and its containers' host names would exceed {_LONGEST_HOST_NAME}",
            hint="use a name of at most 53 characters, and write the long one under `aliases`",
        )


def gpu_ids_problems(models: Sequence[tuple[int, Model]]) -> Iterator[Problem]:
    """GPU ids that two replicas ask for."""
    owner: dict[int, str] = {}
    for index, model in models:
        if not isinstance(model.gpus, tuple):
            continue
        for replica, ids in enumerate(model.gpus):
            for gpu in ids:
                place = f"models/{index}/gpus/{replica}"
                if gpu in owner:
                    within = f"twice at {place}" if owner[gpu] == place else f"at {owner[gpu]} too"
                    yield Problem(
                        place=place,
                        fact=f"GPU {gpu} is listed {within}",
                        hint="give each replica GPUs of its own: vLLM takes nearly all of a GPU's memory",
                    )
                owner.setdefault(gpu, place)


def gateway_problems(gateway: Gateway) -> Iterator[Problem]:
    """An address that is none, or that opens the gateway to everyone."""
    if gateway.address is None:
        return
    try:
        address = ipaddress.ip_address(gateway.address)
    except ValueError:
        yield Problem(
            place="gateway/address",
            fact=f"{shown(gateway.address)} is not an IP address",
            hint="write 127.0.0.1 for this machine only, 0.0.0.0 for all networks, or one of its own addresses",
        )
        return
    if not address.is_loopback and gateway.api_keys_file is None:
        yield Problem(
            place="gateway/address",
            fact=f"{gateway.address} can be reached from other machines, and there are no API keys",
            hint="set `gateway/api_keys_file`, or use 127.0.0.1",
        )


def gpu_type_problems(gpu: Gpu, known: Collection[str]) -> Iterator[Problem]:
    """A GPU to plan for whose size is not known."""
    if gpu.type is not None and gpu.type not in known:
        yield Problem(
            place="gpu/type",
            fact=f"the size of {shown(gpu.type)} is not known",
            hint=perhaps(gpu.type, known) or f"the GPUs are {listed(known)}",
        )


def image_problems(images: Mapping[str, str], known: Collection[str]) -> Iterator[Problem]:
    """Image names that the stack has not, and references that mean another image tomorrow."""
    for name, reference in images.items():
        if name not in known:
            yield Problem(
                place=f"images/{name}",
                fact="the stack has no such image",
                hint=perhaps(name, known) or f"the images are {listed(known)}",
            )
        last = reference.rsplit("/", 1)[-1]
        if not reference.strip() or " " in reference:
            yield Problem(
                place=f"images/{name}",
                fact=f"{shown(reference)} is not an image reference",
                hint="write REGISTRY/NAME:TAG",
            )
        elif "@" not in last and (":" not in last or last.endswith(":latest")):
            yield Problem(
                place=f"images/{name}",
                fact=f"{shown(reference)} has no fixed tag, so that it can change under you",
                hint="add one, e.g. `:v0.32.0`, or a digest `@sha256:…`",
            )


def _source(place: str, model: Model) -> Iterator[Problem]:
    source = model.source
    if source.hub and source.directory:
        yield Problem(place=f"{place}/source", fact="has both `hub` and `directory`", hint="keep one of the two")
    if not source.hub and not source.directory:
        yield Problem(
            place=f"{place}/source",
            fact="has neither `hub` nor `directory`",
            hint="write `hub: ORGANISATION/NAME`, or `directory:` with the path of a local model",
        )
    if source.directory and not source.hub:
        for key in ("revision", "gated"):
            if getattr(source, key):
                yield Problem(
                    place=f"{place}/source/{key}",
                    fact="belongs to a model of the hub, and this one is a directory",
                    hint="leave it out",
                )
    trusts = model.serve.get("trust_remote_code") is True
    if trusts and source.hub and not _COMMIT.fullmatch(source.revision or ""):
        yield Problem(
            place=f"{place}/serve/trust_remote_code",
            fact="runs code from the hub, which may change at any time",
            hint=f"fix it: set `{place}/source/revision` to the commit you have read (40 hexadecimal digits)",
        )


def _devices(place: str, model: Model) -> Iterator[Problem]:
    if model.engine is Engine.VLLM_CPU and model.gpus is not None:
        yield Problem(
            place=f"{place}/gpus",
            fact="the engine vllm-cpu uses no GPU",
            hint="leave it out, or set `engine: vllm`; `cpus` is a replica's number of cores",
        )
    if model.engine is Engine.VLLM and model.cpus is not None:
        yield Problem(
            place=f"{place}/cpus",
            fact="is for the engine vllm-cpu, and this model runs on GPUs",
            hint="leave it out, or set `engine: vllm-cpu`",
        )
    if not isinstance(model.gpus, tuple):
        return
    if not model.gpus or not all(model.gpus):
        yield Problem(
            place=f"{place}/gpus",
            fact="has a replica without a GPU" if model.gpus else "is an empty list",
            hint="write a list of ids for each replica, e.g. [[0], [1]], or a count",
        )
        return
    lengths = [len(ids) for ids in model.gpus]
    if len(set(lengths)) > 1:
        yield Problem(
            place=f"{place}/gpus",
            fact=f"replicas have {listed(map(str, lengths))} GPUs",
            hint="give each replica the same number: all of them run with the same options",
        )
    if model.replicas is not None and model.replicas != len(model.gpus):
        yield Problem(
            place=f"{place}/replicas",
            fact=f"is {model.replicas}, but `gpus` lists {len(model.gpus)}",
            hint=f"write {len(model.gpus)}, or leave it out",
        )


def _parallel_sizes(place: str, model: Model) -> Iterator[Problem]:
    given = {name: model.serve[name] for name in PARALLEL_SIZES if isinstance(model.serve.get(name), int)}
    gpus = gpus_per_replica(model) if model.gpus != () else 0
    if model.engine is Engine.VLLM_CPU or not given or gpus == 0:
        return
    product = math.prod(given.values())
    if product == gpus:
        return
    sizes = " × ".join(f"{name} {size}" for name, size in given.items())
    each = "each replica has 1 GPU" if gpus == 1 else f"each replica has {gpus} GPUs"
    wanted = "" if isinstance(model.gpus, tuple) else f"set `gpus: {product}`, or "
    yield Problem(
        place=f"{place}/serve/{next(iter(given))}",
        fact=f"{sizes} takes {product} GPU{'s' if product > 1 else ''}, and {each}",
        hint=f"{wanted}leave the parallel sizes out: all of a replica's GPUs are then used as tensor_parallel_size",
    )


def _sampling(place: str, model: Model) -> Iterator[Problem]:
    if model.sampling is None:
        return
    if model.sampling not in PRESETS:
        near = perhaps(model.sampling, PRESETS)
        yield Problem(
            place=f"{place}/sampling",
            fact=f"there is no preset {shown(model.sampling)}",
            hint=near or f"the presets are {listed(PRESETS)}",
        )
    if "override_generation_config" in model.serve:
        yield Problem(
            place=f"{place}/serve/override_generation_config",
            fact="says the same as `sampling`, otherwise",
            hint="keep one of the two",
        )


def _environment(place: str, environment: Mapping[str, str]) -> Iterator[Problem]:
    """No value is shown: the ones that matter here are secrets."""
    for name, value in environment.items():
        where = f"{place}/environment/{name}"
        if not _VARIABLE_NAME.fullmatch(name):
            yield Problem(
                place=where, fact="is not a variable's name", hint="use letters, digits and _, and no digit first"
            )
        elif name in _OWNED_VARIABLES:
            yield Problem(place=where, fact="vllmstack sets this variable itself", hint=_OWNED_VARIABLES[name])
        elif name == "VLLM_CPU_KVCACHE_SPACE" and not re.fullmatch("[1-9][0-9]*", value):
            # vLLM reads it with int(): anything else ends the engine with a traceback.
            yield Problem(place=where, fact=f"{shown(value)} is not a whole number of GiB", hint='write e.g. "4"')
        elif _SECRET_NAME.search(name) or _SECRET_VALUE.search(value):
            yield Problem(
                place=where, fact="looks like a secret, and `docker inspect` would show it", hint=_secret_hint(name)
            )


def _secret_hint(name: str) -> str:
    if name.upper() == "VLLM_API_KEY":
        return "remove it here and use `gateway/api_keys_file`"
    if name.upper().startswith(("HF_", "HUGGING_FACE")):
        return "remove it here, put the token into the file secrets/hub_token, and set `source/gated: true`"
    return "remove it here, and read it from a file in the engine's image or volume"


def replicas_problems(index: int, model: Model) -> Iterator[Problem]:
    """More lists of GPUs than there may be replicas; a count is limited by the model itself."""
    if isinstance(model.gpus, tuple) and replica_count(model) > MOST_REPLICAS:
        yield Problem(
            place=f"models/{index}/gpus",
            fact=f"lists {len(model.gpus)} replicas, and a model can have {MOST_REPLICAS}",
            hint="list fewer, or serve it as two models and put both behind one name with `splits`",
        )
