"""Which paths, named by others, may become files here."""

import pytest

from vllmstack.plain_path import is_plain_path


@pytest.mark.parametrize("path", ["a", "models/x y/ü.json", "a/.hidden", "a" * 255])
def test_paths_inside_a_folder(path: str) -> None:
    assert is_plain_path(path)


@pytest.mark.parametrize("path", ["", "/a", "a/", "../a", "a/../b", ".", "a\nb", "a\0b", "a\\b", "a" * 256, "a/\udcff"])
def test_paths_that_are_none(path: str) -> None:
    assert not is_plain_path(path)
