"""What a model takes of a GPU, before there is one."""

from difflib import get_close_matches
from typing import Any

from vllmstack.deployment.options import option_list
from vllmstack.deployment.serve_checks import OWNED, serve_problems
from vllmstack.errors import InvalidInput, Problem
from vllmstack.host.inventory import see_inventory
from vllmstack.planning.budget import GpuShare, MemoryBudget
from vllmstack.planning.dimensions import ModelDimensions, public_models
from vllmstack.planning.engine_options import read_options, release_of
from vllmstack.planning.gpus import gpu_type
from vllmstack.planning.judgement import tensor_parallel_choices
from vllmstack.planning.memory import cpu_budget, gpu_budget
from vllmstack.serving.engine import dimensions_named, memory_limit_bytes, visible_gpus


def calculate_memory_usage(
    model: str,
    max_model_len: int | None = None,
    *,
    gpu: str | None = None,
    tensor_parallel_size: int = 1,
    pipeline_parallel_size: int = 1,
    **options: Any,
) -> MemoryBudget:
    """Where the memory of each GPU of one engine goes, in bytes, and how many tokens of KV cache that leaves.

    Arithmetic alone (:mod:`vllmstack.planning.memory`, which says where each formula comes from): nothing is loaded,
    and vLLM need not be installed.

    Args:
        model: A model's folder, or its id on the hub: of the hub's cache here, or of the built-in table.
        max_model_len: Tokens of the longest sequence; the model's own length if left out.
        gpu: A row of the table of GPUs, ``L4`` or ``H100-80GB``; this machine's smallest if left out, and the host's
            memory on a machine without a GPU.
        tensor_parallel_size: GPUs that share each layer.
        pipeline_parallel_size: Groups of GPUs that share the layers.
        **options: Others of ``vllm serve`` that decide memory: ``dtype``, ``quantization``, ``kv_cache_dtype``,
            ``gpu_memory_utilization``, ``max_num_seqs``, ``max_num_batched_tokens``, ``enforce_eager``, ``block_size``.

    Returns:
        The budget; ``fits`` says whether one sequence of that length does, ``parts`` lists what the memory goes to.

    Raises:
        InvalidInput: the model or the GPU is not known, or an option cannot be.

    >>> budget = calculate_memory_usage("meta-llama/Llama-3.1-8B-Instruct", 8192, gpu="L4")
    >>> round(budget.weights_bytes / 2**30, 1), budget.kv_bytes_per_token, budget.fits
    (15.0, 131072, True)
    """
    given = {**options, "tensor_parallel_size": tensor_parallel_size, "pipeline_parallel_size": pipeline_parallel_size}
    if max_model_len is not None:
        given["max_model_len"] = max_model_len
    problems = serve_problems({name: value for name, value in given.items() if name not in OWNED})
    if problems:
        raise InvalidInput(problems)
    read = read_options(given)
    dimensions = dimensions_named(model)
    if dimensions is None:
        near = get_close_matches(model, public_models(), n=1)
        perhaps = f"Perhaps you meant {near[0]}; else " if near else ""
        hint = f"{perhaps}name a folder with its config.json, or download the model: its cache is looked at too"
        raise InvalidInput(Problem(fact=f"the dimensions of {model} are not known here", hint=hint))
    _check_parallel(dimensions, tensor_parallel_size)
    machine = see_inventory()
    seen = [one.share for one in visible_gpus(machine)]
    if gpu is None and not seen:
        return cpu_budget(dimensions, read, memory_bytes=memory_limit_bytes(machine), kv_space_bytes=None)
    if gpu is None:
        share = min(seen, key=lambda one: one.usable_bytes)
    else:
        kind = gpu_type(gpu, place="gpu")
        share = GpuShare(
            name=kind.name,
            memory_bytes=kind.memory_bytes,
            usable_bytes=kind.usable_bytes,
            compute_capability=kind.compute_capability,
        )
    devices = tensor_parallel_size * pipeline_parallel_size
    release = release_of(None, option_list().release)
    return gpu_budget(dimensions, read, share, devices=devices, release=release)


def _check_parallel(dimensions: ModelDimensions, size: int) -> None:
    choices = tensor_parallel_choices(dimensions)
    if size not in choices:
        fact = f"{size} GPUs cannot share the model's {dimensions.heads} attention heads and its MLP evenly"
        hint = f"write tensor_parallel_size={', '.join(map(str, choices[:-1]))} or {choices[-1]}"
        raise InvalidInput(Problem(place="tensor_parallel_size", fact=fact, hint=hint))
