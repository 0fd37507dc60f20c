"""bundle.json, and which names a bundle may hold."""

from tests.unit.bundle.test_archive import IMAGE, manifest
from vllmstack.bundle.manifest import BundledFile, read_manifest


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
