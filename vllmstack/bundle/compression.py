"""gzip on every core: a stream in blocks, each a gzip member of its own, which every reader of gzip takes as one file.

RFC 1952, 2.2: a gzip file is a series of members. It is what `pigz --independent` writes.
"""

import gzip
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

BLOCK_BYTES = 4 << 20
LEVEL = 1
"""An image is halved by it; level 6 takes four times as long for a tenth less."""


def gzipped(chunks: Iterable[bytes], *, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The same bytes for the same content, however it is cut into chunks; memory for two blocks a core."""
    workers = os.cpu_count() or 1
    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for block in _blocks(chunks, block_bytes):
                waiting.append(pool.submit(gzip.compress, block, LEVEL, mtime=0))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()


def _blocks(chunks: Iterable[bytes], block_bytes: int) -> Iterator[bytes]:
    kept = bytearray()
    for chunk in chunks:
        kept += chunk
        while len(kept) >= block_bytes:
            yield bytes(kept[:block_bytes])
            del kept[:block_bytes]
    if kept:
        yield bytes(kept)
