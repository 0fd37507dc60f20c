"""One chat over one connection, timed: little enough work that hundreds a second disturb no engine beside it."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What came back."""

    status: int
    """0: no answer, or one that broke off."""
    head_seconds: float
    """From sending until the status line."""
    ttft_seconds: float | None
    """Until the first event; None where there was none."""
    seconds: float
    text: str
    tokens: int
    """Of the answer, as the engine counts them."""


async def ask(
    url: str,
    *,
    model: str,
    messages: Sequence[Mapping[str, str]],
    max_tokens: int,
    headers: Mapping[str, str] | None = None,
) -> Answered:
    """Streams an answer of just ``max_tokens`` tokens, as HTTP/1.0: no chunks to unpack, and the end is the end."""
    body = json.dumps(
        {
            "model": model, "messages": messages, "stream": True, "max_tokens": max_tokens, "ignore_eos": True,
            "temperature": 0, "stream_options": {"include_usage": True},
        }
    ).encode()  # fmt: skip
    address = urlsplit(url)
    fields = {
        "Host": address.netloc,
        "Content-Type": "application/json",
        "Content-Length": len(body),
        **(headers or {}),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    begun = perf_counter()
    seen = _Seen()
    writer = None
    with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.write(f"POST /v1/chat/completions HTTP/1.0\r\n{head}\r\n".encode() + body)
            await _read(reader, seen, begun)
    if writer is not None:
        writer.close()
    whole = seen.status != 200 or seen.done
    return Answered(
        status=seen.status if whole else 0,
        head_seconds=seen.head_seconds,
        ttft_seconds=seen.ttft_seconds,
        seconds=perf_counter() - begun,
        text="".join(seen.parts),
        tokens=seen.tokens,
    )


class _Seen:
    def __init__(self) -> None:
        self.status = 0
        self.head_seconds = 0.0
        self.ttft_seconds: float | None = None
        self.parts: list[str] = []
        self.tokens = 0
        self.done = False


async def _read(reader: asyncio.StreamReader, seen: _Seen, begun: float) -> None:
    status_line = await reader.readuntil(b"\r\n")
    seen.head_seconds = perf_counter() - begun
    seen.status = int(status_line.split()[1])
    await reader.readuntil(b"\r\n\r\n")
    while line := await reader.readline():
        if not line.startswith(b"data: "):
            continue
        if seen.ttft_seconds is None:
            seen.ttft_seconds = perf_counter() - begun
        if line.startswith(b"data: [DONE]"):
            seen.done = True
            continue
        event: dict[str, Any] = json.loads(line[6:])
        seen.parts += [choice["delta"].get("content") or "" for choice in event.get("choices", ())]
        if event.get("usage"):
            seen.tokens = event["usage"]["completion_tokens"]
