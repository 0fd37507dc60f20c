"""Rendered files: whole, nothing left of earlier ones, and what has not changed not touched."""

import os
from pathlib import Path

import pytest

from tests.unit.conftest import Clone
from vllmstack.errors import HostError
from vllmstack.host.files import current_deployment, make_current, read_rendered, write_rendered


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_each_file_is_written_below_the_deployments_folder(clone: Clone) -> None:
    folder = write_rendered(clone.project, "smoke", {"compose.env": "A=1\n", "engines/smoke.yaml": "model: a\n"})

    assert folder == clone.root / ".vllmstack" / "smoke"
    assert contents(folder) == {"compose.env": "A=1\n", "engines/smoke.yaml": "model: a\n"}


def test_files_of_an_earlier_rendering_are_removed(clone: Clone) -> None:
    write_rendered(clone.project, "smoke", {"engines/old.yaml": "", "compose.env": ""})

    folder = write_rendered(clone.project, "smoke", {"compose.env": "", "engines/new.yaml": ""})

    assert set(contents(folder)) == {"compose.env", "engines/new.yaml"}


def test_a_part_that_is_written_leaves_the_rest(clone: Clone) -> None:
    write_rendered(clone.project, "smoke", {"engines/old.yaml": "", "compose.env": ""})

    folder = write_rendered(clone.project, "smoke", {"engines/new.yaml": ""}, alone=False)

    assert set(contents(folder)) == {"compose.env", "engines/old.yaml", "engines/new.yaml"}


def test_what_is_rendered_is_read_by_the_beginning_of_its_path(clone: Clone) -> None:
    files = {"engines/a.yaml": "1", "gateway/routes.json": "2", "compose.env": "3"}
    write_rendered(clone.project, "smoke", files)

    assert read_rendered(clone.project, "smoke", "gateway/", "compose.env") == {
        "gateway/routes.json": "2",
        "compose.env": "3",
    }
    assert read_rendered(clone.project, "absent", "gateway/") == {}


def test_another_deployments_files_stay(clone: Clone) -> None:
    other = write_rendered(clone.project, "other", {"compose.env": "A=2\n"})

    write_rendered(clone.project, "smoke", {"compose.env": "A=1\n"})

    assert contents(other) == {"compose.env": "A=2\n"}


def test_an_unchanged_file_is_not_touched(clone: Clone) -> None:
    folder = write_rendered(clone.project, "smoke", {"same": "1", "changed": "1"})
    for name in ("same", "changed"):
        os.utime(folder / name, (1, 1))

    write_rendered(clone.project, "smoke", {"same": "1", "changed": "2"})

    assert (folder / "same").stat().st_mtime == 1
    assert (folder / "changed").stat().st_mtime > 1
    assert (folder / "changed").read_text() == "2"


def test_a_file_is_replaced_whole(clone: Clone) -> None:
    folder = write_rendered(clone.project, "smoke", {"file": "old"})
    with (folder / "file").open() as reader:
        write_rendered(clone.project, "smoke", {"file": "new and longer"})

        # Whoever had it open sees all of the old one.
        assert reader.read() == "old"
    assert (folder / "file").read_text() == "new and longer"


def test_a_write_that_fails_leaves_the_old_file(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_rendered(clone.project, "smoke", {"file": "old"})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)

    with pytest.raises(HostError) as caught:
        write_rendered(clone.project, "smoke", {"file": "new"})

    assert str(caught.value) == (
        f"cannot write {folder}: No space left on device\n"
        "  hint: give this user the folder .vllmstack, and look at `df -h .`"
    )
    assert contents(folder) == {"file": "old"}


def test_containers_of_other_users_can_read_what_is_rendered(clone: Clone) -> None:
    old = os.umask(0o077)
    try:
        folder = write_rendered(clone.project, "smoke", {"file": "text"})
    finally:
        os.umask(old)

    assert (folder / "file").stat().st_mode & 0o777 == 0o644


def test_the_folders_of_what_is_rendered_are_open_to_other_users_too(clone: Clone) -> None:
    old = os.umask(0o077)
    try:
        folder = write_rendered(clone.project, "smoke", {"gateway/routes.json": "{}"})
    finally:
        os.umask(old)

    assert (folder / "gateway").stat().st_mode & 0o777 == 0o755


def test_a_folder_that_cannot_be_written_is_one_clear_line(clone: Clone) -> None:
    clone.project.state.write_text("a file where a folder should be")

    with pytest.raises(HostError) as caught:
        write_rendered(clone.project, "smoke", {"file": "text"})

    (problem,) = caught.value.problems
    assert problem.fact.startswith(f"cannot write {clone.root}/.vllmstack")
    assert problem.hint == "give this user the folder .vllmstack, and look at `df -h .`"


def test_current_points_at_what_was_started_last(clone: Clone) -> None:
    for name in ("first", "second"):
        write_rendered(clone.project, name, {"compose.env": name})
        make_current(clone.project, name)

    assert current_deployment(clone.project) == "second"
    assert (clone.project.current / "compose.env").read_text() == "second"
    # Relative: the clone may be moved.
    assert clone.project.current.readlink() == Path("second")


def test_nothing_is_current_before_the_first_start(clone: Clone) -> None:
    assert current_deployment(clone.project) is None
