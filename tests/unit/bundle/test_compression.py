"""gzip in blocks: one file to whoever reads it."""

import gzip
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest

from vllmstack.bundle.compression import gzipped

pytestmark = pytest.mark.slow

CONTENT = bytes(range(256)) * 1000


def test_what_is_compressed_is_read_as_one_file() -> None:
    packed = list(gzipped([CONTENT[:70_000], CONTENT[70_000:]], block_bytes=50_000))

    assert len(packed) == 6
    assert gzip.decompress(b"".join(packed)) == CONTENT


@pytest.mark.skipif(shutil.which("gzip") is None, reason="this machine has no gzip")
def test_gzip_itself_reads_it() -> None:
    packed = b"".join(gzipped([CONTENT], block_bytes=1000))

    assert subprocess.run(["gzip", "-dc"], input=packed, capture_output=True, check=True).stdout == CONTENT


def test_the_same_content_gives_the_same_bytes_however_it_comes() -> None:
    whole = b"".join(gzipped([CONTENT], block_bytes=4096))
    time.sleep(1.1)  # a gzip header may hold the time in seconds

    assert (
        b"".join(gzipped((CONTENT[place : place + 7777] for place in range(0, len(CONTENT), 7777)), block_bytes=4096))
        == whole
    )


def test_nothing_is_nothing() -> None:
    assert list(gzipped([])) == []


def test_it_reads_only_a_few_blocks_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    taken = 0

    def blocks() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield b"x" * 1000

    packed = gzipped(blocks(), block_bytes=1000)
    next(packed)

    assert taken == 5
    packed.close()  # type: ignore[attr-defined]


def test_what_fails_while_it_is_read_is_raised() -> None:
    def broken() -> Iterator[bytes]:
        yield CONTENT
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(gzipped(broken()))
