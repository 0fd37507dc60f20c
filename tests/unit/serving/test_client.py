"""Clients of a server: what they measure, and what they do when it refuses, breaks off or is away."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.commands.test_chat import events
from tests.unit.conftest import FakeGateway
from vllmstack.errors import InvalidInput, StackError
from vllmstack.serving.client import Answer, AsyncClient, query_server

CHAT = "/v1/chat/completions"
Sequences = dict[str, list[tuple[int, str, str]]]


@pytest.fixture(autouse=True)
def answers(gateway: FakeGateway) -> None:
    gateway.answer(
        "/v1/models",
        json.dumps({"object": "list", "data": [{"id": "smoke", "object": "model", "created": 1, "owned_by": "x"}]}),
    )
    gateway.answer(CHAT, events("Par", "is", ".", tokens=4), kind="text/event-stream")


def asked(gateway: FakeGateway) -> list[dict[str, Any]]:
    return [json.loads(body) for path, _, body in gateway.requests if path == CHAT]


def ask(gateway: FakeGateway, prompt: str = "hi", **options: Any) -> Answer:
    made = {name: options.pop(name) for name in ("tries", "deadline_seconds") if name in options}

    async def run() -> Answer:
        async with AsyncClient(f"{gateway.url}/v1", **made) as asking:
            return await asking.chat(prompt, **options)

    return asyncio.run(run())


Ask = Callable[..., Answer]
BOTH = pytest.mark.parametrize(
    "way", [ask, lambda gateway, **more: query_server("hi", f"{gateway.url}/v1", **more)], ids=["async", "plain"]
)


@BOTH
def test_an_answer_has_its_text_and_its_times(way: Ask, gateway: FakeGateway) -> None:
    pieces: list[str] = []

    answer = way(gateway, on_text=pieces.append)

    assert (answer.text, answer.output_tokens, answer.prompt_tokens) == ("Paris.", 4, 3)
    assert pieces == ["Par", "is", "."]
    assert answer.ttft_seconds is not None
    assert 0 < answer.ttft_seconds <= answer.seconds
    assert answer.tpot_seconds == pytest.approx((answer.seconds - answer.ttft_seconds) / 3)


@BOTH
def test_options_reach_the_server_and_its_first_model_is_asked(way: Ask, gateway: FakeGateway) -> None:
    way(gateway, max_tokens=9, temperature=0)

    (request,) = asked(gateway)
    assert (request["model"], request["max_tokens"], request["temperature"]) == ("smoke", 9, 0)
    assert request["messages"] == [{"role": "user", "content": "hi"}]


@BOTH
def test_a_refusal_is_told_in_the_servers_words(way: Ask, gateway: FakeGateway) -> None:
    gateway.answer(CHAT, json.dumps({"error": {"message": "no such thing"}}), status=400)

    with pytest.raises(StackError, match="no such thing"):
        way(gateway)

    assert len(asked(gateway)) == 1


def test_one_token_has_no_time_per_token() -> None:
    answer = Answer(text="a", finish_reason="", prompt_tokens=1, output_tokens=1, ttft_seconds=1, seconds=1)

    assert answer.tpot_seconds is None


def test_a_busy_server_is_asked_again_until_its_tries_are_used_up(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.uniform", lambda *_: 0.001)
    gateway.answer(CHAT, json.dumps({"error": {"message": "full"}}), status=429)

    with pytest.raises(StackError, match="full"):
        ask(gateway, tries=3)

    assert len(asked(gateway)) == 3


def test_what_the_gateway_says_not_to_repeat_is_not_repeated(gateway: FakeGateway) -> None:
    gateway.answer(CHAT, json.dumps({"error": {"message": "more than the key's quota"}}), status=429)
    gateway.headers["x-should-retry"] = "false"

    with pytest.raises(StackError, match="more than the key's quota"):
        ask(gateway)

    assert len(asked(gateway)) == 1


@pytest.mark.parametrize("status", [501, 529])
def test_every_failure_of_the_servers_own_is_repeated_after_the_pause_that_it_asks_for(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    slept: list[float] = []
    wait = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await wait(0)

    monkeypatch.setattr("vllmstack.serving.client.asyncio.sleep", sleep)
    gateway.answer(CHAT, json.dumps({"error": {"message": "full"}}), status=status)
    gateway.headers["Retry-After"] = "3"

    with pytest.raises(StackError, match="full"):
        ask(gateway, tries=3)

    assert [seconds for seconds in slept if seconds] == [3, 3]


def test_a_deadline_ends_all_tries(gateway: FakeGateway) -> None:
    gateway.answer(CHAT, json.dumps({"error": {"message": "full"}}), status=503)

    with pytest.raises(StackError, match=r"did not answer within 0\.2 s"):
        ask(gateway, deadline_seconds=0.2)


def test_one_that_fails_ends_none_of_the_others(gateway: FakeGateway) -> None:
    async def run() -> list[Answer | StackError]:
        async with AsyncClient(f"{gateway.url}/v1") as asking:
            good = await asking.chat_all(["a", "b"], max_tokens=3)
            gateway.answer(CHAT, json.dumps({"error": {"message": "no"}}), status=400)
            return [*good, *await asking.chat_all(["c"])]

    first, second, third = asyncio.run(run())

    assert isinstance(first, Answer)
    assert isinstance(second, Answer)
    assert isinstance(third, StackError)


def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(StackError, match=r"no answer from http://127\.0\.0\.1:9/v1"):
        query_server("hi", "http://127.0.0.1:9/v1", model="m")


@pytest.mark.parametrize("url", ["http://localhost:port", "http://[::1", "http://127.0.0.1:80000/v1"])
def test_what_is_no_address_is_told(url: str) -> None:
    with pytest.raises(InvalidInput, match="is no address"):
        query_server("hi", url, model="m")
    with pytest.raises(InvalidInput, match="is no address"):
        AsyncClient(url)


@pytest.fixture
def cut() -> Iterator[str]:
    """A server whose stream ends in its midst; it counts who comes in the path's place."""
    whole = events("Par", tokens=1).split("data: ")[1:3]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(text), text) for text in (f"data: {one}".encode() for one in whole))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection, connection.makefile("rb") as asked:
                    # All of it: to close with something unread is a reset, which may overtake the answer.
                    headers = {line.split(b":")[0].lower(): line for line in iter(asked.readline, b"\r\n")}
                    asked.read(int(headers[b"content-length"].split(b":")[1]))
                    connection.sendall(head + chunks)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        listening.shutdown(socket.SHUT_RDWR)


def test_an_answer_that_breaks_off_is_told_and_not_asked_for_again(cut: str) -> None:
    pieces: list[str] = []

    async def run() -> Answer:
        async with AsyncClient(cut) as asking:
            return await asking.chat("hi", model="m", on_text=pieces.append)

    with pytest.raises(StackError, match=r"the answer broke off: .*closed"):
        asyncio.run(run())
    with pytest.raises(StackError, match=r"the answer broke off: .*closed"):
        query_server("hi", cut, model="m", on_text=pieces.append)
    assert pieces == ["Par", "Par"]


@BOTH
def test_a_server_without_a_model_is_told(way: Ask, gateway: FakeGateway) -> None:
    gateway.answer("/v1/models", json.dumps({"object": "list", "data": []}))

    with pytest.raises(StackError, match="lists no model"):
        way(gateway)


@BOTH
def test_a_proxy_does_not_stand_before_this_host(
    way: Ask, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    assert way(gateway).text == "Paris."
