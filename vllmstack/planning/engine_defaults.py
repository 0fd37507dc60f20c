"""Options for one engine on this machine, where nobody wrote a deployment: what fits, with room to work.

Only what is left out is chosen; what is given is kept, and refused with the plan's own words if it cannot be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vllmstack.deployment.model import Model, Source
from vllmstack.errors import InvalidInput, Problem
from vllmstack.planning.budget import GpuShare
from vllmstack.planning.dimensions import ModelDimensions
from vllmstack.planning.engine_options import AUTOMATIC_LENGTH, EngineOptions, EngineRelease, read_options
from vllmstack.planning.inventory import SeenGpu
from vllmstack.planning.judgement import Case, fitting_length, gib, judge, tensor_parallel_choices
from vllmstack.planning.memory import CONTEXT_BYTES, NCCL_BYTES, cpu_budget, tensor_parallel_size

IDLE_BYTES = 256 << 20
"""Memory in use on a GPU that nobody computes on: less than this is the driver's and the desktop's."""

CPU_SEQUENCES = 16
"""Sequences of full length that a CPU engine's KV cache is made for: more do not run faster on some cores."""

LEAST_CPU_CACHE_BYTES = 256 << 20

CPU_SHARE = 0.8
"""Of the host's memory, for weights, process and KV cache together."""


def gpu_defaults(
    dimensions: ModelDimensions, given: Mapping[str, Any], gpus: Sequence[SeenGpu], *, release: EngineRelease
) -> dict[str, Any]:
    """What to add to ``given`` on these GPUs, at least one.

    - ``tensor_parallel_size``: the fewest GPUs that the model fits on with its whole length;
    - ``max_model_len``: only where the whole length fits nowhere: the longest that does;
    - ``gpu_memory_utilization``: only where others already use a GPU: what they leave.

    Raises:
        InvalidInput: a value cannot be, or the model does not fit these GPUs.
    """
    options = read_options(given)
    if options.parallelism_given:
        counts = [tensor_parallel_size(options, 1) * options.pipeline_parallel * options.other_parallel]
    else:
        counts = tensor_parallel_choices(dimensions, len(gpus))
    if counts[-1] > len(gpus):
        fact = f"the parallel sizes multiply to {counts[-1]} GPUs, and {len(gpus)} can be seen"
        raise InvalidInput(Problem(fact=fact, hint="lower `tensor_parallel_size`; `nvidia-smi` lists the GPUs"))
    problems: tuple[Problem, ...] = ()
    for count in counts:
        case = _case(dimensions, given, options, gpus[:count], release)
        problems = judge(case).problems
        if not problems:
            return _written(case, given, {})
    too_long = all(one.place.endswith("/max_model_len") for one in problems)
    if too_long and options.max_model_len is None and (length := fitting_length(case)):
        return _written(case, given, {"max_model_len": length})
    raise InvalidInput([replace(one, place=one.place.removeprefix("models/0/")) for one in problems])


def _case(
    dimensions: ModelDimensions,
    given: Mapping[str, Any],
    options: EngineOptions,
    gpus: Sequence[SeenGpu],
    release: EngineRelease,
) -> Case:
    smallest: GpuShare = min((gpu.share for gpu in gpus), key=lambda share: share.usable_bytes)
    beside = CONTEXT_BYTES + (NCCL_BYTES if len(gpus) > 1 else 0)
    if "gpu_memory_utilization" not in given:
        for gpu in gpus:
            if gpu.used_bytes >= IDLE_BYTES:
                left = int(max(0, gpu.usable_bytes - gpu.used_bytes - beside) / gpu.usable_bytes * 100) / 100
                options = replace(options, gpu_memory_utilization=max(0.01, min(options.gpu_memory_utilization, left)))
    return Case(
        index=0,
        model=Model(name="model", source=Source(hub="one/model")),
        options=options,
        dimensions=dimensions,
        gpu=smallest,
        devices=len(gpus),
        release=release,
    )


def _written(case: Case, given: Mapping[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
    if case.devices > 1 and not case.options.parallelism_given:
        chosen["tensor_parallel_size"] = case.devices
    if case.options.gpu_memory_utilization != read_options(given).gpu_memory_utilization:
        chosen["gpu_memory_utilization"] = case.options.gpu_memory_utilization
    return chosen


def cpu_defaults(dimensions: ModelDimensions, given: Mapping[str, Any], *, memory_bytes: int) -> dict[str, Any]:
    """What to add to ``given`` for an engine on CPU cores, whose host or container has ``memory_bytes``.

    - ``kv_cache_memory_bytes``: 16 sequences of full length, as far as the memory goes: vLLM itself takes 92 % of it;
    - ``max_model_len``: only where not even one fits: the longest that does.

    Raises:
        InvalidInput: a value cannot be, or the model does not fit the memory.
    """
    options = read_options(given)
    if options.kv_cache_memory_bytes is not None:
        return {}
    budget = cpu_budget(dimensions, options, memory_bytes=memory_bytes, kv_space_bytes=1)
    block_bytes = budget.block_size * budget.kv_bytes_per_token
    one = budget.blocks_per_sequence * block_bytes
    room = int(memory_bytes * CPU_SHARE) - budget.weights_bytes - budget.overhead_bytes
    if room >= one:
        return {"kv_cache_memory_bytes": min(room, max(CPU_SEQUENCES * one, LEAST_CPU_CACHE_BYTES))}
    tokens = max(0, room) // block_bytes * budget.block_size
    if tokens and options.max_model_len in (None, AUTOMATIC_LENGTH):
        return {"kv_cache_memory_bytes": room, "max_model_len": tokens}
    needs = budget.weights_bytes + budget.overhead_bytes + one
    shorter = f"write max_model_len={tokens}, or " if tokens else ""
    raise InvalidInput(
        Problem(
            fact=f"the model with one sequence of {budget.max_model_len:,} tokens takes {gib(needs)}, and "
            f"{CPU_SHARE:.0%} of this host's memory is {gib(int(memory_bytes * CPU_SHARE))}",
            hint=f"{shorter}use a smaller model or a larger machine",
        )
    )
