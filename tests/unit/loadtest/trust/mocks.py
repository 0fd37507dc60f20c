"""The mock server in a thread of the test's own process, and plain HTTP to talk to it."""

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from loadtest.trust.mock_requests import Behaviour
from loadtest.trust.mock_server import Connection, MockServer
from loadtest.workload.steps import CHAT

QUICK = Behaviour(ttft_seconds=0.02, itl_seconds=0.005)


@dataclass
class Answer:
    """What came, and when it came: seconds since the request was sent."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    events: list[Any] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    sent_at: float = 0.0
    """``perf_counter``'s."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def chunks(self) -> list[tuple[float, dict[str, Any]]]:
        """Those with text."""
        return [
            (at, event)
            for at, event in zip(self.times, self.events, strict=True)
            if event != "[DONE]" and event.get("choices") and event["choices"][0]["delta"].get("content")
        ]


class Mock:
    """A running one."""

    def __init__(self, server: MockServer, loop: asyncio.AbstractEventLoop, port: int) -> None:
        self.server = server
        self.loop = loop
        self.port = port

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """One request on a connection of its own, read to its end."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = time.perf_counter()
        connection.request(method, path, data, headers or {})
        response = connection.getresponse()
        answer = Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, sent_at=sent)
        if "event-stream" in answer.headers["content-type"]:
            while line := response.readline():
                if line.startswith(b"data: "):
                    answer.times.append(time.perf_counter() - sent)
                    data = line[6:].strip()
                    answer.events.append("[DONE]" if data == b"[DONE]" else json.loads(data))
        else:
            answer.body = response.read()
        connection.close()
        return answer

    def chat(self, *, tokens: int = 3, content: Any = "three words here", stream: bool = True, **mock: Any) -> Answer:
        """A chat request; ``mock``: fields of Behaviour."""
        return self.ask("POST", CHAT, chat_body(tokens=tokens, content=content, stream=stream, **mock))

    def truth(self) -> Any:
        return self.ask("GET", "/mock/truth").json


def chat_body(
    *, tokens: int = 3, content: Any = "three words here", stream: bool = True, **mock: Any
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": "mock",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": tokens,
        "stream": stream,
    }
    if stream:
        body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    return body | ({"mock": mock} if mock else {})


@contextmanager
def running_mock(
    behaviour: Behaviour = QUICK,
    *,
    slots: int | None = None,
    queue: int | None = None,
    stall: tuple[float, float] | None = None,
) -> Iterator[Mock]:
    """Serves until the block ends."""
    loop = asyncio.new_event_loop()
    server = MockServer(loop, model="mock", behaviour=behaviour, slots=slots, queue=queue)
    if stall is not None:
        server.engine.stall_later(*stall)
    listener = loop.run_until_complete(loop.create_server(lambda: Connection(server), "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield Mock(server, loop, listener.sockets[0].getsockname()[1])
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        listener.close()
        server.engine.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@contextmanager
def asking(mock: Mock, count: int, **chat: Any) -> Iterator[list[Answer]]:
    """``count`` chat requests at once; the list is full when the block ends."""
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda: answers.append(mock.chat(**chat))) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        for thread in threads:
            thread.join()
