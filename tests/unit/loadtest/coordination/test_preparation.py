"""What a run is prepared with: here the key that it asks with."""

from pathlib import Path

import pytest

from loadtest.coordination.preparation import read_key
from loadtest.errors import LoadTestError

KEY = "sk-0123456789abcdef"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "key"


@pytest.mark.parametrize("written", [KEY, f"{KEY}\n", f"\n  {KEY} \n"])
def test_the_key_is_the_files_only_word(file: Path, written: str) -> None:
    file.write_text(written)

    assert read_key(str(file)) == KEY


def test_an_empty_file_and_none_at_all_are_no_key(file: Path) -> None:
    file.write_text("")

    assert read_key(str(file)) is None
    assert read_key(None) is None


@pytest.mark.parametrize(
    ("written", "fact"),
    [
        (None, "cannot be read: No such file or directory"),
        (f"alice {KEY}\n".encode(), "has 2 words, where one key belongs"),
        (b"\xff\xfe", "is not a text file"),
    ],
)
def test_a_file_with_something_else_is_one_clear_line_that_shows_no_key(
    file: Path, written: bytes | None, fact: str
) -> None:
    if written is not None:
        file.write_bytes(written)

    with pytest.raises(LoadTestError) as caught:
        read_key(str(file))

    assert str(caught.value) == f"{file}: {fact}\n  hint: give a file with nothing but the key"
