"""A batch's input, read once before anything is sent: how long it is, whose it is, which names are there twice.

Files of any size: names are kept as digests, in 256 parts by their first byte, and a part that grows goes to a
temporary file. At the end one part after the other is looked through: 100 million lines take 50 MB of memory and 2.4 GB
of disk.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from vllmstack.batch.lines import custom_id_of, read_lines
from vllmstack.errors import HostError, InvalidInput, Problem

PARTS = 256
DIGEST_BYTES = 16
"""Of 100 million names, two are the same in 10⁻²³ of all cases."""
NUMBER_BYTES = 8
PART_BYTES = 16 << 10
"""What a part has in memory before it goes to its file."""


class Numbers:
    """Numbers of lines, a bit each: 100 million lines take 12 MB."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self.count = 0

    def add(self, number: int) -> None:
        """Once more is no more."""
        byte, bit = divmod(number, 8)
        if byte >= len(self._bits):
            self._bits.extend(bytes(max(byte + 1 - len(self._bits), len(self._bits), 1024)))
        if not self._bits[byte] & 1 << bit:
            self._bits[byte] |= 1 << bit
            self.count += 1

    def __contains__(self, number: int) -> bool:
        byte, bit = divmod(number, 8)
        return byte < len(self._bits) and bool(self._bits[byte] & 1 << bit)


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is known of an input before its first line is sent."""

    file: Path
    lines: int
    """Those that are not blank."""
    digest: str
    """SHA-256 of what they say: a run goes on only with the input that it began with."""
    repeated: Numbers = field(repr=False)
    """Lines whose ``custom_id`` a line before them has."""
    state: tuple[int, int]
    """The file's size and its time of change in ns, before it was read."""


def survey(file: Path, folder: Path) -> Source:
    """Reads the whole file once; ``folder`` is for temporary files, which a kill leaves none of.

    Raises:
        InvalidInput: it is not there, is no file, cannot be read, or asks nothing.
        HostError: the temporary files cannot be written.
    """
    if file.exists() and not (file.is_file() or file.is_dir()):
        hint = "write it to a file first: a batch that goes on reads it again"
        raise InvalidInput(Problem(file=str(file), fact="is no regular file", hint=hint))
    digest, lines = hashlib.sha256(), 0
    with ExitStack() as files:
        names = _Names(folder, files)
        try:
            state = _state(file)
            for number, line in read_lines(file):
                lines += 1
                digest.update(b"%d %d\n" % (number, -1 if line is None else len(line)))
                digest.update(line or b"")
                custom_id = custom_id_of(line)
                if custom_id is not None:
                    names.add(number, custom_id)
            if not lines:
                hint = "it wants a request a line, in OpenAI's batch format: docs/guides/batch.md"
                raise InvalidInput(Problem(file=str(file), fact="asks nothing: it has no line", hint=hint))
            return Source(file=file, lines=lines, digest=digest.hexdigest(), repeated=names.repeated(), state=state)
        except _CannotKeep as error:
            raise HostError(
                Problem(
                    fact=f"cannot write in {folder}: {error.__cause__}",
                    hint="look at `df -h`, or name another folder by `--output FILE`",
                )
            ) from None
        except OSError as error:
            raise _cannot_read(file, error) from None


def read_again(source: Source) -> Iterator[tuple[int, bytes | None]]:
    """Its lines, to be sent: that may begin long after it was read, when a server has loaded its model.

    Raises:
        InvalidInput: it is not there any more, or is another.
    """
    try:
        if _state(source.file) != source.state:
            fact = "has changed since this command began"
            raise InvalidInput(Problem(file=str(source.file), fact=fact, hint="run it again: it reads the input first"))
        yield from read_lines(source.file)
    except OSError as error:
        raise _cannot_read(source.file, error) from None


def _state(file: Path) -> tuple[int, int]:
    now = file.stat()
    return now.st_size, now.st_mtime_ns


def _cannot_read(file: Path, error: OSError) -> InvalidInput:
    hint = "name a file of requests that this user may read"
    return InvalidInput(Problem(file=str(file), fact=f"cannot be read: {error.strerror}", hint=hint))


class _CannotKeep(Exception):
    """A temporary file's error, told from those of the input."""


class _Names:
    def __init__(self, folder: Path, files: ExitStack) -> None:
        self._folder = folder
        self._files = files
        self._parts = [bytearray() for _ in range(PARTS)]
        self._kept: dict[int, IO[bytes]] = {}

    def add(self, number: int, name: str) -> None:
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()
        part = self._parts[digest[0]]
        part += digest + number.to_bytes(NUMBER_BYTES, "big")
        if len(part) >= PART_BYTES:
            self._keep(digest[0])

    def repeated(self) -> Numbers:
        found = Numbers()
        for index in range(PARTS):
            seen: set[bytes] = set()
            for digest, number in self._entries(index):
                if digest in seen:
                    found.add(number)
                seen.add(digest)
        return found

    def _keep(self, index: int) -> None:
        try:
            if index not in self._kept:
                file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 # the stack closes it
                self._kept[index] = self._files.enter_context(file)
            self._kept[index].write(self._parts[index])
        except OSError as error:
            raise _CannotKeep from error
        self._parts[index].clear()

    def _entries(self, index: int) -> Iterator[tuple[bytes, int]]:
        """In the order of their lines."""
        try:
            text = bytes(self._parts[index])
            if index in self._kept:
                self._kept[index].seek(0)
                text = self._kept[index].read() + text
        except OSError as error:
            raise _CannotKeep from error
        size = DIGEST_BYTES + NUMBER_BYTES
        for start in range(0, len(text), size):
            yield text[start : start + DIGEST_BYTES], int.from_bytes(text[start + DIGEST_BYTES : start + size], "big")
