"""An input before its first line is sent."""

import json
import random
from pathlib import Path

import pytest

from vllmstack.batch import source
from vllmstack.batch.source import Numbers, survey
from vllmstack.errors import HostError, InvalidInput


def written(file: Path, names: list[str | None]) -> Path:
    file.write_text("".join(json.dumps({"custom_id": name}) + "\n" for name in names))
    return file


def repeated(found: source.Source) -> list[int]:
    return [number for number in range(1, 2 * found.lines) if number in found.repeated]


def test_numbers_are_known() -> None:
    found, numbers = Numbers(), random.Random(0).sample(range(100_000), 5_000)

    for number in (*numbers, *numbers):
        found.add(number)

    assert found.count == 5_000
    assert all(number in found for number in numbers)
    assert sum(number in found for number in range(200_000)) == 5_000


def test_lines_that_have_the_name_of_one_before_are_found(tmp_path: Path) -> None:
    found = survey(written(tmp_path / "in.jsonl", ["a", "b", None, "a", None, "c", "b", "a"]), tmp_path)

    assert found.lines == 8
    assert repeated(found) == [4, 7, 8]


def test_they_are_found_among_more_than_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "PART_BYTES", 100)
    names: list[str | None] = [f"line-{number}" for number in range(5_000)]
    for number in (17, 1_000, 4_999):
        names.append(f"line-{number}")

    found = survey(written(tmp_path / "in.jsonl", names), tmp_path)

    assert repeated(found) == [5_001, 5_002, 5_003]
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_two_inputs_are_told_apart_by_what_they_say(tmp_path: Path) -> None:
    first, same, other = (tmp_path / name for name in ("a", "b", "c"))
    first.write_text('{"custom_id": "a"}\n')
    same.write_text('{"custom_id": "a"}\n')
    other.write_text('{"custom_id": "b"}\n')

    digests = [survey(file, tmp_path).digest for file in (first, same, other)]

    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_a_file_that_asks_nothing_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "in.jsonl").write_text(text)

    with pytest.raises(InvalidInput, match=r"in\.jsonl: asks nothing"):
        survey(tmp_path / "in.jsonl", tmp_path)


@pytest.mark.parametrize(("name", "fact"), [("none.jsonl", "No such file"), (".", "Is a directory")])
def test_what_cannot_be_read_is_told(tmp_path: Path, name: str, fact: str) -> None:
    with pytest.raises(InvalidInput, match=f"cannot be read: {fact}"):
        survey(tmp_path / name, tmp_path)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "PART_BYTES", 1)
    file = written(tmp_path / "in.jsonl", ["a"])

    with pytest.raises(HostError, match=r"cannot write in .*/none: .*No such file"):
        survey(file, tmp_path / "none")
