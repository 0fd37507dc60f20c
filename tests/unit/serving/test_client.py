"""Clients of a server: what they measure, and what they do when it refuses, breaks off or is away."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace
from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk

from tests.unit.commands.test_chat import events
from tests.unit.conftest import FakeGateway
from vllmstack.errors import InvalidInput, StackError
from vllmstack.serving import client
from vllmstack.serving.client import Answer, AsyncClient, Collected, query_server

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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clients' clock, which stands; ``now`` is milliseconds."""
    made = SimpleNamespace(now=0)
    made.perf_counter = lambda: made.now / 1000
    monkeypatch.setattr(client, "time", made)
    return made


def collected(clock: SimpleNamespace, *deltas: dict[str, Any], tokens: int) -> Answer:
    """An answer whose chunks come every 10 ms, and the usage with the end 10 ms later."""
    made = Collected()
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "smoke"}
    for delta in ({"role": "assistant", "content": ""}, *deltas):
        clock.now += 10
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        made.take(ChatCompletionChunk.model_validate(head | {"choices": [choice]}))
    clock.now += 10
    usage = {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": 3 + tokens}
    made.take(ChatCompletionChunk.model_validate(head | {"choices": [], "usage": usage}))
    return made.answer()


CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}


@pytest.mark.parametrize("first", [{"reasoning": "Hm"}, {"reasoning_content": "Hm"}, {"tool_calls": [CALL]}])
def test_what_is_no_text_is_a_token_too(clock: SimpleNamespace, first: dict[str, Any]) -> None:
    answer = collected(clock, *[first] * 20, *[{"content": "a"}] * 5, tokens=25)
    alone = collected(clock, *[first] * 20, tokens=20)

    assert (answer.text, alone.text) == ("aaaaa", "")
    assert [answer.ttft_seconds, answer.tpot_seconds, answer.seconds] == pytest.approx([0.02, 0.01, 0.26])
    assert [alone.ttft_seconds, alone.tpot_seconds, alone.seconds] == pytest.approx([0.02, 0.01, 0.21])


def test_an_answer_without_a_token_has_its_time(clock: SimpleNamespace) -> None:
    answer = collected(clock, tokens=1)

    assert (answer.ttft_seconds, answer.seconds) == (None, 0.02)


def test_an_answers_times_count_from_the_first_try(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gateway.answers[CHAT]
    handle = gateway.handle
    gateway.answer(CHAT, json.dumps({"error": {"message": "full"}}), status=503)

    def full_at_first(request: BaseHTTPRequestHandler) -> None:
        handle(request)
        gateway.answers[CHAT] = whole

    monkeypatch.setattr(gateway, "handle", full_at_first)
    monkeypatch.setattr("random.uniform", lambda *_: 0.6)

    answer = ask(gateway, model="smoke")

    assert len(asked(gateway)) == 2
    assert answer.ttft_seconds is not None
    assert 0.3 <= answer.ttft_seconds <= answer.seconds


@BOTH
def test_several_answers_a_prompt_are_not_mixed(way: Ask, gateway: FakeGateway) -> None:
    with pytest.raises(InvalidInput, match="n=2 asks for several answers"):
        way(gateway, n=2)

    assert gateway.requests == []
    assert way(gateway, n=1).text == "Paris."


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


def test_a_requests_own_deadline_is_the_one_that_counts(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_at_once = gateway.handle

    def answer_late(request: BaseHTTPRequestHandler) -> None:
        time.sleep(0.4)
        answer_at_once(request)

    async def run() -> Answer:
        async with AsyncClient(f"{gateway.url}/v1", deadline_seconds=0.1) as asking:
            return await asking.chat("hi", model="smoke", deadline_seconds=20)

    monkeypatch.setattr(gateway, "handle", answer_late)

    assert asyncio.run(run()).text == "Paris."
    assert len(asked(gateway)) == 1


def test_a_deadline_of_zero_is_kept_too(gateway: FakeGateway) -> None:
    async def run() -> Answer:
        async with AsyncClient(f"{gateway.url}/v1") as asking:
            return await asking.chat("hi", deadline_seconds=0)

    with pytest.raises(StackError, match="did not answer within 0 s"):
        asyncio.run(run())


@pytest.mark.parametrize("seconds", [5, 0.3])
def test_a_server_may_be_silent_as_long_as_was_said(gateway: FakeGateway, seconds: float) -> None:
    query_server("hi", f"{gateway.url}/v1", timeout_seconds=seconds)

    # What openai tells the server of the timeout that it keeps.
    assert {float(headers["x-stainless-read-timeout"]) for _, headers, _ in gateway.requests} == {seconds}


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
