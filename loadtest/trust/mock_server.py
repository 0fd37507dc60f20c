"""The built-in mock of an OpenAI server whose times are known: ``python -m loadtest.trust.mock_server --port 0``.

It prints one line of JSON with its ``port`` and ``pid`` once it listens. Beside vLLM's endpoints: ``GET /mock/truth``
(what it really did, as percentiles), ``POST /mock/reset`` and ``POST /mock/stall?seconds=2``. A request's body may say
how it is to be answered: ``"mock": {"ttft_seconds": 0.2, "error_after": 5}``, see Behaviour.
"""

import asyncio
import gc
import json
import os
import signal
import ssl
from argparse import ArgumentParser, Namespace
from http import HTTPStatus
from pathlib import Path
from time import perf_counter, process_time
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import orjson
from pydantic import ValidationError

from loadtest.errors import LoadTestError
from loadtest.trust.mock_answers import Writer, embeddings, error_body
from loadtest.trust.mock_engine import Answer, Engine, Stream, Whole
from loadtest.trust.mock_metrics import Tally
from loadtest.trust.mock_requests import BadRequest, Behaviour, understand, what_is_wrong
from loadtest.workload.steps import CHAT, COMPLETIONS, EMBEDDINGS
from vllmstack.errors import Problem

_JSON = "application/json"
_KINDS = {400: "BadRequestError", 401: "AuthenticationError", 404: "NotFoundError", 429: "RateLimitError"}


class MockServer:
    """What all connections share."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, model: str, behaviour: Behaviour, slots: int | None, queue: int | None
    ) -> None:
        self.tally = Tally(model)
        self.engine = Engine(loop, self.tally, slots=slots, queue=queue)
        self.behaviour = behaviour
        self.api_key: str | None = None


class Connection(asyncio.Protocol):
    """One connection: one request after the other."""

    def __init__(self, server: MockServer) -> None:
        self._server = server
        self._received = b""
        self._answer: Answer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # asyncio's own type is wider than what it gives
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """Gives up what the client no longer waits for."""
        if self._answer is not None:
            self._server.engine.abandon(self._answer)

    def data_received(self, data: bytes) -> None:
        """Answers when a request is complete. One that is sent before the answer to the last one ended has to wait."""
        at = perf_counter()
        self._received += data
        self._read(at)

    def _read(self, at: float) -> None:
        while self._answer is None or self._answer.over:
            head, blank_line, rest = self._received.partition(b"\r\n\r\n")
            if not blank_line:
                return
            request_line, *lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            length = int(headers.get("content-length", 0))
            if len(rest) < length:
                if headers.get("expect", "").lower() == "100-continue" and not rest:
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            self._received = rest[length:]
            self._answer = None
            method, target, _version = request_line.split(" ")
            self._route(method, target, headers, rest[:length], at)

    def _route(self, method: str, target: str, headers: dict[str, str], body: bytes, at: float) -> None:
        url = urlsplit(target)
        identity = headers.get("x-request-id") or uuid4().hex
        tally = self._server.tally
        key = self._server.api_key
        if key is not None and url.path.startswith("/v1/") and headers.get("authorization") != f"Bearer {key}":
            self._refuse(401, "Unauthorized", identity)
        elif url.path in (CHAT, COMPLETIONS, EMBEDDINGS) and method == "POST":
            self._generate(url.path, body, identity, at)
        elif url.path == "/health":
            self._respond(b"", identity)
        elif url.path == "/v1/models":
            entry = {"id": tally.model, "object": "model", "owned_by": "mock", "max_model_len": 131072}
            self._respond(orjson.dumps({"object": "list", "data": [entry]}), identity)
        elif url.path == "/metrics":
            self._respond(tally.exposition(), identity, kind="text/plain; version=0.0.4; charset=utf-8")
        elif url.path == "/mock/truth":
            self._respond(orjson.dumps({**tally.truth(), "cpu_seconds": process_time()}), identity)
        elif url.path == "/mock/reset":
            tally.reset()
            self._respond(b"{}", identity)
        elif url.path == "/mock/stall":
            self._server.engine.stall(float(dict(parse_qsl(url.query)).get("seconds", 1)))
            self._respond(b"{}", identity)
        else:
            self._refuse(404, "Not Found", identity)

    def _generate(self, path: str, body: bytes, identity: str, at: float) -> None:
        server = self._server
        try:
            asked = understand(path, body, server.behaviour)
        except BadRequest as error:
            self._refuse(400, str(error), identity)
            return
        behaviour = asked.behaviour
        if asked.model != server.tally.model:
            self._refuse(404, f"The model `{asked.model}` does not exist.", identity)
            return
        if behaviour.status != HTTPStatus.OK:
            self._refuse(behaviour.status, behaviour.message, identity)
            return
        if behaviour.html:
            self._respond(b"<html><body>It works!</body></html>", identity, kind="text/html")
            return

        def respond(body: bytes) -> None:
            self._respond(body, identity)

        answer: Answer
        if path == EMBEDDINGS:
            answer = Whole(asked, respond, lambda: embeddings(asked), tokens=0, arrived_at=at)
        elif not asked.streamed:
            answer = Whole(asked, respond, Writer(asked).whole, tokens=asked.max_tokens, arrived_at=at)
        else:
            writer = Writer(asked)
            answer = Stream(asked, writer, self._transport.write, self._transport.abort, arrived_at=at)
        if not server.engine.submit(answer):
            self._refuse(429, "Too many requests wait already.", identity)
            return
        self._answer = answer
        if isinstance(answer, Stream):
            head = _head(
                200, identity, {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"}
            )
            self._transport.write(head + (writer.opening() if behaviour.role_early else b""))

    def _refuse(self, status: int, message: str, identity: str) -> None:
        self._respond(error_body(status, message, _KINDS.get(status, "InternalServerError")), identity, status=status)

    def _respond(self, body: bytes, identity: str, *, status: int = 200, kind: str = _JSON) -> None:
        headers = {"content-type": kind, "content-length": str(len(body))}
        self._transport.write(_head(status, identity, headers) + body)


def _head(status: int, identity: str, headers: dict[str, str]) -> bytes:
    reason = HTTPStatus(status).phrase
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} {reason}\r\nserver: mock\r\nx-request-id: {identity}\r\n{lines}\r\n".encode()


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m loadtest.trust.mock_server", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--model", default="mock", help="the name it serves")
    parser.add_argument("--ttft-seconds", type=float, default=0.1)
    parser.add_argument("--itl-seconds", type=float, default=0.01)
    parser.add_argument("--behaviour", default="{}", help="JSON: how every request is answered that does not say")
    parser.add_argument("--slots", type=int, help="requests served at once; the others wait")
    parser.add_argument("--queue", type=int, help="requests that may wait; more are refused with 429")
    parser.add_argument("--stall-at", type=float, help="seconds after the first request")
    parser.add_argument("--stall-seconds", type=float, default=2.0)
    parser.add_argument("--api-key-file", type=Path, help="only this key is let in")
    parser.add_argument("--certificate", type=Path, help="PEM with certificate and key: serves https")
    parser.add_argument("--lifetime-seconds", type=float, help="ends by itself after this long")
    return parser.parse_args()


async def _serve(options: Namespace, behaviour: Behaviour) -> None:
    loop = asyncio.get_running_loop()
    server = MockServer(loop, model=options.model, behaviour=behaviour, slots=options.slots, queue=options.queue)
    if options.api_key_file is not None:
        server.api_key = options.api_key_file.read_text().strip()
    if options.stall_at is not None:
        server.engine.stall_later(options.stall_at, options.stall_seconds)
    context = None
    if options.certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.certificate)
    listener = await loop.create_server(
        lambda: Connection(server), options.host, options.port, backlog=4096, ssl=context
    )
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if options.lifetime_seconds is not None:
        loop.call_later(options.lifetime_seconds, ended.set)
    print(json.dumps({"port": listener.sockets[0].getsockname()[1], "pid": os.getpid()}), flush=True)
    await ended.wait()
    listener.close()
    server.engine.close()


def main() -> None:
    """Serves until SIGTERM, SIGINT or the end of its lifetime."""
    options = _options()
    times = {"ttft_seconds": options.ttft_seconds, "itl_seconds": options.itl_seconds}
    try:
        behaviour = Behaviour(**{**times, **json.loads(options.behaviour)})
    except (ValueError, TypeError) as error:
        fact = what_is_wrong(error) if isinstance(error, ValidationError) else str(error)
        problem = Problem(place="--behaviour", fact=fact, hint="its fields are in loadtest/trust/mock_requests.py")
        raise SystemExit(str(LoadTestError(problem))) from error
    # A full collection of all that was imported takes as long as several chunks.
    gc.collect()
    gc.freeze()
    asyncio.run(_serve(options, behaviour))


if __name__ == "__main__":
    main()
