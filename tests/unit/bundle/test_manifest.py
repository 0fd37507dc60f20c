"""bundle.json, and which names a bundle may hold."""

import pytest

from tests.unit.bundle.test_archive import IMAGE, manifest
from vllmstack.bundle.manifest import BundledFile, is_plain_path, read_manifest


def test_it_is_read_as_it_was_written() -> None:
    assert read_manifest(manifest().text().encode(), "x") == manifest()


def test_it_names_every_member_of_the_archive() -> None:
    clone = BundledFile(path="vllmstack/compose.yaml", size_bytes=1)
    made = manifest(files=(*manifest().files, clone))

    assert IMAGE.member == "images/gateway.tar.gz"
    assert made.members == {
        "deployment.yaml",
        "images/gateway.tar.gz",
        "models/smoke/weights",
        "vllmstack/compose.yaml",
    }
    assert [file.path for file in made.unpacked_files] == ["models/smoke/weights"]


@pytest.mark.parametrize("path", ["a", "models/x y/ü.json", "a/.hidden", "a" * 255])
def test_paths_inside_a_bundle(path: str) -> None:
    assert is_plain_path(path)


@pytest.mark.parametrize("path", ["", "/a", "a/", "../a", "a/../b", ".", "a\nb", "a\0b", "a\\b", "a" * 256])
def test_paths_that_are_none(path: str) -> None:
    assert not is_plain_path(path)
