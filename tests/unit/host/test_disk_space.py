"""Room on disks: counted for each file system, told before anything is written."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from vllmstack.errors import HostError
from vllmstack.host.disk_space import existing, require_space


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten gigabytes."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000_000_000))


def test_enough_is_enough(free: None, tmp_path: Path) -> None:
    require_space({tmp_path: 10_000_000_000})


def test_folders_of_one_file_system_share_it(free: None, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()

    with pytest.raises(HostError) as caught:
        require_space({tmp_path: 6_000_000_000, tmp_path / "b": 5_000_000_000})

    assert str(caught.value) == (
        f"11.0 GB are needed below {tmp_path}, and 10.0 GB are free\n"
        "  hint: free space there (`docker system df` shows what Docker keeps), or use another disk"
    )


def test_a_folder_that_is_not_there_yet_counts_as_the_one_above_it(free: None, tmp_path: Path) -> None:
    assert existing(tmp_path / "a" / "b") == tmp_path
    with pytest.raises(HostError):
        require_space({tmp_path / "a" / "b": 11_000_000_000})
