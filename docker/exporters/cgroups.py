"""What the kernel counts for one container, by its cgroup: version 2 (one tree) or 1 (a tree a controller).

https://docs.kernel.org/admin-guide/cgroup-v2.html and …/cgroup-v1/index.html
"""

from dataclasses import dataclass
from pathlib import Path

UNLIMITED = 1 << 60
"""Version 1 writes the largest multiple of a page where there is no limit."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Of one container; None where this kernel does not tell."""

    cpu_seconds: float | None = None
    cpu_throttled_seconds: float | None = None
    cpu_limit_cores: float | None = None
    memory_bytes: float | None = None
    """Without the page cache that the kernel can take back at once, as `docker stats` counts it."""
    memory_limit_bytes: float | None = None
    oom_kills: float | None = None
    processes: float | None = None


def usage(root: Path, identity: str) -> Usage | None:
    """Of the container with this id, below a mount of /sys/fs/cgroup; None if it does not run."""
    if (root / "cgroup.controllers").is_file():
        folder = _folder(root, identity)
        return _version_2(folder) if folder else None
    folders = {name: _folder(root / name, identity) for name in ("cpuacct", "cpu", "memory", "pids")}
    if not any(folders.values()):
        return None
    return _version_1({name: folder for name, folder in folders.items() if folder})


def _folder(tree: Path, identity: str) -> Path | None:
    """By Docker's two cgroup drivers: cgroupfs and systemd; rootless Docker's lies below its user's slice."""
    for path in (f"docker/{identity}", f"system.slice/docker-{identity}.scope"):
        if (tree / path).is_dir():
            return tree / path
    # Below a user's slice, with a Docker Engine of that user's own.
    return next(tree.glob(f"user.slice/*/*/*/docker-{identity}.scope"), None)


def _version_2(folder: Path) -> Usage:
    cpu, memory = _pairs(folder / "cpu.stat"), _pairs(folder / "memory.stat")
    used = _number(folder / "memory.current")
    return Usage(
        cpu_seconds=_scaled(cpu.get("usage_usec"), 1e-6),
        cpu_throttled_seconds=_scaled(cpu.get("throttled_usec"), 1e-6),
        cpu_limit_cores=_quota(_words(folder / "cpu.max")),
        memory_bytes=None if used is None else used - memory.get("inactive_file", 0),
        memory_limit_bytes=_limit(_number(folder / "memory.max")),
        oom_kills=_pairs(folder / "memory.events").get("oom_kill"),
        processes=_number(folder / "pids.current"),
    )


def _version_1(folders: dict[str, Path]) -> Usage:
    nowhere = Path("/nowhere")
    accounted, cpu = folders.get("cpuacct", nowhere), folders.get("cpu", nowhere)
    memory, processes = folders.get("memory", nowhere), folders.get("pids", nowhere)
    used = _number(memory / "memory.usage_in_bytes")
    quota = [*_words(cpu / "cpu.cfs_quota_us"), *_words(cpu / "cpu.cfs_period_us")]
    return Usage(
        cpu_seconds=_scaled(_number(accounted / "cpuacct.usage"), 1e-9),
        cpu_throttled_seconds=_scaled(_pairs(cpu / "cpu.stat").get("throttled_time"), 1e-9),
        cpu_limit_cores=_quota(quota),
        memory_bytes=None if used is None else used - _pairs(memory / "memory.stat").get("total_inactive_file", 0),
        memory_limit_bytes=_limit(_number(memory / "memory.limit_in_bytes")),
        oom_kills=_pairs(memory / "memory.oom_control").get("oom_kill"),
        processes=_number(processes / "pids.current"),
    )


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:  # the container ended, or the kernel does not count this
        return []


def _number(file: Path) -> float | None:
    words = _words(file)
    return float(words[0]) if words and words[0] != "max" else None


def _pairs(file: Path) -> dict[str, float]:
    words = _words(file)
    return {name: float(value) for name, value in zip(words[::2], words[1::2], strict=False)}


def _quota(words: list[str]) -> float | None:
    """Cores, of a quota and a period; -1 and `max` are none."""
    if len(words) < 2 or words[0] in ("max", "-1"):
        return None
    return float(words[0]) / float(words[1])


def _limit(number: float | None) -> float | None:
    return None if number is None or number > UNLIMITED else number


def _scaled(number: float | None, factor: float) -> float | None:
    return None if number is None else number * factor
