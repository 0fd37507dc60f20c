"""What a machine has that a plan needs: GPUs, host memory and cores. ``vllmstack.host.inventory`` reads it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vllmstack.planning.budget import GpuShare
from vllmstack.planning.gpus import GpuType, gpu_types, usable_bytes


@dataclass(frozen=True, kw_only=True)
class SeenGpu:
    """One GPU as nvidia-smi reports it."""

    id: int
    name: str
    memory_bytes: int
    """memory.total."""
    used_bytes: int
    """memory.used, by whatever runs on it now."""
    compute_capability: tuple[int, int]
    reserved_bytes: int | None = None
    """memory.reserved: what the driver keeps for itself; None where nvidia-smi does not tell."""

    @property
    def usable_bytes(self) -> int:
        """What a CUDA program sees as the total."""
        return usable_bytes(self.name, self.memory_bytes, self.reserved_bytes)

    @property
    def short_name(self) -> str:
        """``L40S`` for a GPU of the table, else nvidia-smi's name without the maker's."""
        for row in gpu_types().values():
            if self.name in row.seen_as or self.name == row.name:
                return row.name
        return self.name.removeprefix("NVIDIA ")

    @property
    def share(self) -> GpuShare:
        return GpuShare(
            name=self.short_name,
            memory_bytes=self.memory_bytes,
            usable_bytes=self.usable_bytes,
            compute_capability=self.compute_capability,
        )


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """A machine."""

    gpus: tuple[SeenGpu, ...] = ()
    memory_bytes: int
    """Host memory in all."""
    core_ids: tuple[int, ...]
    """Cores that this process may use."""
    assumed: str | None = None
    """The GPU type of the table that the GPUs are made of, where none was seen or another was asked for."""

    @property
    def gpu_ids(self) -> tuple[int, ...]:
        return tuple(gpu.id for gpu in self.gpus)


def assume_gpus(inventory: Inventory, kind: GpuType, ids: Sequence[int]) -> Inventory:
    """The same machine with idle GPUs of one type in place of those seen, one for each id."""
    gpus = tuple(
        SeenGpu(
            id=gpu_id,
            name=kind.seen_as[0] if kind.seen_as else kind.name,
            memory_bytes=kind.memory_bytes,
            used_bytes=0,
            compute_capability=kind.compute_capability,
            reserved_bytes=kind.memory_bytes - kind.usable_bytes,
        )
        for gpu_id in sorted(set(ids))
    )
    return replace(inventory, gpus=gpus, assumed=kind.name)
