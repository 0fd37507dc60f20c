"""`vllmstack chat`: a streamed answer, and what a user would feel."""

import json
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.conftest import KEY, Clone, FakeGateway, Outcome
from vllmstack.commands.chat import times
from vllmstack.serving.client import Answer

Run = Callable[..., Outcome]
CHAT = "/v1/chat/completions"


def events(*texts: str, tokens: int) -> str:
    """A stream as vLLM sends it: an event that opens the answer, one for each text, the usage, and the end."""

    def chunk(**fields: Any) -> str:
        whole = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "smoke", "choices": []}
        return f"data: {json.dumps(whole | fields)}\n\n"

    def choice(**delta: str) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "finish_reason": None}]

    usage = {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": 3 + tokens}
    return (
        chunk(choices=choice(role="assistant", content=""))
        + "".join(chunk(choices=choice(content=text)) for text in texts)
        + chunk(usage=usage)
        + "data: [DONE]\n\n"
    )


@pytest.fixture(autouse=True)
def running(clone: Clone, gateway: FakeGateway) -> None:
    clone.is_up(gateway.url)
    model = {"id": "smoke", "object": "model", "created": 1, "owned_by": "vllm"}
    gateway.answer("/v1/models", json.dumps({"object": "list", "data": [model, model | {"id": "other"}]}))
    gateway.answer(CHAT, events("Par", "is", ".", tokens=4), kind="text/event-stream")


def asked(gateway: FakeGateway) -> list[dict[str, Any]]:
    return [json.loads(body) for path, _, body in gateway.requests if path == CHAT]


def test_the_answer_is_on_standard_output_and_its_times_are_beside_it(vllmstack: Run) -> None:
    done = vllmstack("chat", "What is the capital of France?")

    assert (done.status, done.out) == (0, "Paris.\n")
    assert re.fullmatch(r"TTFT \d+ ms, TPOT \d+\.\d ms, \d+ tok/s, 4 tokens\n", done.err)


def test_the_deployments_first_model_is_asked_as_it_is_set_up(vllmstack: Run, gateway: FakeGateway) -> None:
    vllmstack("chat", "Hello")

    assert asked(gateway) == [
        {
            "model": "smoke",
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 512,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


def test_options_reach_the_model(vllmstack: Run, gateway: FakeGateway) -> None:
    vllmstack("chat", "--model", "other", "--system", "Be brief.", "--max-tokens", "9", "--temperature", "0", "Hello")

    (request,) = asked(gateway)
    assert (request["model"], request["max_tokens"], request["temperature"]) == ("other", 9, 0)
    assert request["messages"][0] == {"role": "system", "content": "Be brief."}
    assert [path for path, _, _ in gateway.requests] == [CHAT]


def test_a_conversation_goes_on_with_what_was_said_before(
    vllmstack: Run, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = iter(["Hello", "  ", "And then?"])

    def typed(prompt: str) -> str:
        try:
            return next(said)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", typed)

    done = vllmstack("chat")

    assert done.status == 0
    assert [[message["content"] for message in request["messages"]] for request in asked(gateway)] == [
        ["Hello"],
        ["Hello", "Paris.", "And then?"],
    ]


def test_the_key_of_the_environment_is_sent(
    vllmstack: Run, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLMSTACK_API_KEY", KEY)

    vllmstack("chat", "Hello")

    assert {headers["authorization"] for _, headers, _ in gateway.requests} == {f"Bearer {KEY}"}


@pytest.mark.parametrize("path", ["/v1/models", CHAT])
def test_a_key_that_is_refused_says_where_to_put_the_right_one(vllmstack: Run, gateway: FakeGateway, path: str) -> None:
    error = {"error": {"message": "wrong API key", "type": "invalid_request_error", "param": None, "code": None}}
    gateway.answer(path, json.dumps(error), status=401)

    done = vllmstack("chat", "Hello")

    assert done.status == 1
    assert done.err.startswith("vllmstack: the gateway refuses the key: ")
    assert "wrong API key" in done.err
    assert done.err.endswith("\n  hint: export VLLMSTACK_API_KEY=…\n")


def test_an_unknown_model_is_told_in_the_gateways_words(vllmstack: Run, gateway: FakeGateway) -> None:
    error = {"error": {"message": "no model 'qwen'; there is smoke", "type": "not_found", "param": None, "code": None}}
    gateway.answer(CHAT, json.dumps(error), status=404)

    done = vllmstack("chat", "--model", "qwen", "Hello")

    assert done.status == 1
    assert "no model 'qwen'; there is smoke" in done.err
    assert "\n  hint: " in done.err


def test_a_gateway_without_a_model_is_told(vllmstack: Run, gateway: FakeGateway) -> None:
    gateway.answer("/v1/models", json.dumps({"object": "list", "data": []}))

    done = vllmstack("chat", "Hello")

    assert (done.status, done.out) == (1, "")
    assert done.err == "vllmstack: the gateway lists no model\n  hint: see `vllmstack status`\n"


def test_an_answer_that_breaks_off_ends_its_line_before_that_is_told(vllmstack: Run, gateway: FakeGateway) -> None:
    opened, first, *_ = events("Par", "is", tokens=4).split("\n\n")
    died = "data: " + json.dumps({"error": {"message": "the engine died"}})
    gateway.answer(CHAT, "".join(f"{event}\n\n" for event in (opened, first, died)), kind="text/event-stream")

    done = vllmstack("chat", "Hello")

    assert (done.status, done.out) == (1, "Par\n")
    assert done.err == "vllmstack: the answer broke off: the engine died\n  hint: see `vllmstack status`\n"


@pytest.fixture
def nobody(clone: Clone) -> Iterator[None]:
    """A stack that was started, and whose gateway does not listen any more."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        (clone.project.rendered("smoke") / "compose.env").write_text(f"VLLMSTACK_URL='{url}'\n")
        yield


@pytest.mark.parametrize("options", [[], ["--model", "smoke"]])
def test_a_gateway_that_is_not_there_is_one_clear_line(vllmstack: Run, nobody: None, options: list[str]) -> None:
    done = vllmstack("chat", *options, "Hello")

    assert done.status == 1
    assert re.fullmatch(r"vllmstack: no answer: .+\n  hint: see `vllmstack status`\n", done.err)


def answered(*, ttft_seconds: float, seconds: float, output_tokens: int) -> Answer:
    return Answer(
        text="Paris.", finish_reason="stop", prompt_tokens=3, output_tokens=output_tokens, ttft_seconds=ttft_seconds,
        seconds=seconds,
    )  # fmt: skip


def test_tokens_of_which_none_is_text_are_told() -> None:
    thought = replace(answered(ttft_seconds=0.1, seconds=0.5, output_tokens=20), text="")

    assert times(thought) == "no text in the answer, 20 tokens"


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (
            answered(ttft_seconds=0.0123, seconds=1.0023, output_tokens=100),
            "TTFT 12 ms, TPOT 10.0 ms, 100 tok/s, 100 tokens",
        ),
        (answered(ttft_seconds=1.5, seconds=1.5, output_tokens=1), "TTFT 1500 ms, 1 token"),
        # All tokens in one chunk: there is no time between them to speak of.
        (answered(ttft_seconds=0.2, seconds=0.2, output_tokens=9), "TTFT 200 ms, 9 tokens"),
    ],
)
def test_times_are_ttft_and_the_mean_time_of_each_further_token(answer: Answer, line: str) -> None:
    assert times(answer) == line
