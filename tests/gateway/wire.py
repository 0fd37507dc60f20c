"""A client that writes bytes as they are and reads what comes back, however little it is what was asked for."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.gateway.fuzzing import Case

PATIENCE_SECONDS = 30
"""Longer than any timeout of the gateway's: what takes longer will never end."""

QUIET_SECONDS = 0.4
"""After which a client that has sent no whole request says that nothing more comes."""


@dataclass(frozen=True)
class Answer:
    """One answer. Its status is 0 where it has no head: HTTP/0.9."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body; None where it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass
class Outcome:
    """What became of a case."""

    case: Case
    answers: list[Answer] = field(default_factory=list)
    failure: str = ""
    """Why it has no end that HTTP knows."""


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int(await reader.readline(), 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    await reader.readline()
    return b"".join(parts)


async def read_answer(reader: asyncio.StreamReader) -> Answer | None:
    """The next answer; None where the connection has ended.

    Raises:
        asyncio.IncompleteReadError: it ended in the middle of one.
        ValueError: what came is no answer.
    """
    while True:
        first = await reader.readline()
        if first == b"":
            return None
        if not first.startswith(b"HTTP/1.1 "):
            return Answer(0, {}, first + await reader.read(-1))
        headers: dict[str, str] = {}
        while (line := (await reader.readline()).decode("latin-1").strip()) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        status = int(first[9:12])
        if status >= 200:
            break
    if "chunked" in headers.get("transfer-encoding", ""):
        return Answer(status, headers, await _chunks(reader))
    if "content-length" in headers:
        return Answer(status, headers, await reader.readexactly(int(headers["content-length"])))
    return Answer(status, headers, await reader.read(-1))


@asynccontextmanager
async def connected(host: str, port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection, cut off at the end."""
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 24)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _written(writer: asyncio.StreamWriter, case: Case) -> None:
    for piece in case.pieces:
        writer.write(piece)
        await writer.drain()
        if case.pause_seconds:
            await asyncio.sleep(case.pause_seconds)


async def _alone(host: str, port: int, outcome: Outcome) -> None:
    """A case with a connection of its own, read until the gateway closes it."""
    case = outcome.case
    left = False
    async with connected(host, port) as (reader, writer):
        writing = asyncio.create_task(_written(writer, case))
        try:
            while True:
                reading = asyncio.ensure_future(read_answer(reader))
                if case.cut and len(outcome.answers) >= len(case.bodies):
                    done, _ = await asyncio.wait({reading}, timeout=QUIET_SECONDS)
                    if not done and writer.can_write_eof():
                        writer.write_eof()
                        left = True
                answer = await asyncio.wait_for(reading, PATIENCE_SECONDS)
                if answer is None:
                    return
                outcome.answers.append(answer)
        except asyncio.IncompleteReadError:
            if not left:  # an answer that is late, on a busy machine, has nobody any more to go to
                raise
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)


async def _kept(host: str, port: int, outcomes: "asyncio.Queue[Outcome]") -> None:
    """Cases that are one request each, one after the other on connections that are kept as long as the gateway does."""
    while not outcomes.empty():
        async with connected(host, port) as (reader, writer):
            while not outcomes.empty():
                outcome = outcomes.get_nowait()
                writing = asyncio.create_task(_written(writer, outcome.case))
                try:
                    answer = await asyncio.wait_for(read_answer(reader), PATIENCE_SECONDS)
                except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as problem:
                    outcome.failure = repr(problem)
                    break
                finally:
                    writing.cancel()
                    await asyncio.gather(writing, return_exceptions=True)
                if answer is None:
                    outcome.failure = "no answer"
                    break
                outcome.answers.append(answer)
                if answer.headers.get("connection") == "close":
                    break


async def _each(host: str, port: int, outcomes: "asyncio.Queue[Outcome]") -> None:
    while not outcomes.empty():
        outcome = outcomes.get_nowait()
        try:
            await _alone(host, port, outcome)
        except ConnectionResetError:
            pass  # closed, with what had not been read
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as problem:
            outcome.failure = repr(problem)


async def sent(host: str, port: int, cases: Iterable[Case], connections: int) -> list[Outcome]:
    """Sends all of them over so many connections at a time; those that are slow have one each beside."""
    outcomes = [Outcome(case) for case in cases]
    kept: asyncio.Queue[Outcome] = asyncio.Queue()
    alone: asyncio.Queue[Outcome] = asyncio.Queue()
    slow: asyncio.Queue[Outcome] = asyncio.Queue()
    for outcome in outcomes:
        case = outcome.case
        (kept if case.keeps else slow if case.stalls or case.pause_seconds else alone).put_nowait(outcome)
    workers = [_each(host, port, slow) for _ in range(slow.qsize())]
    workers += [
        work(host, port, queue) for work, queue in ((_kept, kept), (_each, alone)) for _ in range(connections // 2)
    ]
    await asyncio.gather(*workers)
    return outcomes
