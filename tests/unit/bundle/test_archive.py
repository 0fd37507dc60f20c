"""A bundle's archive: `tar` and `sha256sum` read it, and what is not whole is refused in one line."""

import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from vllmstack.bundle.archive import END, ArchiveReader, ArchiveWriter, Verified, identity_of
from vllmstack.bundle.manifest import CHECKSUMS, DEPLOYMENT, MANIFEST, BundledFile, BundledImage, Manifest
from vllmstack.errors import HostError, InvalidInput

WEIGHTS = bytes(range(256)) * 20
IMAGE = BundledImage(name="gateway", reference="vllmstack/gateway:1.30", id="sha256:1", layers=("a",), size_bytes=9)
AGAIN = "\n  hint: copy the bundle again; `sha256sum` of it on both hosts tells whether the copies agree"


def manifest(**changes: object) -> Manifest:
    values = {
        "vllmstack": "0.1.0",
        "commit": "",
        "made": "2026-11-22T04:00:00Z",
        "deployment": "smoke",
        "origins": {},
        "images": (IMAGE,),
        "files": (BundledFile(path="models/smoke/weights", size_bytes=len(WEIGHTS)),),
    }
    return Manifest.model_validate(values | changes)


def written(change: Callable[[ArchiveWriter], None] = lambda _: None, of: Manifest | None = None) -> bytes:
    """A bundle; ``change`` may add a member before the checksums."""
    stream = io.BytesIO()
    writer = ArchiveWriter(stream, made=1_795_000_000)
    writer.add(MANIFEST, [(of or manifest()).text().encode()])
    writer.add(DEPLOYMENT, [b"name: smoke\n"])
    writer.add("models/smoke/weights", [WEIGHTS[:1000], WEIGHTS[1000:]], size_bytes=len(WEIGHTS))
    writer.add(IMAGE.member, [b"an ", b"image"])
    change(writer)
    writer.finish()
    return stream.getvalue()


def verify(content: bytes) -> Verified:
    return ArchiveReader(io.BytesIO(content), "x.bundle.tar").verify()


def refusal(content: bytes) -> str:
    with pytest.raises(InvalidInput) as caught:
        verify(content)
    return str(caught.value)


def test_what_is_written_is_read_again() -> None:
    moved: list[int] = []

    bundle = ArchiveReader(io.BytesIO(written()), "x").verify(moved.append)

    assert bundle.manifest == manifest()
    assert bundle.deployment_text == "name: smoke\n"
    assert sum(moved) == len(b"name: smoke\n") + len(WEIGHTS) + len(b"an image")
    found = {path: b"".join(chunks) for path, _, chunks in ArchiveReader(io.BytesIO(written()), "x").members()}
    assert found["models/smoke/weights"] == WEIGHTS
    assert found[IMAGE.member] == b"an image"


@pytest.mark.skipif(not (shutil.which("tar") and shutil.which("sha256sum")), reason="this machine has no GNU tools")
def test_plain_tools_unpack_and_check_it(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(written())

    subprocess.run(["tar", "-xf", "x.tar"], cwd=tmp_path, check=True)
    done = subprocess.run(["sha256sum", "-c", CHECKSUMS], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 4
    assert (tmp_path / "models" / "smoke" / "weights").read_bytes() == WEIGHTS


def test_the_same_contents_have_the_same_identity_and_others_another() -> None:
    other = written(of=manifest(commit="abc"))

    assert verify(written()).identity == verify(written()).identity
    assert verify(other).identity != verify(written()).identity
    assert len(identity_of(b"")) == 12


def test_a_size_beyond_eight_gigabytes_fits_into_a_header_of_the_same_length() -> None:
    writer = ArchiveWriter(io.BytesIO(), made=0)

    small, large = (
        writer._header("images/engine.tar.gz", 0, 0o644),
        writer._header("images/engine.tar.gz", 1 << 40, 0o644),
    )

    assert len(small) == len(large)
    assert tarfile.TarInfo.frombuf(large, "utf-8", "strict").size == 1 << 40


def test_a_file_that_changes_while_it_is_read_ends_the_bundle() -> None:
    writer = ArchiveWriter(io.BytesIO(), made=0)

    with pytest.raises(HostError) as caught:
        writer.add("models/smoke/weights", [b"12345"], size_bytes=4)

    assert str(caught.value) == (
        "models/smoke/weights: changed while it was read: 5 bytes instead of 4\n"
        "  hint: bundle again when nothing writes there"
    )


@pytest.mark.parametrize("content", [b"", b"text", b"\0" * 10240, bytes(range(256)) * 40])
def test_a_file_that_is_no_archive_is_no_bundle(content: bytes) -> None:
    assert refusal(content) == (
        "x.bundle.tar: is no bundle: it does not begin with bundle.json\n"
        "  hint: name a file that `vllmstack bundle` wrote; a load test takes its scenario by `--scenario`"
    )


def test_another_archive_is_no_bundle() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)

    assert refusal(stream.getvalue()).startswith("x.bundle.tar: is no bundle: it does not begin with bundle.json\n")


def test_half_a_bundle_is_refused_wherever_it_is_cut() -> None:
    content = written()
    first = content.index(b"name: smoke")  # from here on it is plain that it was a bundle

    for end in range(first, len(content) - 1024 - 512, 97):
        assert refusal(content[:end]) == (
            f"x.bundle.tar: is cut short: its end with the checksums is missing{AGAIN}"
        ), end


@pytest.mark.parametrize(
    ("inside", "place"),
    [(b"an image", "images/gateway.tar.gz"), (WEIGHTS, "models/smoke/weights"), (b"name: smoke\n", "deployment.yaml")],
)
def test_a_flipped_byte_names_the_member_that_it_is_in(inside: bytes, place: str) -> None:
    content = bytearray(written())
    content[content.index(inside) + 3] ^= 1

    assert refusal(bytes(content)) == (
        f"x.bundle.tar: {place}: is damaged: it has another checksum than it was written with{AGAIN}"
    )


def test_every_damaged_member_is_named_at_once() -> None:
    content = written().replace(b"an image", b"AN image").replace(b"name: smoke\n", b"name: smokE\n")

    assert refusal(content).count("is damaged: it has another checksum") == 2


def test_a_damaged_header_is_told_by_its_place() -> None:
    content = written().replace(b"models/smoke/weights\0", b"models/smoke/weightS\0")

    assert refusal(content).startswith("x.bundle.tar: is damaged near byte ")


def test_no_flipped_byte_goes_unseen_but_in_what_fills_the_last_block_of_a_member() -> None:
    content = written()
    unseen = []

    for place in range(0, content.index(CHECKSUMS.encode()) + 1024, 61):
        damaged = bytearray(content)
        damaged[place] ^= 4
        try:
            verify(bytes(damaged))
        except InvalidInput:
            continue
        unseen.append(place)

    blocks = {place: content[place - place % 512 :][:512].rstrip(b"\0") for place in unseen}
    assert [place for place, block in blocks.items() if place % 512 < len(block)] == []


def test_another_format_says_who_reads_it() -> None:
    text = manifest().text().replace('"format": 1', '"format": 2').replace("0.1.0", "0.9.0")
    stream = io.BytesIO()
    ArchiveWriter(stream, made=0).add(MANIFEST, [text.encode()])

    assert refusal(stream.getvalue()) == (
        "x.bundle.tar: has format 2, and this vllmstack reads format 1\n"
        "  hint: load it with vllmstack 0.9.0, which made it, or make it again with this one"
    )


@pytest.mark.parametrize("path", ["../escaped", "/etc/passwd", "models/../../x", "a//b", "a\\b", "models/./x"])
def test_a_path_that_leads_outside_is_refused(path: str) -> None:
    def add(writer: ArchiveWriter) -> None:
        writer.add(path, [b"x"])

    assert refusal(written(add)) == f"x.bundle.tar: {path}: is no plain file inside the bundle{AGAIN}"
    with pytest.raises(ValueError, match="is no path inside a bundle"):
        BundledFile(path=path, size_bytes=1)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_what_is_no_plain_file_is_refused(kind: bytes) -> None:
    link = tarfile.TarInfo("models/smoke/link")
    link.type, link.linkname = kind, "/etc/passwd"
    content = written()
    place = content.index(CHECKSUMS.encode())

    said = refusal(content[:place] + link.tobuf(tarfile.GNU_FORMAT) + content[place:])

    assert said == f"x.bundle.tar: models/smoke/link: is no plain file inside the bundle{AGAIN}"


def test_a_member_that_the_manifest_does_not_name_is_refused() -> None:
    def add(writer: ArchiveWriter) -> None:
        writer.add("models/smoke/other", [b"x"])

    assert refusal(written(add)) == (
        f"x.bundle.tar: models/smoke/other: is not among what the bundle says it holds{AGAIN}"
    )


def test_a_member_that_is_there_twice_is_refused() -> None:
    def add(writer: ArchiveWriter) -> None:
        writer.add(DEPLOYMENT, [b"name: other\n"])

    assert refusal(written(add)) == f"x.bundle.tar: deployment.yaml: is there twice{AGAIN}"


@pytest.mark.parametrize("path", [IMAGE.member, "models/smoke/other", CHECKSUMS])
def test_a_member_after_the_checksums_is_refused(path: str) -> None:
    stream = io.BytesIO()
    ArchiveWriter(stream, made=0).add(path, [b"evil"])
    content = written()

    assert refusal(content[: -len(END)] + stream.getvalue() + END) == (
        f"x.bundle.tar: {path}: comes after the checksums, so that none is its own{AGAIN}"
    )


def test_what_comes_after_the_archives_end_is_no_member() -> None:
    assert verify(written() + written()).manifest == manifest()


def test_a_member_that_is_missing_is_named() -> None:
    other = manifest(files=(*manifest().files, BundledFile(path="models/smoke/more", size_bytes=1)))

    assert refusal(written(of=other)) == f"x.bundle.tar: lacks models/smoke/more{AGAIN}"


def test_a_file_of_another_size_than_the_manifest_says_is_refused() -> None:
    other = manifest(files=(BundledFile(path="models/smoke/weights", size_bytes=7),))

    assert refusal(written(of=other)) == (f"x.bundle.tar: models/smoke/weights: has 5120 bytes instead of 7{AGAIN}")


def test_a_manifest_that_cannot_be_read_is_one_line() -> None:
    content = written().replace(b'"format"', b"'format'")

    assert refusal(content) == f"x.bundle.tar: bundle.json: cannot be read{AGAIN}"


def test_a_manifest_with_an_unknown_key_names_it() -> None:
    content = written().replace(b'"commit"', b'"comm1t"')

    assert refusal(content).startswith("x.bundle.tar: bundle.json: commit: field required\n")
