"""docker/engine/middleware: an engine that Docker has asked to stop. The application and vLLM's end are the test's."""

import asyncio
import importlib
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def module() -> Iterator[ModuleType]:
    """Imported as inside the container: flat, from its own folder."""
    sys.path.insert(0, str(ROOT / "docker/engine/middleware"))
    try:
        yield importlib.import_module("vllmstack_ending")
    finally:
        sys.path.remove(str(ROOT / "docker/engine/middleware"))
        sys.modules.pop("vllmstack_ending", None)


class Server:
    """An API server's loop with the middleware in it; its own end is a mark."""

    def __init__(self, module: ModuleType) -> None:
        self.may_answer = asyncio.Event()
        self.ended = asyncio.Event()
        self.middleware = module.Ending(self.application)
        self.left_unread = 0
        loop = asyncio.get_running_loop()
        # As vLLM's launcher does.
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.ended.set)

    async def application(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope.get("path") == "/v1/completions":
            await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"vLLM's"})

    async def ask(self, method: str, path: str, pieces: int = 1) -> SimpleNamespace:
        sent: list[dict[str, Any]] = []
        body = [{"type": "http.request", "body": b"{}", "more_body": left > 0} for left in reversed(range(pieces))]

        async def receive() -> dict[str, Any]:
            return body.pop(0)

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.middleware({"type": "http", "method": method, "path": path}, receive, send)
        self.left_unread = len(body)
        return SimpleNamespace(status=sent[0]["status"], headers=dict(sent[0]["headers"]), body=sent[1]["body"])


def serving(module: ModuleType, story: Callable[[Server], Awaitable[None]]) -> None:
    """Runs the story on a server that has answered already, and puts the process's signals back."""

    async def run() -> None:
        server = Server(module)
        assert (await server.ask("GET", "/health")).status == 200
        await asyncio.wait_for(story(server), timeout=20)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        asyncio.run(run())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def until_ending(server: Server) -> None:
    while not server.middleware.ends:
        await asyncio.sleep(0.001)


def test_what_came_in_before_is_answered_before_vllm_ends(module: ModuleType) -> None:
    async def story(server: Server) -> None:
        asked = asyncio.create_task(server.ask("POST", "/v1/completions"))
        await asyncio.sleep(0)
        signal.raise_signal(signal.SIGTERM)
        await until_ending(server)
        assert not server.ended.is_set()
        server.may_answer.set()
        assert (await asked).body == b"vLLM's"
        await server.ended.wait()

    serving(module, story)


def test_what_comes_in_after_is_refused_with_the_gateways_words(module: ModuleType) -> None:
    async def story(server: Server) -> None:
        asked = asyncio.create_task(server.ask("POST", "/v1/completions"))
        await asyncio.sleep(0)
        signal.raise_signal(signal.SIGTERM)
        await until_ending(server)
        refused = await server.ask("POST", "/v1/completions", pieces=3)
        assert (refused.status, refused.headers[b"retry-after"], server.left_unread) == (503, b"1", 0)
        assert json.loads(refused.body)["error"]["code"] == "no_replica_available"
        assert refused.headers[b"content-length"] == str(len(refused.body)).encode()
        server.may_answer.set()
        await asked

    serving(module, story)


def test_health_says_that_it_ends_and_the_metrics_go_on(module: ModuleType) -> None:
    async def story(server: Server) -> None:
        signal.raise_signal(signal.SIGTERM)
        await until_ending(server)
        health = await server.ask("GET", "/health")
        assert (health.status, health.body) == (503, b"ending")
        assert (await server.ask("GET", "/metrics")).status == 200

    serving(module, story)


def test_an_idle_engine_ends_at_once(module: ModuleType) -> None:
    async def story(server: Server) -> None:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(server.ended.wait(), timeout=module.WAIT_SECONDS / 2)

    serving(module, story)


def test_vllm_is_not_waited_for_longer_than_the_limit(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.05)

    async def story(server: Server) -> None:
        asked = asyncio.create_task(server.ask("POST", "/v1/completions"))
        await asyncio.sleep(0)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # twice is once
        await server.ended.wait()
        server.may_answer.set()
        assert (await asked).body == b"vLLM's"

    serving(module, story)


def test_the_health_check_knows_its_word(module: ModuleType) -> None:
    assert f"ENDING = {module.HEALTH!r}".replace("'", '"') in (ROOT / "docker/engine/health.py").read_text()
