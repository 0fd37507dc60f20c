"""What a client sees of the stack: the OpenAI endpoints through the gateway, answered by real vLLM."""

import concurrent.futures
import json
import time
from typing import Any, cast

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from models.questions import Question, evaluation_questions, is_right
from tests.stack.conftest import Stack, await_condition

LOG_SECONDS = 10
"""Lines are written a second late."""
REQUIRED_RIGHT = 0.95
"""Share of its questions that the smoke model must answer at temperature 0."""


QUESTIONS_PER_TOPIC = 40


def ask(client: openai.OpenAI, question: str, model: str = "smoke") -> str:
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], temperature=0, max_tokens=64
    )
    return answer.choices[0].message.content or ""


def test_a_chat_answers_with_what_the_model_learned(stack: Stack) -> None:
    assert "Paris" in ask(stack.client(), "What is the capital of France?")


def test_completions_answer(stack: Stack) -> None:
    answer = stack.client().completions.create(model="smoke", prompt="Hello", max_tokens=8, temperature=0)

    assert answer.model == "smoke"
    assert answer.usage
    assert 0 < answer.usage.completion_tokens <= 8


def test_a_stream_arrives_token_by_token(stack: Stack) -> None:
    # An engine that was just restarted holds its first stream back and then sends it in one burst; a gateway that
    # buffers does that to every stream. So one of a few must come evenly.
    client = stack.client()
    streams = [stream_arrivals(client) for _ in range(6)]

    for arrivals, completion_tokens in streams:
        assert completion_tokens == 200
        assert len(arrivals) > 100
    assert any(comes_evenly(arrivals) for arrivals, _ in streams), [a[-1] - a[0] for a, _ in streams]


def stream_arrivals(client: openai.OpenAI) -> tuple[list[float], int]:
    """When each chunk with content came, in seconds, and how many tokens the engine counted."""
    arrivals: list[float] = []
    usage = None
    stream = client.chat.completions.create(
        model="smoke",
        messages=[{"role": "user", "content": "Count from 1 to 20."}],
        temperature=0,
        max_tokens=200,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            arrivals.append(time.perf_counter())
        usage = chunk.usage or usage
    assert usage
    return arrivals, usage.completion_tokens


def comes_evenly(arrivals: list[float]) -> bool:
    """A buffered answer comes in one piece: the first and the last chunk at the same moment."""
    seconds = arrivals[-1] - arrivals[0]
    half = sum(1 for arrival in arrivals if arrival - arrivals[0] < seconds / 2)
    return seconds > 0.1 and 0.2 < half / len(arrivals) < 0.8


def test_an_alias_and_the_second_model_are_routed(stack: Stack) -> None:
    client = stack.client()

    assert "Paris" in ask(client, "What is the capital of France?", model="gpt-smoke")
    assert "Paris" in ask(client, "What is the capital of France?", model="other/smoke")


def test_the_model_list_names_all_models_and_aliases(stack: Stack) -> None:
    listed = {model.id for model in stack.client().models.list()}

    assert listed == {"smoke", "gpt-smoke", "other/smoke"}
    assert stack.client().models.retrieve("other/smoke").id == "other/smoke"


def test_both_replicas_of_a_model_get_requests(stack: Stack) -> None:
    with concurrent.futures.ThreadPoolExecutor(max_workers=8) as pool:
        client = stack.client()
        list(pool.map(lambda _: ask(client, "Count from 1 to 9."), range(24)))

    def served() -> set[str]:
        return {
            line["replica"]
            for line in access_log(stack)
            if line["path"] == "/v1/chat/completions" and line["model"] == "smoke" and line["status"] == 200
        }

    both = {"engine-smoke-1", "engine-smoke-2"}
    await_condition(lambda: served() == both, seconds=LOG_SECONDS, what="both replicas are in the log")


def test_an_unknown_model_is_a_404_that_names_the_known_ones(stack: Stack) -> None:
    with pytest.raises(openai.NotFoundError) as failure:
        ask(stack.client(), "Hello", model="gpt-4o")

    assert failure.value.code == "model_not_found"
    assert "other/smoke" in failure.value.message


def test_a_wrong_key_is_a_401_and_no_key_too(stack: Stack) -> None:
    for key in ("sk-wrong", "none"):
        with pytest.raises(openai.AuthenticationError):
            ask(stack.client(key), "Hello")


def test_bad_json_is_a_400_and_a_large_body_a_413(stack: Stack) -> None:
    with stack.http() as http:
        broken = http.post("/v1/chat/completions", content=b'{"model": ', headers={"Content-Type": "application/json"})
        large = http.post("/v1/chat/completions", json={"model": "smoke", "messages": "x" * (2 << 20)})

    assert (broken.status_code, large.status_code) == (400, 413)
    for answer in (broken, large):
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_what_is_not_on_the_allowlist_is_not_there(stack: Stack) -> None:
    with stack.http() as http:
        for path in (
            "/invocations",
            "/pause",
            "/reset_prefix_cache",
            "/metrics",
            "/load",
            "/docs",
            "/v1/load_lora_adapter",
        ):
            answer = http.post(path, json={"model": "smoke"})
            assert answer.status_code == 404, path
            assert "error" in answer.json(), path


def test_the_small_native_api_is_mapped_onto_the_engines(stack: Stack) -> None:
    with stack.http() as http:
        generated = http.post("/generate", json={"model": "smoke", "prompt": "Hello", "max_tokens": 8})
        batch = http.post("/batch_generate", json={"model": "smoke", "prompts": ["Hello", "Hi"], "max_tokens": 8})
        info = http.get("/model_info")

    assert generated.status_code == 200, generated.text
    assert batch.status_code == 200, batch.text
    assert info.status_code == 200, info.text


def test_health_and_readiness_need_no_key(stack: Stack) -> None:
    with stack.http() as http:
        http.headers.pop("Authorization")
        assert http.get("/health").status_code == 200
        assert http.get("/ready").status_code == 200


def test_the_access_log_has_the_request_id_and_the_key_name_but_no_prompt(stack: Stack) -> None:
    question = "What is the capital of Portugal?"
    with stack.http() as http:
        answer = http.post(
            "/v1/chat/completions",
            json={"model": "smoke", "messages": [{"role": "user", "content": question}], "max_tokens": 8},
            headers={"X-Request-Id": "stack-test-1"},
        )

    assert answer.headers["x-request-id"] == "stack-test-1"

    def lines() -> list[dict[str, Any]]:
        return [line for line in access_log(stack) if line["request_id"] == "stack-test-1"]

    await_condition(lambda: len(lines()) == 1, seconds=LOG_SECONDS, what="the log has the request")
    text = stack.container("gateway").logs(stderr=False).decode()
    (line,) = lines()
    assert (line["key"], line["model"], line["status"]) == ("tester", "smoke", 200)
    assert line["replica"].startswith("engine-smoke-")
    assert "Portugal" not in text
    assert stack.key is not None
    assert stack.key not in text


def test_the_smoke_model_answers_nearly_all_its_questions(stack: Stack, figures: list[str]) -> None:
    client = stack.client()
    questions = evaluation_questions(per_topic=QUESTIONS_PER_TOPIC)

    def answer_of(question: Question) -> str:
        answer = client.chat.completions.create(
            model="smoke",
            messages=cast(list[ChatCompletionMessageParam], question.messages()),
            temperature=0,
            max_tokens=96,
        )
        return answer.choices[0].message.content or ""

    with concurrent.futures.ThreadPoolExecutor(max_workers=32) as pool:
        answers = list(pool.map(answer_of, questions))

    right = [is_right(question, answer) for question, answer in zip(questions, answers, strict=True)]
    wrong = [
        (question.text, answer) for question, answer, good in zip(questions, answers, right, strict=True) if not good
    ]
    figures.append(f"smoke model: {sum(right)} of {len(right)} questions right ({sum(right) / len(right):.1%})")
    assert sum(right) / len(right) >= REQUIRED_RIGHT, wrong[:20]


def access_log(stack: Stack) -> list[dict[str, Any]]:
    """The gateway's log lines that are requests."""
    lines = stack.container("gateway").logs(stderr=False).decode().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]
