"""Reads what this machine has: nvidia-smi, /proc/meminfo, the cores this process may use."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from vllmstack.planning.gpus import MIB, capability
from vllmstack.planning.inventory import Inventory, SeenGpu

NVIDIA_SMI_SECONDS = 20
_FIELDS = "index,name,memory.total,memory.used,compute_cap"


def see_inventory(meminfo: Path = Path("/proc/meminfo")) -> Inventory:
    """What is here. No GPU where nvidia-smi is not there or fails."""
    return Inventory(
        gpus=see_gpus(),
        memory_bytes=read_memory_bytes(meminfo),
        core_ids=tuple(sorted(os.sched_getaffinity(0))),
    )


def see_gpus() -> tuple[SeenGpu, ...]:
    """The GPUs that nvidia-smi shows, by id; none where it is missing, fails or hangs."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    # Drivers before 510 do not know memory.reserved, and then refuse the whole query.
    for fields in (f"{_FIELDS},memory.reserved", _FIELDS):
        try:
            answer = subprocess.run(
                [program, f"--query-gpu={fields}", "--format=csv,noheader,nounits"],
                capture_output=True,
                text=True,
                timeout=NVIDIA_SMI_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return ()
        if answer.returncode == 0:
            return parse_gpus(answer.stdout)
    return ()


def parse_gpus(text: str) -> tuple[SeenGpu, ...]:
    """nvidia-smi's CSV (MiB, without header and units); lines that are not of that form are left out."""
    gpus = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) < 5 or not re.fullmatch(r"\d+\.\d+", parts[4]) or not all(map(str.isdigit, parts[2:4])):
            continue
        reserved = int(parts[5]) * MIB if len(parts) > 5 and parts[5].isdigit() else None
        gpus.append(
            SeenGpu(
                id=int(parts[0]),
                name=parts[1],
                memory_bytes=int(parts[2]) * MIB,
                used_bytes=int(parts[3]) * MIB,
                compute_capability=capability(parts[4]),
                reserved_bytes=reserved,
            )
        )
    return tuple(sorted(gpus, key=lambda gpu: gpu.id))


def read_memory_bytes(meminfo: Path) -> int:
    """MemTotal in bytes; 0 where the file does not tell."""
    try:
        match = re.search(r"^MemTotal:\s+(\d+) kB", meminfo.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return 0
    return int(match[1]) * 1024 if match else 0


def driver_version() -> str:
    """NVIDIA's driver, as nvidia-smi names it; empty where it does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=NVIDIA_SMI_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.split("\n")[0].strip() if answer.returncode == 0 else ""
