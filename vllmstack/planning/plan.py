"""The plan: what a deployment becomes on a given machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vllmstack.deployment.model import Deployment, Engine, Model
from vllmstack.errors import InvalidInput, Problem
from vllmstack.planning.budget import GpuShare, MemoryBudget
from vllmstack.planning.dimensions import ModelDimensions
from vllmstack.planning.engine_options import EngineOptions, EngineRelease, read_options, release_of
from vllmstack.planning.gpus import gpu_type
from vllmstack.planning.host_memory import CpuCase, judge_host, judge_on_cpu
from vllmstack.planning.inventory import Inventory, assume_gpus
from vllmstack.planning.judgement import Case, Judgement, judge, used_memory_warnings
from vllmstack.planning.memory import tensor_parallel_size
from vllmstack.planning.placement import Replica, gpus_per_replica, place


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A deployment with every replica placed."""

    deployment: Deployment
    replicas: tuple[Replica, ...]
    budgets: Mapping[str, MemoryBudget] = field(default_factory=dict)
    """Memory by model name, for each GPU of a replica; a model whose memory cannot be judged is not in it."""
    warnings: tuple[str, ...] = ()
    """What was assumed, what will be slow or cannot be judged: one line each."""
    inventory: Inventory | None = None
    """The machine planned for; ``inventory.assumed`` names the GPU type that was not seen but assumed."""


def make_plan(
    deployment: Deployment,
    inventory: Inventory,
    dimensions: Mapping[str, ModelDimensions | None],
    file: str = "",
) -> Plan:
    """Places every replica and judges its memory.

    ``dimensions`` is by model name; None or nothing: that model's memory is not judged, which is a warning. Where the
    inventory has no GPU, GPUs of ``deployment.gpu.type`` are assumed; without a type, GPU memory is not judged.

    Raises:
        InvalidInput: with every problem; each hint names an option and a value that fits.
    """
    replicas = place(deployment.models, inventory.core_ids or (0,))
    machine, warnings = _machine(deployment, inventory, replicas, file)
    problems: list[Problem] = [*_missing_gpus(deployment, machine, replicas, file), *_shared_gpus(replicas, file)]
    judge_model = _Judge(machine=machine, release=release_of(deployment.images.get("engine")), file=file)
    budgets: dict[str, MemoryBudget] = {}
    for index, model in enumerate(deployment.models):
        own = [replica for replica in replicas if replica.model is model]
        judgement = judge_model(index, own, dimensions.get(model.name))
        problems += judgement.problems
        warnings += judgement.warnings
        if judgement.budget is not None:
            budgets[model.name] = judgement.budget
    together = judge_host(
        deployment.models, budgets, host_bytes=machine.memory_bytes, cores=len(machine.core_ids), file=file
    )
    problems += together.problems
    warnings += together.warnings
    if problems:
        raise InvalidInput(problems)
    return Plan(deployment=deployment, replicas=replicas, budgets=budgets, warnings=tuple(warnings), inventory=machine)


def _machine(
    deployment: Deployment, inventory: Inventory, replicas: tuple[Replica, ...], file: str
) -> tuple[Inventory, list[str]]:
    """The inventory, with GPUs of the deployment's type where none are seen but some are needed."""
    ids = [gpu for replica in replicas for gpu in replica.gpu_ids]
    if inventory.gpus or not ids:
        return inventory, []
    if deployment.gpu.type is None:
        return inventory, ["no GPU is seen here and gpu/type is left out: GPU memory is not judged"]
    kind = gpu_type(deployment.gpu.type, file=file)
    return assume_gpus(inventory, kind, ids), [
        f"planned for {len(set(ids))} × {kind.name}, which are assumed and not seen here"
    ]


def _missing_gpus(
    deployment: Deployment, machine: Inventory, replicas: tuple[Replica, ...], file: str
) -> list[Problem]:
    if not machine.gpus:
        return []
    there = set(machine.gpu_ids)
    problems = []
    for index, model in enumerate(deployment.models):
        own = [replica for replica in replicas if replica.model is model]
        missing = sorted({gpu for replica in own for gpu in replica.gpu_ids} - there)
        if not missing:
            continue
        whole = sum(there.issuperset(replica.gpu_ids) for replica in own)
        if isinstance(model.gpus, tuple):
            hint = f"use the ids {_ids(machine.gpu_ids)}"
        elif whole:
            hint = f"write replicas: {whole}"
        elif gpus_per_replica(model) > len(there):
            hint = f"write gpus: {len(there)}"
        else:
            hint = f"leave a model out: all of them need {len({gpu for one in replicas for gpu in one.gpu_ids})} GPUs"
        needs = sorted({gpu for replica in own for gpu in replica.gpu_ids})
        problems.append(
            Problem(
                fact=f"{model.name} needs GPU {_ids(needs)}, and this machine has only GPU {_ids(machine.gpu_ids)}",
                hint=hint,
                place=f"models/{index}/{'gpus' if isinstance(model.gpus, tuple) or not whole else 'replicas'}",
                file=file,
            )
        )
    return problems


def _shared_gpus(replicas: tuple[Replica, ...], file: str) -> list[Problem]:
    """The same GPU for two replicas: each would take nearly all of its memory."""
    first: dict[int, Replica] = {}
    problems = []
    for replica in replicas:
        for gpu in replica.gpu_ids:
            other = first.setdefault(gpu, replica)
            if other is not replica:
                problems.append(
                    Problem(
                        fact=f"GPU {gpu} is given to {other.service} and to {replica.service}",
                        hint="give each replica GPUs of its own",
                        place="models",
                        file=file,
                    )
                )
    return problems


@dataclass(frozen=True, kw_only=True)
class _Judge:
    """Judges one model after the other on the same machine."""

    machine: Inventory
    release: EngineRelease
    file: str

    def __call__(self, index: int, own: list[Replica], dimensions: ModelDimensions | None) -> Judgement:
        """``own`` are the model's replicas, at least one; ``index`` is the model's place in the file."""
        model = own[0].model
        try:
            options = read_options(model.serve, place=f"models/{index}/serve", file=self.file)
        except InvalidInput as wrong:
            return Judgement(problems=wrong.problems)
        if problem := _wrong_gpu_count(index, model, options, self.file):
            return Judgement(problems=(problem,))
        if dimensions is None:
            unknown = f"{model.name}: its dimensions are not known here, so its memory is not judged"
            return Judgement(warnings=(unknown,))
        if model.engine is Engine.VLLM_CPU:
            return judge_on_cpu(
                CpuCase(
                    index=index,
                    model=model,
                    options=options,
                    dimensions=dimensions,
                    host_bytes=self.machine.memory_bytes,
                    file=self.file,
                )
            )
        case = Case(
            index=index,
            model=model,
            options=options,
            dimensions=dimensions,
            gpu=_smallest_gpu(own, self.machine),
            devices=gpus_per_replica(model),
            release=self.release,
            file=self.file,
        )
        return self._with_used_memory(case, own, judge(case))

    def _with_used_memory(self, case: Case, own: list[Replica], judgement: Judgement) -> Judgement:
        if judgement.budget is None or judgement.problems:
            return judgement
        used = {gpu.id: gpu.used_bytes for gpu in self.machine.gpus}
        ids = [gpu for replica in own for gpu in replica.gpu_ids]
        more = used_memory_warnings(case, judgement.budget, used, ids)
        return Judgement(budget=judgement.budget, warnings=(*judgement.warnings, *more))


def _wrong_gpu_count(index: int, model: Model, options: EngineOptions, file: str) -> Problem | None:
    """Parallelism that asks for other than the replica's GPUs."""
    devices = gpus_per_replica(model)
    if devices == 0:
        return None
    needed = tensor_parallel_size(options, devices) * (
        options.pipeline_parallel * options.other_parallel if options.parallelism_given else 1
    )
    if needed == devices:
        return None
    key = "tensor_parallel_size" if options.tensor_parallel else "pipeline_parallel_size"
    return Problem(
        fact=f"the parallel sizes multiply to {needed} GPUs, and gpus gives a replica {devices}",
        hint=f"write gpus: {needed}, or leave the parallel sizes out: tensor parallelism then spans a replica's GPUs",
        place=f"models/{index}/serve/{key}",
        file=file,
    )


def _smallest_gpu(own: list[Replica], machine: Inventory) -> GpuShare | None:
    ids = {gpu for replica in own for gpu in replica.gpu_ids}
    shares = [gpu.share for gpu in machine.gpus if gpu.id in ids]
    return min(shares, key=lambda share: share.usable_bytes, default=None)


def _ids(ids: tuple[int, ...] | list[int]) -> str:
    return ", ".join(map(str, ids))
