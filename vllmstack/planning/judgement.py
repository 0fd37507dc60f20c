"""Whether one model's replicas fit their GPUs: a budget, what is refused with a value that fits, what is only noted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vllmstack.deployment.model import Model
from vllmstack.errors import Problem
from vllmstack.planning.budget import GpuShare, MemoryBudget
from vllmstack.planning.dimensions import ModelDimensions
from vllmstack.planning.engine_options import AUTOMATIC_LENGTH, EngineOptions, EngineRelease
from vllmstack.planning.gpus import GIB, MIB
from vllmstack.planning.memory import (
    CONTEXT_BYTES,
    NCCL_BYTES,
    PREDICTION_ERROR_RATIO,
    gpu_budget,
    resolve_quantization,
    tensor_parallel_size,
)

CHECKPOINT_METHODS = frozenset(
    {"awq", "awq_marlin", "auto_awq", "gptq", "gptq_marlin", "auto_gptq", "compressed-tensors"}
)
"""Values of ``quantization:`` that only say how to read a checkpoint that is already quantised."""

LEAST_CONTEXT_BYTES = 256 * MIB
"""Less than this no CUDA program gets by with."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the arithmetic says of one model."""

    budget: MemoryBudget | None = None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model on one kind of GPU."""

    index: int
    model: Model
    options: EngineOptions
    dimensions: ModelDimensions
    gpu: GpuShare | None
    """The smallest GPU that a replica gets; None where no GPU is known."""
    devices: int
    release: EngineRelease
    file: str = ""

    def problem(self, place: str, fact: str, hint: str) -> Problem:
        """A Problem of this model; ``place`` is below ``models/N``."""
        return Problem(fact=fact, hint=hint, place=f"models/{self.index}/{place}", file=self.file)

    def budget(self, *, devices: int | None = None, **changes: object) -> MemoryBudget:
        """The budget with some options changed. Needs a GPU."""
        if self.gpu is None:
            raise ValueError("no GPU to plan for")
        options = replace(self.options, **changes)  # type: ignore[arg-type]
        count = devices or self.devices
        if devices is not None:  # more GPUs a replica means more tensor parallelism
            options = replace(options, parallelism_given=False, pipeline_parallel=1, other_parallel=1)
        return gpu_budget(self.dimensions, options, self.gpu, devices=count, release=self.release)


def judge(case: Case) -> Judgement:
    """Every check of one vllm model."""
    problems = [*_parallel_problems(case), *_length_problems(case)]
    if case.gpu is None:
        return Judgement(problems=tuple(problems))
    problems += _capability_problems(case, case.gpu)
    warnings = _notes(case, case.gpu)
    if problems:
        return Judgement(problems=tuple(problems), warnings=tuple(warnings))
    budget = case.budget()
    if not budget.fits and case.options.max_model_len == AUTOMATIC_LENGTH and budget.kv_cache_tokens:
        budget = case.budget(max_model_len=budget.blocks * budget.block_size)
    problems += _memory_problems(case, budget)
    if not problems:
        warnings += _closeness(case, budget)
    return Judgement(budget=budget, problems=tuple(problems), warnings=tuple(warnings))


def _parallel_problems(case: Case) -> list[Problem]:
    options, dimensions = case.options, case.dimensions
    size = tensor_parallel_size(options, case.devices)
    if dimensions.heads % size == 0 and (dimensions.kv_heads % size == 0 or size % dimensions.kv_heads == 0):
        return []
    sizes = tensor_parallel_choices(dimensions)
    below = [choice for choice in sizes if choice < size][-1:]
    above = [choice for choice in sizes if choice > size][:1]
    key = "tensor_parallel_size" if options.tensor_parallel else "gpus"
    return [
        case.problem(
            f"serve/{key}" if options.tensor_parallel else key,
            f"{size} GPUs cannot share the model's {dimensions.heads} attention heads ({dimensions.kv_heads} of keys "
            "and values) evenly",
            f"write {key}: {' or '.join(map(str, below + above))}",
        )
    ]


def tensor_parallel_choices(dimensions: ModelDimensions, largest: int = 64) -> list[int]:
    """Numbers of GPUs that share the model's heads and its MLP evenly."""
    return [
        size
        for size in range(1, largest + 1)
        if dimensions.heads % size == 0
        and dimensions.intermediate_size % size == 0
        and (dimensions.kv_heads % size == 0 or size % dimensions.kv_heads == 0)
    ]


def _length_problems(case: Case) -> list[Problem]:
    length = case.options.max_model_len
    longest = case.dimensions.max_positions
    allowed = case.options.overrides_model or case.model.environment.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN") == "1"
    if length is None or length <= longest or allowed:
        return []
    return [
        case.problem(
            "serve/max_model_len",
            f"{length} is more than the {longest:,} positions that the model was made for",
            f"write max_model_len: {longest}",
        )
    ]


def _capability_problems(case: Case, gpu: GpuShare) -> list[Problem]:
    options = case.options
    number = ".".join(map(str, gpu.compute_capability))
    problems = []
    if options.dtype == "bfloat16" and gpu.compute_capability < (8, 0):
        problems.append(
            case.problem(
                "serve/dtype",
                f"bfloat16 needs compute capability 8.0, and {gpu.name} has {number}",
                "write dtype: half",
            )
        )
    checkpoint = case.dimensions.quantization
    if checkpoint is None and options.quantization in CHECKPOINT_METHODS:
        problems.append(
            case.problem(
                "serve/quantization",
                f"{options.quantization} reads checkpoints that are quantised so, and this one is not quantised",
                "name a quantised model in source, or write quantization: fp8, which quantises while loading",
            )
        )
    method = checkpoint.method if checkpoint else options.quantization
    # get_min_capability of vllm/model_executor/layers/quantization/auto_awq.py and fp8.py
    if method in {"awq", "fp8"} and gpu.compute_capability < (7, 5):
        problems.append(
            case.problem(
                "source" if checkpoint else "serve/quantization",
                f"{method} needs compute capability 7.5, and {gpu.name} has {number}",
                "use a GPU of the Turing generation or newer, or a GPTQ or unquantised model",
            )
        )
    return problems


def _notes(case: Case, gpu: GpuShare) -> list[str]:
    name = case.model.name
    number = ".".join(map(str, gpu.compute_capability))
    notes = []
    quantization = resolve_quantization(case.dimensions, case.options)
    if quantization and quantization.is_fp8 and gpu.compute_capability < (8, 9):
        notes.append(
            f"{name}: {gpu.name} (compute capability {number}) multiplies no FP8: vLLM uses it for the weights alone "
            "(Marlin), which saves memory but computes at 16-bit speed"
        )
    if case.options.dtype == "auto" and case.dimensions.dtype == "bfloat16" and gpu.compute_capability < (8, 0):
        notes.append(f"{name}: {gpu.name} (compute capability {number}) has no bfloat16; vLLM takes float16 instead")
    if case.options.draft_model:
        notes.append(f"{name}: the draft model of speculative_config is not counted; leave it room")
    return notes


def _memory_problems(case: Case, budget: MemoryBudget) -> list[Problem]:
    share = case.options.gpu_memory_utilization
    if budget.left_bytes < LEAST_CONTEXT_BYTES:
        return [
            case.problem(
                "serve/gpu_memory_utilization",
                f"{share:g} leaves {gib(budget.left_bytes)} of {gpus_text(budget)} for CUDA itself, which takes about "
                f"{gib(_beside_bytes(budget))}",
                f"write gpu_memory_utilization: {_highest_share(budget, _beside_bytes(budget))}",
            )
        ]
    if budget.fits:
        return []
    fitting = fitting_length(case)
    if fitting == 0:
        return [_weights_problem(case, budget)]
    asked = case.options.max_model_len
    length = budget.max_model_len
    fact = f"{length} is" if asked is not None else f"left out, so it is the model's own {length}:"
    hints = [f"max_model_len: {fitting}", *_other_ways(case)]
    return [
        case.problem(
            "serve/max_model_len",
            f"{fact} more than the {_pool_tokens(budget):,} tokens that {gpus_text(budget)} "
            f"{'holds' if budget.devices == 1 else 'hold'}",
            f"write {', or '.join(hints)}",
        )
    ]


def _weights_problem(case: Case, budget: MemoryBudget) -> Problem:
    free = budget.kv_cache_bytes + budget.weights_bytes
    ways = _other_ways(case)
    least = (budget.weights_bytes * budget.devices - free * budget.devices) // GIB + 1
    hint = f"write {', or '.join(ways)}" if ways else f"use a smaller model, or GPUs with {least} GiB more in all"
    return case.problem(
        "gpus",
        f"the weights take {gib(budget.weights_bytes)} of each GPU, and {gpus_text(budget)} has room for "
        f"{gib(max(0, free))} at gpu_memory_utilization {case.options.gpu_memory_utilization}",
        hint,
    )


def _other_ways(case: Case) -> list[str]:
    """Single changes after which the length that was asked for fits."""
    ways = []
    for count in tensor_parallel_choices(case.dimensions):
        if count in (2, 4, 8, 16) and count > case.devices and _fits_safely(case.budget(devices=count)):
            explicit = isinstance(case.model.gpus, tuple)
            ways.append(f"{count} ids a replica in gpus" if explicit else f"gpus: {count}")
            break
    capable = case.gpu is not None and case.gpu.compute_capability >= (8, 9)
    unquantised = resolve_quantization(case.dimensions, case.options) is None
    if unquantised and capable and _fits_safely(case.budget(quantization="fp8")):
        ways.append("quantization: fp8")
    if capable and case.options.kv_cache_dtype == "auto" and _fits_safely(case.budget(kv_cache_dtype="fp8")):
        ways.append("kv_cache_dtype: fp8")
    return ways


def fitting_length(case: Case) -> int:
    """The longest ``max_model_len`` to suggest: it fits even if the prediction is a little off. 0: none does."""
    candidate = min(_safe(_pool_tokens(case.budget())), case.dimensions.max_positions)
    while candidate > 0 and not _fits_safely(case.budget(max_model_len=candidate)):
        candidate = candidate // 2
    return candidate


def _pool_tokens(budget: MemoryBudget) -> int:
    return budget.blocks * budget.block_size


def _safe(tokens: int) -> int:
    """``tokens`` less the prediction's error, rounded down to a number that people write."""
    less = int(tokens * (1 - PREDICTION_ERROR_RATIO))
    step = next((step for step in (1024, 256, 16) if less >= 16 * step), 1)
    return less // step * step


def _fits_safely(budget: MemoryBudget) -> bool:
    return budget.blocks * (1 - PREDICTION_ERROR_RATIO / 2) >= budget.blocks_per_sequence


def _closeness(case: Case, budget: MemoryBudget) -> list[str]:
    warnings = []
    name = case.model.name
    if not _fits_safely(budget) and case.options.max_model_len != AUTOMATIC_LENGTH:
        warnings.append(
            f"{name}: max_model_len {budget.max_model_len} is within the plan's own error of the "
            f"{budget.kv_cache_tokens:,} tokens that fit; {fitting_length(case)} is safe"
        )
    needed = budget.uncounted_bytes + _beside_bytes(budget)
    if needed > budget.left_bytes:
        warnings.append(
            f"{name}: vLLM takes about {gib(needed)} beside its share of {budget.device}, and gpu_memory_utilization "
            f"{case.options.gpu_memory_utilization:g} leaves {gib(budget.left_bytes)}; "
            f"{_highest_share(budget, needed)} is safe"
        )
    return warnings


def _beside_bytes(budget: MemoryBudget) -> int:
    """What a process holds of a GPU before vLLM looks at it."""
    return CONTEXT_BYTES + (NCCL_BYTES if budget.devices > 1 else 0)


def _highest_share(budget: MemoryBudget, beside_bytes: int) -> float:
    """The largest gpu_memory_utilization, in whole percents, that leaves ``beside_bytes``."""
    return int((1 - beside_bytes / budget.total_bytes) * 100) / 100


def used_memory_warnings(case: Case, budget: MemoryBudget, used: Mapping[int, int], ids: Sequence[int]) -> list[str]:
    """What others hold of a replica's GPUs (bytes by GPU id), where vLLM would then refuse to start."""
    warnings = []
    for gpu_id in ids:
        free = budget.total_bytes - used.get(gpu_id, 0) - _beside_bytes(budget)
        if used.get(gpu_id, 0) < LEAST_CONTEXT_BYTES or free >= budget.requested_bytes:
            continue
        highest = int(max(0, free) / budget.total_bytes * 100) / 100
        mend = f", or write gpu_memory_utilization: {highest}" if highest > 0 else ""
        warnings.append(
            f"{case.model.name}: GPU {gpu_id} already has {gib(used[gpu_id])} in use, and vLLM asks for "
            f"{gib(budget.requested_bytes)} of its {gib(budget.total_bytes)}: end what runs there{mend}"
        )
    return warnings


def gpus_text(budget: MemoryBudget) -> str:
    """How many of which GPU, and the memory that CUDA sees of each."""
    return f"{budget.devices} × {budget.device} ({gib(budget.total_bytes)})"


def gib(size_bytes: int) -> str:
    """``22.0 GiB``."""
    return f"{size_bytes / GIB:.1f} GiB"
