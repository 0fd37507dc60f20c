"""models.lock on the disk."""

from pathlib import Path
from threading import Thread

import pytest

from vllmstack.deployment.model_lock import ModelLock
from vllmstack.errors import HostError, InvalidInput
from vllmstack.host.model_lock_file import change_lock, read_lock
from vllmstack.hub.wishes import HubFile, Snapshot, Wish


def snapshot(hub: str) -> Snapshot:
    return Snapshot(hub=hub, commit="a" * 40, files=(HubFile(path="config.json", size=2, blob="b" * 40),))


def test_where_there_is_none_nothing_is_locked(tmp_path: Path) -> None:
    assert read_lock(tmp_path) == ModelLock()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    lock = change_lock(tmp_path, lambda lock: lock.with_snapshot(Wish(hub="org/m"), snapshot("org/m")))

    assert read_lock(tmp_path) == lock
    assert (tmp_path / "models.lock").stat().st_mode & 0o777 == 0o644


def test_two_commands_at_a_time_lose_nothing(tmp_path: Path) -> None:
    def add(number: int) -> None:
        hub = f"org/m{number}"
        change_lock(tmp_path, lambda lock: lock.with_snapshot(Wish(hub=hub), snapshot(hub)))

    threads = [Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [one.hub for one in read_lock(tmp_path).models] == [f"org/m{number}" for number in range(8)]


def test_a_file_that_is_wrong_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "models.lock"
    file.write_text("models: [{hub: org/m}]\n")

    with pytest.raises(InvalidInput, match=r"models\.lock: models/0/commit"):
        change_lock(tmp_path, lambda lock: lock)

    assert file.read_text() == "models: [{hub: org/m}]\n"


def test_a_key_that_is_written_twice_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "models.lock").write_text("models: []\nmodels: []\n")

    with pytest.raises(InvalidInput, match="is written twice"):
        read_lock(tmp_path)


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot be written: No such file or directory"):
        change_lock(tmp_path / "none", lambda lock: lock)
