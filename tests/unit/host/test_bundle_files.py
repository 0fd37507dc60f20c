"""Files that go into a bundle, and what is written whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from tests.unit.conftest import Clone, Programs
from vllmstack.errors import HostError, InvalidInput
from vllmstack.host.bundle_files import appearing_whole, clone_files, fetched_wheels, folder_files, write_member


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    (made / "sub").mkdir(parents=True)
    (made / "config.json").write_text("{}")
    (made / "sub" / "x.bin").write_bytes(b"12345")
    return made


def test_every_file_below_a_folder_travels(folder: Path) -> None:
    found = folder_files(folder)

    assert [(one.path, one.size_bytes, b"".join(one.read())) for one in found] == [
        ("config.json", 2, b"{}"),
        ("sub/x.bin", 5, b"12345"),
    ]


def test_links_are_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "blob").write_text("weights")
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")

    assert b"".join(folder_files(folder)[1].read()) == b"weights"


def test_what_begins_with_a_dot_stays(folder: Path) -> None:
    (folder / ".cache").mkdir()
    (folder / ".cache" / "token").write_text("secret")
    (folder / ".gitattributes").write_text("")

    assert [one.path for one in folder_files(folder)] == ["config.json", "sub/x.bin"]


def test_links_that_go_round_in_circles_are_one_line(folder: Path) -> None:
    (folder / "sub" / "again").symlink_to(folder)

    with pytest.raises(InvalidInput) as caught:
        folder_files(folder)

    assert str(caught.value) == f"{folder}/sub/again: is reached twice, by a link\n  hint: remove the link"


def test_a_name_that_an_archive_cannot_hold_is_one_line(folder: Path) -> None:
    (folder / "a\\b").write_text("")

    with pytest.raises(InvalidInput, match="has a name that a bundle cannot hold"):
        folder_files(folder)


def test_a_name_that_is_no_utf_8_is_one_line_that_can_be_printed(folder: Path) -> None:
    Path(os.fsdecode(bytes(folder) + b"/a\xff")).write_text("")

    with pytest.raises(InvalidInput) as caught:
        folder_files(folder)

    assert str(caught.value) == (
        f"{folder}/a\N{REPLACEMENT CHARACTER}: has a name that a bundle cannot hold\n"
        "  hint: rename it: UTF-8, without control characters and `\\`"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_one_line(folder: Path) -> None:
    (folder / "config.json").chmod(0)

    with pytest.raises(InvalidInput, match="cannot be read: Permission denied"):
        folder_files(folder)


def test_a_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        folder_files(tmp_path / "nowhere")

    assert str(caught.value).startswith(f"{tmp_path}/nowhere: cannot be read: No such file or directory\n")


def test_of_the_clone_only_what_git_knows_travels(clone: Clone, programs: Programs) -> None:
    (clone.root / "secrets").mkdir()
    (clone.root / "secrets" / "hub_token").write_text("hf_secret")
    (clone.root / "run.sh").write_text("#!/bin/sh\n")
    (clone.root / "run.sh").chmod(0o755)
    programs.install("git", "printf 'compose.yaml\\0run.sh\\0deleted\\0'")

    found = clone_files(clone.project)

    assert [(one.path, one.executable) for one in found] == [
        ("vllmstack/compose.yaml", False),
        ("vllmstack/run.sh", True),
    ]


def test_without_git_it_says_what_is_needed(clone: Clone, programs: Programs) -> None:
    programs.install("git", "echo 'fatal: not a git repository' >&2; exit 128")

    with pytest.raises(HostError) as caught:
        clone_files(clone.project)

    assert "fatal: not a git repository" in str(caught.value)
    assert str(caught.value).endswith("hint: `--with-project` needs git, and a clone that it made")


def test_wheels_are_fetched_for_each_python_that_a_host_may_have(
    clone: Clone, programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.install("python", f"echo > '{tmp_path}/a-1-py3-none-any.whl'")
    monkeypatch.setattr("sys.executable", str(programs.folder / "python"))

    found = fetched_wheels(clone.project, tmp_path)

    assert [one.path for one in found] == ["vllmstack/wheels/a-1-py3-none-any.whl"]
    calls = programs.calls("python")
    assert [call.partition("--python-version=")[2].split()[0] for call in calls] == ["3.11", "3.12", "3.13"]
    assert all("--require-hashes" in call and "--only-binary=:all:" in call for call in calls)


def test_a_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "x.tar"

    with appearing_whole(target) as part:
        part.write_text("half")
        assert not target.exists()

    assert target.read_text() == "half"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), HostError([]), OSError(errno.ENOSPC, "No space left on device")]
)
def test_of_what_fails_nothing_stays(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "folder"

    def fail() -> None:
        with appearing_whole(target) as part:
            write_member(part / "models" / "x", [b"x"])
            raise error

    with pytest.raises((KeyboardInterrupt, HostError)):
        fail()

    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught, appearing_whole(tmp_path / "x.tar"):
        raise OSError(errno.ENOSPC, "No space left on device")

    assert str(caught.value) == (
        f"cannot write {tmp_path}/x.tar: No space left on device\n"
        "  hint: nothing of it was kept; look at `df -h` and at who owns the folder"
    )


def test_what_one_that_was_killed_left_behind_is_cleared(tmp_path: Path) -> None:
    left = tmp_path / ".x.tar.part"
    left.mkdir()
    (left / "half").write_text("")

    with appearing_whole(tmp_path / "x.tar") as part:
        part.write_text("whole")

    assert [file.name for file in tmp_path.iterdir()] == ["x.tar"]


def test_two_that_write_one_target_do_not_take_each_others_half(tmp_path: Path) -> None:
    target = tmp_path / "x.tar"

    with appearing_whole(target) as part:
        part.write_text("first")
        with pytest.raises(HostError) as caught, appearing_whole(target) as other:
            other.write_text("second")
        with appearing_whole(tmp_path / "y.tar") as beside:
            beside.write_text("another")

    assert str(caught.value) == (
        f"{target}: is being written by another process\n  hint: wait for its end, or name another file"
    )
    assert target.read_text() == "first"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.tar", "y.tar"]


def test_a_lock_that_its_owner_removes_at_the_same_moment_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcntl.flock", lambda *_: (tmp_path / ".x.tar.lock").unlink())

    with pytest.raises(HostError, match="is being written by another process"), appearing_whole(tmp_path / "x.tar"):
        pass


def test_a_lock_that_one_that_was_killed_left_behind_is_free(tmp_path: Path) -> None:
    (tmp_path / ".x.tar.lock").write_text("")

    with appearing_whole(tmp_path / "x.tar") as part:
        part.write_text("whole")

    assert [file.name for file in tmp_path.iterdir()] == ["x.tar"]


def test_a_member_is_readable_by_containers(tmp_path: Path) -> None:
    write_member(tmp_path / "a" / "b", [b"1", b"2"])

    assert (tmp_path / "a" / "b").read_bytes() == b"12"
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o644
