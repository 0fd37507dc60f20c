"""What is answered survives whatever ends a batch."""

import errno
import json
from io import FileIO
from pathlib import Path

import pytest

from vllmstack.batch.journal import Journal
from vllmstack.batch.source import survey
from vllmstack.errors import HostError, InvalidInput


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "in.jsonl"
    file.write_text("{}\n" * 9)
    return file


def journal(source: Path, *, again: bool = False, output: str = "out.jsonl", errors: str = "err.jsonl") -> Journal:
    asked = survey(source, source.parent)
    return Journal(asked, source.with_name(output), source.parent / errors, again=again)


def test_answers_and_errors_are_done_after_a_restart(source: Path) -> None:
    with journal(source) as first:
        first.answer(2, {"custom_id": "b"})
        first.error(5, {"custom_id": "e"})

    with journal(source) as second:
        assert [number for number in range(1, 10) if number in second.done] == [2, 5]
        assert (second.done.count, second.failed) == (2, 1)


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_line_that_was_cut_off_is_asked_again(source: Path, cut: int) -> None:
    with journal(source) as first:
        first.answer(1, {"custom_id": "a"})
        first.answer(2, {"custom_id": "b"})
    out = source.with_name("out.jsonl")
    out.write_bytes(out.read_bytes()[:-cut])

    with journal(source) as second:
        assert 1 in second.done
        assert 2 not in second.done
        second.answer(2, {"custom_id": "b"})

    ids = [json.loads(line)["id"] for line in out.read_text().splitlines()]
    assert ids == ["batch_req_1", "batch_req_2"]


def test_failed_lines_are_sent_again_when_asked(source: Path) -> None:
    with journal(source) as first:
        first.answer(1, {})
        first.error(2, {})

    with journal(source, again=True) as second:
        assert (1 in second.done, 2 in second.done, second.failed) == (True, False, 0)


def test_answers_of_an_input_that_changed_are_not_added_to(source: Path) -> None:
    with journal(source) as first:
        first.answer(1, {})
    source.write_text("{}\n" * 8 + "[]\n")

    with pytest.raises(InvalidInput, match="holds answers to this input as it was before it changed"):
        journal(source)


def test_a_changed_input_can_be_run_once_its_files_are_removed(source: Path) -> None:
    with journal(source) as first:
        first.answer(1, {})
        first.error(2, {})
    source.write_text("{}\n" * 8 + "[]\n")
    for name in ("out.jsonl", "err.jsonl"):
        source.with_name(name).unlink()

    with journal(source) as second:
        assert second.done.count == 0
        second.answer(9, {})
    with journal(source) as third:
        assert third.done.count == 1


def test_a_run_that_answered_nothing_does_not_bind_its_input(source: Path) -> None:
    journal(source).close()
    source.write_text("{}\n" * 8 + "[]\n")

    with journal(source) as second:
        second.answer(1, {})
    source.write_text("{}\n" * 9)

    with pytest.raises(InvalidInput, match="holds answers to this input as it was before it changed"):
        journal(source)


def test_a_run_that_cannot_begin_leaves_nothing(source: Path) -> None:
    with journal(source, output="first.jsonl") as first:
        first.error(2, {})
    with source.with_name("err.jsonl").open("a") as file:
        file.write("mine\n")
    before = sorted(source.parent.iterdir())

    with pytest.raises(InvalidInput, match="a line that no batch wrote"):
        journal(source)

    assert sorted(source.parent.iterdir()) == before


def test_a_note_that_cannot_be_written_leaves_nothing(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = []

    def full(descriptor: int) -> None:
        notes.append(descriptor)
        if len(notes) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(HostError, match="No space left on device"):
        journal(source)

    assert [path.name for path in source.parent.iterdir()] == ["in.jsonl"]


def test_answers_of_another_input_are_not_added_to(source: Path) -> None:
    with journal(source) as first:
        first.answer(1, {})
    other = source.with_name("other.jsonl")
    other.write_text("{}\n")

    with pytest.raises(InvalidInput, match=r"holds answers to .*/in\.jsonl"):
        journal(other)


def test_an_input_that_was_moved_goes_on(source: Path) -> None:
    with journal(source) as first:
        first.answer(1, {})

    with journal(source.rename(source.with_name("moved.jsonl"))) as second:
        assert second.done.count == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", "\xff"])
def test_a_note_that_was_not_ours_is_told(source: Path, text: str) -> None:
    source.with_name("out.jsonl.input").write_bytes(text.encode("latin-1"))

    with pytest.raises(InvalidInput, match="does not say which input's answers"):
        journal(source)


def test_a_file_that_is_no_batchs_is_left_alone(source: Path) -> None:
    source.with_name("out.jsonl").write_text("mine\n")

    with pytest.raises(InvalidInput, match="is no batch's"):
        journal(source)

    assert source.with_name("out.jsonl").read_text() == "mine\n"


def test_two_runs_do_not_write_the_same_file(source: Path) -> None:
    with journal(source), pytest.raises(HostError, match="another batch writes it"):
        journal(source)


@pytest.mark.parametrize("name", ["out.jsonl", "err.jsonl"])
def test_a_foreign_line_is_told(source: Path, name: str) -> None:
    with journal(source) as first:
        first.answer(1, {})
        first.error(2, {})
    with source.with_name(name).open("a") as file:
        file.write('{"id": "x"}\n')

    with pytest.raises(InvalidInput, match="a line that no batch wrote"):
        journal(source)


@pytest.mark.parametrize("again", [False, True])
def test_errors_of_an_input_that_changed_do_not_count_as_done(source: Path, again: bool) -> None:
    with journal(source) as first:
        first.error(2, {})
    source.write_text("{}\n" * 8 + "[]\n")
    before = source.with_name("err.jsonl").read_bytes()

    with pytest.raises(InvalidInput, match=r"err\.jsonl: holds errors of this input as it was .*\n.*`--errors FILE`"):
        journal(source, output="second.jsonl", again=again)

    assert source.with_name("err.jsonl").read_bytes() == before


def test_errors_of_another_input_do_not_count_as_done(source: Path) -> None:
    with journal(source) as first:
        first.error(1, {})
    other = source.with_name("other.jsonl")
    other.write_text("{}\n")

    with pytest.raises(InvalidInput, match=r"err\.jsonl: holds errors of .*/in\.jsonl"):
        journal(other, output="second.jsonl")


def test_both_files_of_an_input_that_changed_are_told_at_once(source: Path) -> None:
    with journal(source) as first:
        first.answer(1, {})
        first.error(2, {})
    source.write_text("{}\n" * 8 + "[]\n")

    with pytest.raises(InvalidInput) as told:
        journal(source)

    assert [one.file.rpartition("/")[2] for one in told.value.problems] == ["out.jsonl", "err.jsonl"]


def test_a_file_without_an_error_is_dropped_with_its_note(source: Path) -> None:
    with journal(source) as first:
        first.answer(1, {})
        first.drop_errors()

    names = sorted(path.name for path in source.parent.iterdir())
    assert names == ["in.jsonl", "out.jsonl", "out.jsonl.input"]


@pytest.mark.parametrize("text", ["mine\n", "mine", '{"id": 1}'])
@pytest.mark.parametrize("again", [False, True])
def test_an_errors_file_that_is_no_batchs_is_left_alone(source: Path, text: str, again: bool) -> None:
    source.with_name("err.jsonl").write_text(text)

    with pytest.raises(InvalidInput, match=r"err\.jsonl: is there already, and is no batch's\n.*`--errors FILE`"):
        journal(source, again=again)

    assert source.with_name("err.jsonl").read_text() == text
    assert not source.with_name("out.jsonl").exists()


@pytest.mark.parametrize("errors", ["in.jsonl", "out.jsonl", "../{folder}/in.jsonl"])
def test_no_file_is_named_twice(source: Path, errors: str) -> None:
    before = source.read_text()

    with pytest.raises(InvalidInput, match="three files"):
        journal(source, errors=errors.format(folder=source.parent.name), again=True)

    assert source.read_text() == before


def test_zeros_that_a_power_cut_left_are_cut_off(source: Path) -> None:
    with journal(source) as first:
        first.answer(1, {})
    with source.with_name("out.jsonl").open("ab") as file:
        file.write(bytes(100))

    with journal(source) as second:
        assert second.done.count == 1
    assert source.with_name("out.jsonl").read_text().count("\0") == 0


def test_a_full_disk_is_told_and_leaves_no_half_line(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(FileIO):
        def write(self, text: bytes) -> int:  # type: ignore[override]
            super().write(text[:7])
            raise OSError(errno.ENOSPC, "No space left on device")

    with journal(source) as first:
        first.answer(1, {})
        whole = source.with_name("out.jsonl").read_bytes()
        full = Full(first._answers.fileno(), "r+", closefd=False)
        first._files[full] = source.with_name("out.jsonl")
        monkeypatch.setattr(first, "_answers", full)
        with pytest.raises(HostError, match=r"cannot write .*/out\.jsonl: No space left on device"):
            first.answer(2, {})
        assert 2 not in first.done

    assert source.with_name("out.jsonl").read_bytes() == whole


@pytest.mark.parametrize("name", ["none/err.jsonl", "."])
def test_a_place_that_cannot_be_written_is_told_and_nothing_is_left(source: Path, name: str) -> None:
    with pytest.raises(HostError, match="cannot write"):
        journal(source, errors=name)

    assert [path.name for path in source.parent.iterdir()] == ["in.jsonl"]


def test_half_a_character_is_kept_as_json_can(source: Path) -> None:
    with journal(source) as first:
        first.error(1, {"custom_id": "\ud800", "text": "é"})

    assert json.loads(source.with_name("err.jsonl").read_bytes())["custom_id"] == "\ud800"
