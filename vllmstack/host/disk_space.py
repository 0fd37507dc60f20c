"""Room on disks, asked for before anything is written."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import docker

from vllmstack.errors import HostError, Problem


def require_space(needed: Mapping[Path, int]) -> None:
    """Every folder's file system has this many bytes free; folders of the same one share it.

    Raises:
        HostError: with a line for each file system that has less.
    """
    by_device: dict[int, tuple[Path, int]] = {}
    for folder, size_bytes in needed.items():
        there = existing(folder)
        device = there.stat().st_dev
        first, before = by_device.get(device, (there, 0))
        by_device[device] = (first, before + size_bytes)
    problems = [
        Problem(
            fact=f"{size_bytes / 1e9:.1f} GB are needed below {folder}, and {free / 1e9:.1f} GB are free",
            hint="free space there (`docker system df` shows what Docker keeps), or use another disk",
        )
        for folder, size_bytes in by_device.values()
        if (free := shutil.disk_usage(folder).free) < size_bytes
    ]
    if problems:
        raise HostError(problems)


def docker_root(client: docker.DockerClient) -> Path:
    """Where the daemon keeps images and volumes."""
    return Path(client.info().get("DockerRootDir", "/var/lib/docker"))


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there and may be looked at."""
    folder = folder.absolute()
    while not os.access(folder, os.F_OK):
        folder = folder.parent
    return folder
