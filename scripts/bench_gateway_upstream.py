"""A replica that streams: events of 240 bytes at a steady pace, at little cost. Needs nothing but Python.

    python bench_gateway_upstream.py [--port 8000] [--interval-ms 10] [--first-ms 0]

A POST is answered with as many events as its `max_tokens` says, the first after --first-ms, the others --interval-ms
apart, `[DONE]` with the last; without `"stream": true` with one JSON body. `GET /metrics` tells what an engine would.
"""

import argparse
import asyncio
import gc
import json
import time
from collections import defaultdict

EVENT_BYTES = 240
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


def framed(event: bytes) -> bytes:
    """As an HTTP chunk."""
    return b"%x\r\n%s\r\n" % (len(event), event)


def event() -> bytes:
    """One token's, in vLLM's shape, padded to its length."""
    delta = {"index": 0, "delta": {"content": " token"}, "logprobs": None, "finish_reason": None}
    body = {"id": "chatcmpl-0123456789abcdef", "object": "chat.completion.chunk", "created": 1, "model": "smoke"}
    text = "data: " + json.dumps({**body, "choices": [delta]}, separators=(",", ":"))
    return (text + " " * (EVENT_BYTES - len(text) - 2) + "\n\n").encode()


EVENT = framed(event())
DONE = framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"
USAGE = {"prompt_tokens": 500, "completion_tokens": 1, "total_tokens": 501}
CHOICE = {"index": 0, "text": "x", "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
WHOLE = json.dumps({"id": "x", "object": "chat.completion", "choices": [CHOICE], "usage": USAGE}).encode()


class Pace:
    """Writes each stream's next event when it is due, to the millisecond; one timer for all of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, interval_ms: int, first_ms: int) -> None:
        self._loop = loop
        self._interval = interval_ms
        self._first = first_ms
        self._due: defaultdict[int, list[Stream]] = defaultdict(list)
        self._tick = self._now()
        self.running = 0
        self.events = 0
        loop.call_later(0.001, self._turn)

    def begin(self, stream: "Stream") -> None:
        """The first event now, or when it is due."""
        self.running += 1
        if self._first:
            self._due[self._now() + self._first].append(stream)
        else:
            self._send(stream, self._now())

    def _now(self) -> int:
        return int(self._loop.time() * 1000)

    def _send(self, stream: "Stream", tick: int) -> None:
        if stream.gone:
            self.running -= 1
            return
        stream.left -= 1
        self.events += 1
        if stream.left > 0:
            stream.transport.write(EVENT)
            self._due[tick + self._interval].append(stream)
        else:
            stream.transport.write(EVENT + DONE)
            self.running -= 1

    def _turn(self) -> None:
        now = self._now()
        while self._tick <= now:
            for stream in self._due.pop(self._tick, ()):
                self._send(stream, self._tick)
            self._tick += 1
        self._loop.call_later(0.001, self._turn)


class Stream:
    """What is left to write."""

    __slots__ = ("gone", "left", "transport")

    def __init__(self, transport: asyncio.Transport, events: int) -> None:
        self.transport = transport
        self.left = events
        self.gone = False


class Connection(asyncio.Protocol):
    """One request after the other."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._received = b""
        self._stream: Stream | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 # asyncio's own type is wider than what it gives
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """Nobody reads any more."""
        if self._stream is not None:
            self._stream.gone = True

    def data_received(self, data: bytes) -> None:
        """Answers when a request is complete."""
        self._received += data
        head, blank_line, body = self._received.partition(b"\r\n\r\n")
        if not blank_line:
            return
        lower = head.lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(body) < length:
            return
        self._received = body[length:]
        if head.startswith(b"POST"):
            self._answer(json.loads(body[:length]))
        elif head.startswith(b"GET /metrics"):
            self._whole(self._metrics(), b"text/plain; version=0.0.4")
        else:
            self._whole(b'{"object":"list","data":[{"id":"smoke","object":"model","created":1}]}')

    def _answer(self, asked: dict[str, object]) -> None:
        if not asked.get("stream"):
            self._whole(WHOLE)
            return
        self._stream = Stream(self._transport, int(str(asked.get("max_tokens", 1))))
        self._transport.write(HEAD)
        self._pace.begin(self._stream)

    def _whole(self, body: bytes, kind: bytes = b"application/json") -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n" % (kind, len(body))
        self._transport.write(head + body)

    def _metrics(self) -> bytes:
        values = {
            "vllm:num_requests_running": self._pace.running,
            "vllm:num_requests_waiting": 0,
            "vllm:generation_tokens_total": self._pace.events,
        }
        return "".join(f'{name}{{engine="0"}} {value}\n' for name, value in values.items()).encode()


async def serve(options: argparse.Namespace) -> None:
    """Until it is killed."""
    loop = asyncio.get_running_loop()
    pace = Pace(loop, options.interval_ms, options.first_ms)
    host = "0.0.0.0"  # noqa: S104 - its container's only address
    server = await loop.create_server(lambda: Connection(pace), host, options.port, backlog=4096)
    print(f"listens since {time.time():.0f}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Serves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--interval-ms", type=int, default=10, help="between events")
    parser.add_argument("--first-ms", type=int, default=0, help="until the first event")
    gc.freeze()
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
