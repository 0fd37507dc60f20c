"""Keeps streams open and counts what comes, at little cost; prints JSON.

    python scripts/bench_gateway_client.py URL [URL …] --streams 128 --events 200 --requests 1000

Streams begin evenly over --ramp seconds, on connections that are kept; each sends its next request when the last
answer has ended, until --requests are done. Several URLs take turns. A line `started` is printed when every stream has
its first event.
"""

import argparse
import asyncio
import json
import resource
import sys
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.bench_gateway_bodies import bodies, http_request

END = b"0\r\n\r\n"


class Tally:
    """What all streams saw."""

    def __init__(self, requests: int, streams: int) -> None:
        self.to_send = requests
        self.awaited = streams
        """Streams without a first event so far."""
        self.sent = 0
        self.ended = 0
        self.events = 0
        self.ttft_seconds: list[float] = []
        self.errors: dict[str, int] = {}
        self.finished = asyncio.Event()
        self.streams_left = streams

    def fail(self, what: str) -> None:
        """Counts an answer that is not one."""
        self.errors[what] = self.errors.get(what, 0) + 1


class Stream(asyncio.Protocol):
    """One connection: a request, its events, the next request."""

    def __init__(self, tally: Tally, requests: "cycle[bytes]", events: int) -> None:
        self._tally = tally
        self._requests = requests
        self._events = events
        self._seen = 0
        self._open = False
        self._first_ever = True
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The first request."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 # asyncio's own type is wider than what it gives
        self._transport = transport
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        """In the middle of an answer it is a failure."""
        if self._open:
            self._tally.fail(f"connection lost: {error or 'closed'}")
        self._tally.streams_left -= 1
        if self._tally.streams_left == 0:
            self._tally.finished.set()

    def data_received(self, data: bytes) -> None:
        """Counts events; an answer ends with the last HTTP chunk."""
        tally = self._tally
        data = self._tail + data
        events = data.count(b"data: {")
        # A mark that is cut in two is counted with what follows.
        self._tail = data[-6:] if events == 0 or not data.endswith(b"\n\n\r\n") else b""
        if self._seen == 0:
            if not data.startswith(b"HTTP/1.1 200"):
                tally.fail(data.split(b"\r\n", 1)[0].decode("latin-1"))
                self._open = False
                self._transport.abort()
                return
            if events == 0:
                self._tail = data
                return
            tally.ttft_seconds.append(perf_counter() - self._sent_at)
            if self._first_ever:
                self._first_ever = False
                tally.awaited -= 1
                if tally.awaited == 0:
                    print("started", flush=True)
        self._seen += events
        if data.endswith(END):
            self._tail = b""
            self._open = False
            tally.ended += 1
            tally.events += self._seen
            if self._seen != self._events:
                tally.fail(f"{self._seen} of {self._events} events")
            self._next()

    def _next(self) -> None:
        tally = self._tally
        if tally.sent == tally.to_send:
            self._transport.close()
            return
        tally.sent += 1
        self._seen = 0
        self._open = True
        self._sent_at = perf_counter()
        self._transport.write(next(self._requests))


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """All requests."""
    loop = asyncio.get_running_loop()
    tally = Tally(options.requests, options.streams)
    urls = [urlsplit(url) for url in options.urls]
    requests = cycle([http_request(urls[0].netloc, body) for body in bodies(stream=True, max_tokens=options.events)])
    for number in range(options.streams):
        url = urls[number % len(urls)]
        await loop.create_connection(lambda: Stream(tally, requests, options.events), url.hostname, url.port)
        await asyncio.sleep(options.ramp / options.streams)
    await tally.finished.wait()
    ordered = sorted(tally.ttft_seconds)
    return {
        "requests": tally.ended,
        "events": tally.events,
        "errors": tally.errors,
        "ttft_p50_seconds": ordered[len(ordered) // 2] if ordered else None,
        "ttft_p99_seconds": ordered[int(len(ordered) * 0.99)] if ordered else None,
    }


def main() -> int:
    """1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("urls", nargs="+")
    parser.add_argument("--streams", type=int, default=128)
    parser.add_argument("--events", type=int, default=200, help="of one answer")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--ramp", type=float, default=1.0, help="seconds in which the streams begin")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    found = asyncio.run(run(options))
    print(json.dumps(found), flush=True)
    return 1 if found["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
