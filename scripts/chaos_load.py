"""Requests at a steady rate, while something breaks: what became of each, and whether it had received a byte by then.

Sockets of its own, a connection a request: an HTTP library would try again, or not tell a connection that was closed
before the first byte from one that was closed after it.
"""

import asyncio
import itertools
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Self

LIMIT_SECONDS = 120.0
"""Of one request: a replica that hangs is ended after 20 s and more, and another one then answers."""
MOST_IN_FLIGHT = 64
HEAD_END = b"\r\n\r\n"


@dataclass(kw_only=True)
class Request:
    """One of them. Times are of the monotonic clock."""

    streamed: bool
    sent: float
    first_byte: float | None = None
    ended: float | None = None
    status: int | None = None
    error: str = ""
    """Empty: it was answered in full."""

    @property
    def failed_before_a_byte(self) -> bool:
        """The client has nothing of an answer: an error of the gateway's counts as nothing."""
        return bool(self.error) and (self.first_byte is None or self.status != 200)

    @property
    def cut(self) -> bool:
        """An answer had begun and did not end."""
        return bool(self.error) and not self.failed_before_a_byte


@dataclass(kw_only=True)
class Load:
    """A context manager: within the block requests are sent; after it all have ended."""

    port: int
    model: str
    rate: float
    tokens: int
    host: str = "127.0.0.1"
    key: str | None = None
    requests: list[Request] = field(default_factory=list)
    """In the order that they were sent; those in flight have not ended."""
    _enough: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        if self._thread:
            self._thread.join()

    @property
    def in_flight(self) -> int:
        """Sent and not ended."""
        return sum(request.ended is None for request in self.requests[-2 * MOST_IN_FLIGHT :])

    def between(self, since: float, until: float) -> list[Request]:
        """Those that were in flight at any time of this span, and have ended."""
        return [
            request for request in self.requests if request.ended and request.sent < until and request.ended > since
        ]

    async def _send(self) -> None:
        tasks: set[asyncio.Task[None]] = set()
        started = time.monotonic()
        for number in itertools.count():
            await asyncio.sleep(max(0.0, started + number / self.rate - time.monotonic()))
            if self._enough.is_set():
                break
            if len(tasks) < MOST_IN_FLIGHT:
                task = asyncio.create_task(self._ask(number))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    async def _ask(self, number: int) -> None:
        request = Request(streamed=number % 2 == 0, sent=time.monotonic())
        self.requests.append(request)
        prompt = f"Request {number}: what is the capital of France? Then count from {number % 50}."
        await ask(request, self, prompt=prompt, tokens=self.tokens)


async def ask(request: Request, load: Load, *, prompt: str, tokens: int) -> None:
    """Sends one request and fills in what becomes of it."""
    body = {
        "model": load.model, "prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "stream": request.streamed,
    }  # fmt: skip
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            request.error = await _exchange(request, load, json.dumps(body).encode())
    except TimeoutError:
        request.error = f"no end within {LIMIT_SECONDS:.0f} s"
    except OSError as error:
        request.error = str(error) or type(error).__name__
    request.ended = time.monotonic()


async def _exchange(request: Request, load: Load, body: bytes) -> str:
    """What is wrong with the answer; empty: nothing."""
    reader, writer = await asyncio.open_connection(load.host, load.port)
    key = f"Authorization: Bearer {load.key}\r\n" if load.key else ""
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: chaos\r\nContent-Type: application/json\r\n{key}"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    answer = b""
    try:
        writer.write(head.encode() + body)
        await writer.drain()
        while part := await reader.read(65536):
            request.first_byte = request.first_byte or time.monotonic()
            answer += part
            if request.status is None and answer.startswith(b"HTTP/1.1 ") and len(answer) >= 12:
                request.status = int(answer[9:12])
    finally:
        writer.close()
    return complaint(answer, streamed=request.streamed)


def complaint(answer: bytes, *, streamed: bool) -> str:
    """What is wrong with a whole answer as it came over the wire; empty: nothing."""
    head, end, body = answer.partition(HEAD_END)
    if not end:
        return "closed within the header" if answer else "closed without a byte"
    if not head.startswith(b"HTTP/1.1 200"):
        return f"{head[9:12].decode()}: {body[:200].decode(errors='replace')}"
    if not _whole(head.lower(), body):
        return "closed before the end"
    if streamed and b"data: [DONE]" not in body:
        return "the stream ended without its last event"
    # An engine that dies, or is stopped, may still end its answers in good form.
    broken = b'"error":' in body or b'"finish_reason":"abort"' in body
    return f"ended by the engine: {body[-200:].decode(errors='replace')}" if broken else ""


def _whole(head: bytes, body: bytes) -> bool:
    """Whether the body is as long as the header says."""
    if b"transfer-encoding: chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    lengths = [int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
    return lengths == [len(body)]
