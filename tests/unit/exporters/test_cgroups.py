"""What the kernel counts for a container, in both versions of cgroups and by both of Docker's drivers."""

from pathlib import Path

import pytest
from cgroups import Usage, usage

ID = "5f0c" * 16

VERSION_2 = {
    "cpu.stat": "usage_usec 2500000\nuser_usec 2000000\nthrottled_usec 500000\n",
    "cpu.max": "150000 100000\n",
    "memory.current": "1000\n",
    "memory.stat": "anon 700\ninactive_file 300\n",
    "memory.max": "4096\n",
    "memory.events": "low 0\noom 1\noom_kill 2\n",
    "pids.current": "7\n",
}
VERSION_1 = {
    "cpuacct": {"cpuacct.usage": "2500000000\n"},
    "cpu": {
        "cpu.stat": "nr_periods 4\nthrottled_time 500000000\n",
        "cpu.cfs_quota_us": "150000\n",
        "cpu.cfs_period_us": "100000\n",
    },
    "memory": {
        "memory.usage_in_bytes": "1000\n",
        "memory.stat": "inactive_file 5\ntotal_inactive_file 300\n",
        "memory.limit_in_bytes": "4096\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    },
    "pids": {"pids.current": "7\n"},
}
EXPECTED = Usage(
    cpu_seconds=2.5,
    cpu_throttled_seconds=0.5,
    cpu_limit_cores=1.5,
    memory_bytes=700,
    memory_limit_bytes=4096,
    oom_kills=2,
    processes=7,
)
FOLDERS = pytest.mark.parametrize(
    "folder",
    [
        f"docker/{ID}",
        f"system.slice/docker-{ID}.scope",
        f"user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope",
    ],
    ids=["cgroupfs", "systemd", "rootless"],
)


def write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def version_2(root: Path, folder: str, files: dict[str, str]) -> None:
    (root / "cgroup.controllers").write_text("cpu memory pids\n")
    write(root / folder, files)


@FOLDERS
def test_version_2(tmp_path: Path, folder: str) -> None:
    version_2(tmp_path, folder, VERSION_2)

    assert usage(tmp_path, ID) == EXPECTED


@FOLDERS
def test_version_1(tmp_path: Path, folder: str) -> None:
    for controller, files in VERSION_1.items():
        write(tmp_path / controller / folder, files)

    assert usage(tmp_path, ID) == EXPECTED


def test_no_limit_is_no_number_in_version_2(tmp_path: Path) -> None:
    version_2(tmp_path, f"docker/{ID}", VERSION_2 | {"cpu.max": "max 100000\n", "memory.max": "max\n"})

    found = usage(tmp_path, ID)

    assert found
    assert (found.cpu_limit_cores, found.memory_limit_bytes) == (None, None)


def test_no_limit_is_no_number_in_version_1(tmp_path: Path) -> None:
    write(tmp_path / "cpu" / "docker" / ID, VERSION_1["cpu"] | {"cpu.cfs_quota_us": "-1\n"})
    write(tmp_path / "memory" / "docker" / ID, {"memory.limit_in_bytes": "9223372036854771712\n"})

    found = usage(tmp_path, ID)

    assert found
    assert (found.cpu_limit_cores, found.memory_limit_bytes) == (None, None)


def test_a_container_that_does_not_run_has_none(tmp_path: Path) -> None:
    version_2(tmp_path, "docker/another", VERSION_2)

    assert usage(tmp_path, ID) is None


def test_what_a_kernel_does_not_count_is_left_out(tmp_path: Path) -> None:
    version_2(tmp_path, f"docker/{ID}", {"cpu.stat": "usage_usec 1000000\n"})

    assert usage(tmp_path, ID) == Usage(cpu_seconds=1.0)
