"""Which replica runs on which GPUs or cores: pure arithmetic over a Deployment."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vllmstack.deployment.model import Engine, Model

ENGINE_PORT = 8000
"""Where every engine listens, inside its own container."""


@dataclass(frozen=True, kw_only=True)
class Replica:
    """One engine container."""

    model: Model
    number: int
    """Counts from 1 within the model."""
    gpu_ids: tuple[int, ...] = ()
    """Ids as nvidia-smi shows them; empty for vllm-cpu."""
    cpu_ids: tuple[int, ...] = ()
    """Host cores that the engine's threads are bound to; empty for vllm."""

    @property
    def service(self) -> str:
        """Compose service, and host name on the engines' network."""
        return f"{service_prefix(self.model)}-{self.number}"

    @property
    def address(self) -> str:
        return f"{self.service}:{ENGINE_PORT}"


def service_prefix(model: Model) -> str:
    """``engine-llama-3.1-8b`` and the like: what Compose and DNS accept of the model's name."""
    return "engine-" + re.sub(r"[^a-z0-9]+", "-", model.name.lower()).strip("-")


def model_slug(model: Model) -> str:
    """The model's name as a file's or a folder's."""
    return service_prefix(model).removeprefix("engine-")


def replica_count(model: Model) -> int:
    """How many engines serve the model."""
    if isinstance(model.gpus, tuple):
        return len(model.gpus)
    return model.replicas or 1


def gpus_per_replica(model: Model) -> int:
    """How many GPUs one replica spans; 0 for vllm-cpu."""
    if model.engine is Engine.VLLM_CPU:
        return 0
    if isinstance(model.gpus, tuple):
        return len(model.gpus[0])
    return model.gpus or 1


def place(models: Sequence[Model], core_ids: Sequence[int]) -> tuple[Replica, ...]:
    """Gives each replica its GPUs or cores, in the file's order.

    Explicit ids are taken as they are; a count gets the lowest ids that no other replica asked for, so that the
    same file gives the same placement everywhere. Ids may exceed what the machine has: the plan says so.
    """
    taken = {gpu for model in models if isinstance(model.gpus, tuple) for ids in model.gpus for gpu in ids}
    replicas: list[Replica] = []
    next_core = 0
    for model in models:
        for number in range(1, replica_count(model) + 1):
            gpu_ids: tuple[int, ...] = ()
            cpu_ids: tuple[int, ...] = ()
            if model.engine is Engine.VLLM_CPU:
                wanted = model.cpus or 1
                # More cores asked for than there are: replicas share, in turn, and the plan warns.
                cpu_ids = tuple(sorted({core_ids[(next_core + i) % len(core_ids)] for i in range(wanted)}))
                next_core += wanted
            elif isinstance(model.gpus, tuple):
                gpu_ids = model.gpus[number - 1]
            else:
                free = (gpu for gpu in range(10_000) if gpu not in taken)
                gpu_ids = tuple(gpu for gpu, _ in zip(free, range(model.gpus or 1), strict=False))
                taken.update(gpu_ids)
            replicas.append(Replica(model=model, number=number, gpu_ids=gpu_ids, cpu_ids=cpu_ids))
    return tuple(replicas)
