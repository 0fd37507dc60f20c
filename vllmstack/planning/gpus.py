"""The GPUs that can be planned for: the table ``gpus.yaml``, typed."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

import yaml

from vllmstack.errors import InvalidInput, Problem

MIB = 1 << 20
GIB = 1 << 30

USABLE_RATIO = 0.98
"""Share of nvidia-smi's memory.total that CUDA sees on a GPU that is not in the table: the least of the table's."""


@dataclass(frozen=True, kw_only=True)
class GpuType:
    """One row of the table. Sources stand beside each number in ``gpus.yaml``."""

    name: str
    """As a deployment's ``gpu.type`` and ``--gpu`` write it."""
    memory_bytes: int
    """What nvidia-smi reports."""
    usable_bytes: int
    """What cudaMemGetInfo reports: vLLM's ``gpu_memory_utilization`` is a share of this."""
    compute_capability: tuple[int, int]
    bandwidth_bytes_per_second: float
    flops_per_second: float
    """BF16 on tensor cores, without sparsity."""
    link_bytes_per_second: float
    """Between the GPUs of a host, both directions together: NVLink or PCIe."""
    seen_as: tuple[str, ...]
    """Names that nvidia-smi gives it."""


@cache
def gpu_types() -> Mapping[str, GpuType]:
    """Every GPU of the table, by name, in the file's order."""
    rows = yaml.safe_load(files("vllmstack").joinpath("planning/gpus.yaml").read_text(encoding="utf-8"))
    return {name: _gpu_type(name, row) for name, row in rows.items()}


def _gpu_type(name: str, row: Mapping[str, object]) -> GpuType:
    names = row["seen_as"]
    return GpuType(
        name=name,
        memory_bytes=int(float(str(row["memory_mib"])) * MIB),
        usable_bytes=int(float(str(row["usable_mib"])) * MIB),
        compute_capability=capability(str(row["capability"])),
        bandwidth_bytes_per_second=float(str(row["bandwidth"])) * 1e9,
        flops_per_second=float(str(row["flops"])) * 1e12,
        link_bytes_per_second=float(str(row["link"])) * 1e9,
        seen_as=tuple(str(seen) for seen in names) if isinstance(names, list) else (),
    )


def capability(text: str) -> tuple[int, int]:
    """``"8.9"`` → ``(8, 9)``."""
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def gpu_type(name: str, *, place: str = "gpu/type", file: str = "") -> GpuType:
    """The row called ``name``, whatever its case; a beginning will do if only one row has it (``H100``).

    Raises InvalidInput that lists the names there are.
    """
    table = gpu_types()
    by_lower = {known.lower(): known for known in table}
    begun = [known for lower, known in by_lower.items() if lower.startswith(f"{name.lower()}-")]
    if known := by_lower.get(name.lower()) or (begun[0] if len(begun) == 1 else None):
        return table[known]
    near = get_close_matches(name.lower(), by_lower, n=1)
    perhaps = f"Perhaps you meant {by_lower[near[0]]}; " if near else ""
    raise InvalidInput(
        Problem(
            fact=f"{name} is not in the table of GPUs",
            hint=f"{perhaps}the table has {', '.join(table)}",
            place=place,
            file=file,
        )
    )


def usable_bytes(name: str, memory_bytes: int, reserved_bytes: int | None = None) -> int:
    """How much of a GPU a CUDA program can see, bytes.

    ``name`` and ``memory_bytes`` are nvidia-smi's. What the driver reserves is subtracted where it is known; else the
    table's figure is taken for a GPU of that name and size, else 98 %.
    """
    if reserved_bytes is not None:
        return memory_bytes - reserved_bytes
    for row in gpu_types().values():
        if name in row.seen_as and row.memory_bytes == memory_bytes:
            return row.usable_bytes
    return int(memory_bytes * USABLE_RATIO)
