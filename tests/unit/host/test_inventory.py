"""nvidia-smi and /proc as they answer, and as they fail."""

import os
from pathlib import Path

import pytest

from vllmstack.host.inventory import parse_gpus, read_memory_bytes, see_gpus, see_inventory

MIB = 1 << 20

H200 = "0, NVIDIA H200, 143771, 0, 9.0, 616"


def nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Puts a program of that name first on the path."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_a_gpu_is_read_with_what_the_driver_reserves() -> None:
    (gpu,) = parse_gpus(H200)

    assert (gpu.id, gpu.name, gpu.used_bytes, gpu.compute_capability) == (0, "NVIDIA H200", 0, (9, 0))
    assert gpu.usable_bytes == (143771 - 616) * MIB


def test_gpus_are_sorted_and_unreadable_lines_left_out() -> None:
    broken = ["No devices were found", "2, NVIDIA L4, [N/A], 5, 8.9"]
    lines = ["1, NVIDIA L4, 23034, 5, 8.9, 476", *broken, "0, NVIDIA L4, 23034, 5, 8.9"]

    assert [gpu.id for gpu in parse_gpus("\n".join(lines))] == [0, 1]


def test_an_old_driver_that_does_not_know_reserved_memory_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = 'case "$*" in *reserved*) exit 2;; *) echo "0, Tesla T4, 15360, 3, 7.5";; esac'
    nvidia_smi(tmp_path, monkeypatch, script)

    (gpu,) = see_gpus()

    assert (gpu.name, gpu.reserved_bytes) == ("Tesla T4", None)


def test_a_driver_that_fails_shows_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, monkeypatch, "echo 'NVIDIA-SMI has failed'; exit 9")

    assert see_gpus() == ()


def test_a_machine_without_nvidia_smi_has_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    found = see_inventory()

    assert found.gpus == ()
    assert found.core_ids == tuple(sorted(os.sched_getaffinity(0)))


def test_memory_is_read_in_bytes(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemFree: 1 kB\nMemTotal:       16384000 kB\n")

    assert read_memory_bytes(meminfo) == 16384000 * 1024
    assert read_memory_bytes(tmp_path / "missing") == 0
