"""The keys file on the disk: whole or not at all, closed to others, and two commands at a time."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vllmstack.deployment.api_keys import ApiKey, added, keys_text, make_key
from vllmstack.errors import HostError, InvalidInput
from vllmstack.host.key_file import change_keys, read_keys

ALICE = make_key("alice", "sk-alice")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def with_alice(keys: Sequence[ApiKey]) -> Sequence[ApiKey]:
    return added(keys, ALICE)


def test_a_file_that_is_not_there_holds_no_key(file: Path) -> None:
    assert read_keys(file, "keys.json") == ()


def test_it_is_made_on_the_first_change_and_closed_to_others(file: Path) -> None:
    before = os.umask(0)
    try:
        assert change_keys(file, "keys.json", with_alice) == (ALICE,)
    finally:
        os.umask(before)

    assert read_keys(file, "keys.json") == (ALICE,)
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_a_file_that_was_open_is_closed(file: Path) -> None:
    file.write_text('{"keys": []}')
    file.chmod(0o644)

    change_keys(file, "keys.json", with_alice)

    assert file.stat().st_mode & 0o777 == 0o600


def test_a_link_leads_to_the_same_file_afterwards(file: Path) -> None:
    (file.parent / "real.json").write_text('{"keys": []}')
    file.symlink_to("real.json")

    change_keys(file, "keys.json", with_alice)

    assert file.is_symlink()
    assert read_keys(file.parent / "real.json", "real.json") == (ALICE,)


def test_a_change_that_is_refused_leaves_the_file_as_it_was(file: Path) -> None:
    change_keys(file, "keys.json", with_alice)
    before = file.read_bytes()

    with pytest.raises(InvalidInput, match=r'^keys\.json: there is a key of "alice" already'):
        change_keys(file, "keys.json", with_alice)

    assert file.read_bytes() == before


def test_a_wrong_file_is_not_written_over(file: Path) -> None:
    file.write_text('{"keys": [{"name": "x y"}, {"sha256": ""}]}')

    with pytest.raises(InvalidInput) as caught:
        change_keys(file, "deployments/keys.json", with_alice)

    assert [(one.file, one.place) for one in caught.value.problems] == [
        ("deployments/keys.json", "keys/0/name"),
        ("deployments/keys.json", "keys/0/sha256"),
        ("deployments/keys.json", "keys/1/name"),
        ("deployments/keys.json", "keys/1/sha256"),
    ]
    assert "x y" in file.read_text()


def test_a_full_disk_leaves_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(keys_text([]))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(HostError, match=r"^keys\.json: cannot be written: No space left on device"):
        change_keys(file, "keys.json", with_alice)

    assert file.read_text() == keys_text([])
    assert list(file.parent.iterdir()) == [file]


def test_commands_at_the_same_time_lose_nothing(file: Path) -> None:
    names = [f"key-{number}" for number in range(24)]

    def add(name: str) -> None:
        change_keys(file, "keys.json", lambda keys: added(keys, make_key(name, f"sk-{name}")))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, names))

    assert sorted(key.name for key in read_keys(file, "keys.json")) == sorted(names)


@pytest.mark.parametrize(
    ("made", "fact"),
    [("folder", "cannot be read: Is a directory"), ("binary", "is not a text file")],
)
def test_what_is_no_file_of_text_is_one_clear_line(file: Path, made: str, fact: str) -> None:
    if made == "folder":
        file.mkdir()
    else:
        file.write_bytes(b"\xff\xfe\x00")

    with pytest.raises((InvalidInput, HostError)) as caught:
        read_keys(file, "keys.json")

    assert str(caught.value).startswith(f"keys.json: {fact}\n")


def test_a_folder_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"^keys\.json: cannot be written: No such file or directory"):
        change_keys(tmp_path / "absent" / "keys.json", "keys.json", with_alice)
