"""A bundle as a stream: written once from front to back, read member by member; memory does not grow with its size."""

import hashlib
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from vllmstack.bundle.manifest import (
    CHECKSUMS,
    COPY_AGAIN,
    DEPLOYMENT,
    LARGEST_TEXT_BYTES,
    MANIFEST,
    Manifest,
    not_a_bundle,
    read_manifest,
)
from vllmstack.deployment.yaml_file import LARGEST_BYTES
from vllmstack.errors import HostError, InvalidInput, Problem
from vllmstack.plain_path import is_plain_path

CHUNK_BYTES = 1 << 20
END = bytes(2 * tarfile.BLOCKSIZE)
IDENTITY_CHARACTERS = 12

Moved = Callable[[int], object]
"""Called with the bytes that were read since the last call."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file that goes into an archive, wherever it lies."""

    path: str
    size_bytes: int
    read: Callable[[], Iterable[bytes]]
    executable: bool = False


class ArchiveWriter:
    """Writes a tar in GNU's format to a file that can seek, and sums up every member.

    What a stream holds is known only at its end: its header is written again then. In GNU's format that takes as many
    bytes whatever the size is.
    """

    def __init__(self, stream: BinaryIO, *, made: float) -> None:
        self._stream = stream
        self._made = made
        self._sums: dict[str, str] = {}

    def add(self, path: str, chunks: Iterable[bytes], *, size_bytes: int | None = None, mode: int = 0o644) -> None:
        """One member. ``size_bytes``: what it must have; None: as many as there are.

        Raises:
            HostError: it has another size.
        """
        start = self._stream.tell()
        self._stream.write(self._header(path, size_bytes or 0, mode))
        digest, count = hashlib.sha256(), 0
        for chunk in chunks:
            digest.update(chunk)
            self._stream.write(chunk)
            count += len(chunk)
        if size_bytes not in (None, count):
            raise HostError(
                Problem(
                    file=path,
                    fact=f"changed while it was read: {count} bytes instead of {size_bytes}",
                    hint="bundle again when nothing writes there",
                )
            )
        self._stream.write(bytes(-count % tarfile.BLOCKSIZE))
        if size_bytes is None:
            end = self._stream.tell()
            self._stream.seek(start)
            self._stream.write(self._header(path, count, mode))
            self._stream.seek(end)
        self._sums[path] = digest.hexdigest()

    def finish(self) -> str:
        """Writes the checksums and the end; the bundle's identity."""
        text = "".join(f"{digest}  {path}\n" for path, digest in self._sums.items()).encode()
        self.add(CHECKSUMS, [text], size_bytes=len(text))
        self._stream.write(END)
        return identity_of(text)

    def _header(self, path: str, size_bytes: int, mode: int) -> bytes:
        member = tarfile.TarInfo(path)
        member.size, member.mtime, member.mode = size_bytes, int(self._made), mode
        return member.tobuf(tarfile.GNU_FORMAT, "utf-8")


def identity_of(checksums: bytes) -> str:
    """The same for the same contents: of the checksums of all members."""
    return hashlib.sha256(checksums).hexdigest()[:IDENTITY_CHARACTERS]


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A bundle that is whole."""

    manifest: Manifest
    deployment_text: str
    identity: str


class ArchiveReader:
    """Reads a bundle; ``file`` is its name in messages."""

    def __init__(self, stream: BinaryIO, file: str) -> None:
        self._stream = stream
        self._file = file

    def verify(self, moved: Moved = lambda _: None) -> Verified:
        """Reads all of it: each member is one that the manifest names, once, with its checksum; the checksums are last.

        Raises:
            InvalidInput: it is no bundle, one of another format, cut short, damaged, or has members that do not
                belong there.
        """
        sums: dict[str, str] = {}
        manifest: Manifest | None = None
        sizes: dict[str, int] = {}
        deployment = b""
        members = self.members()
        for path, size, chunks in members:
            if path in sums:
                raise self._wrong("is there twice", place=path)
            if manifest is None:
                text = self._text(path, size, chunks)
                manifest = read_manifest(text, self._file)
                sizes = {file.path: file.size_bytes for file in manifest.files}
                sums[path] = hashlib.sha256(text).hexdigest()
            elif path == CHECKSUMS:
                text = self._text(path, size, chunks)
                self._compare(text, manifest, sums)
                if more := next(members, None):
                    raise self._wrong("comes after the checksums, so that none is its own", place=more[0])
                deployment_text = deployment.decode(errors="replace")
                return Verified(manifest=manifest, deployment_text=deployment_text, identity=identity_of(text))
            else:
                if path not in manifest.members:
                    raise self._wrong("is not among what the bundle says it holds", place=path)
                if sizes.get(path, size) != size:
                    raise self._wrong(f"has {size} bytes instead of {sizes[path]}", place=path)
                kept: list[bytes] | None = [] if path == DEPLOYMENT and size <= LARGEST_BYTES else None
                sums[path] = _sum(counted(chunks, moved), kept)
                deployment = deployment if kept is None else b"".join(kept)
        raise self._ended(manifest)

    def members(self) -> Iterator[tuple[str, int, Iterator[bytes]]]:
        """Path, bytes and content of each member, in order; the content is read before the next one is asked for.

        Raises:
            InvalidInput: the archive is damaged, or a member is no plain file inside it.
        """
        self._stream.seek(0)
        begun = False
        try:
            with tarfile.open(fileobj=self._stream, mode="r:", encoding="utf-8", errors="replace") as archive:
                while (member := archive.next()) is not None:
                    if not begun and member.name != MANIFEST:
                        raise InvalidInput(not_a_bundle(self._file))
                    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or not is_plain_path(member.name):
                        raise self._wrong("is no plain file inside the bundle", place=member.name)
                    begun = True
                    yield member.name, member.size, self._content(archive, member)
        except tarfile.ReadError as error:
            raise self._unreadable(error) if begun else InvalidInput(not_a_bundle(self._file)) from None

    def _text(self, path: str, size_bytes: int, chunks: Iterable[bytes]) -> bytes:
        if size_bytes > LARGEST_TEXT_BYTES:
            raise self._wrong("is larger than it can be", place=path)
        return b"".join(chunks)

    def _content(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
        content = archive.extractfile(member)
        try:
            while content and (chunk := content.read(CHUNK_BYTES)):
                yield chunk
        except tarfile.ReadError as error:
            raise self._unreadable(error) from None

    def _compare(self, text: bytes, manifest: Manifest, sums: dict[str, str]) -> None:
        lines = [line.partition("  ") for line in text.decode(errors="replace").splitlines()]
        written = {path: digest for digest, _, path in lines}
        damaged = sorted(path for path, digest in sums.items() if written.get(path) != digest)
        if damaged:
            raise InvalidInput(
                [
                    Problem(
                        file=self._file,
                        place=path,
                        fact="is damaged: it has another checksum than it was written with",
                        hint=COPY_AGAIN,
                    )
                    for path in damaged
                ]
            )
        missing = sorted((manifest.members | written.keys()) - sums.keys())
        if missing:
            raise self._wrong(f"lacks {', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}")

    def _ended(self, manifest: Manifest | None) -> InvalidInput:
        """There was no further member, and no checksums: by a header that is none, or by the file's end."""
        if manifest is None:
            return InvalidInput(not_a_bundle(self._file))
        place = self._stream.tell()
        return self._damaged(place) if self._stream.read(1) else self._cut_short()

    def _unreadable(self, error: tarfile.ReadError) -> InvalidInput:
        return self._cut_short() if "unexpected end" in str(error) else self._damaged(self._stream.tell())

    def _cut_short(self) -> InvalidInput:
        return self._wrong("is cut short: its end with the checksums is missing")

    def _damaged(self, place: int) -> InvalidInput:
        return self._wrong(f"is damaged near byte {place}")

    def _wrong(self, fact: str, *, place: str = "") -> InvalidInput:
        return InvalidInput(Problem(file=self._file, place=place, fact=fact, hint=COPY_AGAIN))


def counted(chunks: Iterable[bytes], moved: Moved) -> Iterator[bytes]:
    """The same chunks, each told before it is passed on."""
    for chunk in chunks:
        moved(len(chunk))
        yield chunk


def _sum(chunks: Iterable[bytes], kept: list[bytes] | None) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        if kept is not None:
            kept.append(chunk)
    return digest.hexdigest()
