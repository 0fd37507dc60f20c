"""The mock server keeps the times it is given, counts exactly, and fails when it is told to."""

import itertools
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from loadtest.errors import LoadTestError
from loadtest.trust.mock_process import MockProcess, mock_server, python_command, python_environment
from loadtest.trust.mock_requests import Behaviour
from loadtest.trust.mock_server import main
from loadtest.workload.steps import CHAT, COMPLETIONS, EMBEDDINGS
from tests.attempts import attempts
from tests.awaiting import wait_until
from tests.unit.loadtest.trust.mocks import Mock, asking, chat_body, running_mock

pytestmark = pytest.mark.slow

CAPTURE = Path(__file__).parents[3] / "captures" / "vllm-0.32.0-metrics.txt"
LATE_SECONDS = 0.25
"""More than a busy machine makes of a few milliseconds; one that stands still makes any time of them."""


@pytest.fixture(scope="module")
def mock() -> Iterator[Mock]:
    with running_mock() as server:
        yield server


@pytest.fixture
def fresh() -> Iterator[Mock]:
    with running_mock() as server:
        yield server


# Times


def test_tokens_come_when_they_are_due_and_never_before(mock: Mock) -> None:
    for attempt in attempts():
        answer = mock.chat(tokens=20, ttft_seconds=0.05, itl_seconds=0.01)
        late = [at - (0.05 + number * 0.01) for number, (at, _) in enumerate(answer.chunks)]
        assert len(late) == 20
        assert min(late) >= 0
        with attempt:
            assert max(late) < LATE_SECONDS


def test_a_late_token_does_not_make_the_next_ones_late() -> None:
    for attempt in attempts():
        with attempt, running_mock() as fresh:
            with asking(fresh, 1, tokens=60, ttft_seconds=0.02, itl_seconds=0.005):
                wait_for(fresh, running=1)
                fresh.loop.call_soon_threadsafe(time.sleep, 0.15)
            lateness = fresh.server.tally.lateness_seconds
            assert max(lateness) > 0.1
            assert lateness[-1] < max(lateness) / 2


def test_the_truth_is_what_was_really_done() -> None:
    for attempt in attempts():
        with running_mock() as fresh:
            fresh.chat(tokens=10, ttft_seconds=0.05, itl_seconds=0.01)
            truth = fresh.truth()
        counts = (truth["finished"], truth["chunks"], truth["prompt_tokens"], truth["completion_tokens"])
        assert counts == (1, 10, 3, 10)
        assert truth["ttft_seconds"]["p50"] >= 0.05
        assert truth["lateness_seconds"]["minimum"] >= 0
        with attempt:
            assert truth["ttft_seconds"]["p50"] < 0.05 + LATE_SECONDS
            assert truth["itl_seconds"]["mean"] == pytest.approx(0.01, rel=0.5)


def test_the_truth_begins_anew(fresh: Mock) -> None:
    fresh.chat()
    fresh.ask("POST", "/mock/reset")
    truth = fresh.truth()
    assert (truth["finished"], truth["chunks"], truth["ttft_seconds"]) == (0, 0, {})


def test_an_answer_in_one_piece_comes_when_its_last_token_would(mock: Mock) -> None:
    for attempt in attempts():
        started = time.perf_counter()
        answer = mock.chat(tokens=5, stream=False, ttft_seconds=0.05, itl_seconds=0.01)
        seconds = time.perf_counter() - started
        assert seconds >= 0.05 + 4 * 0.01
        assert answer.json["choices"][0]["message"]["content"] == " the quick brown fox jumps"
        with attempt:
            assert seconds < 0.09 + LATE_SECONDS


def test_chunks_of_several_tokens_come_less_often(mock: Mock) -> None:
    for attempt in attempts():
        chunks = mock.chat(tokens=9, tokens_per_chunk=4, itl_seconds=0.01).chunks
        assert [event["usage"]["completion_tokens"] for _, event in chunks] == [4, 8, 9]
        with attempt:
            assert chunks[2][0] - chunks[0][0] == pytest.approx(0.08, abs=0.03)


# Shapes


def test_chunks_have_the_keys_of_vllm_s_in_their_order(mock: Mock) -> None:
    role, first, last, usage, done = mock.chat(tokens=2).events
    head = ["id", "object", "created", "model", "choices"]
    for event in (role, first, last, usage):
        assert list(event) == [*head, "usage"]
    assert role["object"] == "chat.completion.chunk"
    assert role["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    ]
    delta = {"content": " the"}
    assert first["choices"] == [
        {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None, "token_ids": None}
    ]
    assert first["usage"] == {
        "prompt_tokens": 3, "total_tokens": 4, "completion_tokens": 1, "completion_tokens_details": None,
    }  # fmt: skip
    assert list(last["choices"][0]) == ["index", "delta", "logprobs", "finish_reason", "stop_reason", "token_ids"]
    assert last["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 3, "total_tokens": 5, "completion_tokens": 2}
    assert done == "[DONE]"


def test_usage_is_sent_only_as_it_is_asked_for(mock: Mock) -> None:
    body = chat_body()
    body["stream_options"] = {"include_usage": True}
    events = mock.ask("POST", CHAT, body).events
    assert ["usage" in event for event in events[:-1]] == [False] * 4 + [True]
    del body["stream_options"]
    assert not any("usage" in event for event in mock.ask("POST", CHAT, body).events[:-1])


def test_completions_stream_their_text_without_a_role(mock: Mock) -> None:
    body = {"model": "mock", "prompt": "a b", "max_tokens": 2, "stream": True}
    body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    first, last, usage, done = mock.ask("POST", COMPLETIONS, body).events
    assert (first["object"], first["choices"][0]["text"], last["choices"][0]["text"]) == (
        "text_completion", " the", " quick",
    )  # fmt: skip
    assert last["choices"][0]["finish_reason"] == "length"
    assert (usage["usage"]["prompt_tokens"], done) == (2, "[DONE]")


@pytest.mark.parametrize(
    ("content", "words"),
    [("one two\nthree", 3), ("", 0), ([{"type": "text", "text": "one two"}, {"type": "text", "text": "three"}], 3)],
)
def test_prompt_tokens_are_words(mock: Mock, content: Any, words: int) -> None:
    assert mock.chat(content=content, stream=False).json["usage"]["prompt_tokens"] == words


@pytest.mark.parametrize(("prompt", "tokens"), [("one two", 2), ([5, 6, 7], 3), (["one", "two three"], 3)])
def test_a_tokenized_prompt_has_as_many_tokens_as_ids(mock: Mock, prompt: Any, tokens: int) -> None:
    answer = mock.ask("POST", COMPLETIONS, {"model": "mock", "prompt": prompt, "max_tokens": 1})
    assert answer.json["usage"]["prompt_tokens"] == tokens


def test_the_answer_is_as_long_as_asked(mock: Mock) -> None:
    body = chat_body(stream=False)
    assert mock.ask("POST", CHAT, body).json["usage"]["completion_tokens"] == 3
    body["max_completion_tokens"] = 5
    assert mock.ask("POST", CHAT, body).json["usage"]["completion_tokens"] == 5
    del body["max_tokens"], body["max_completion_tokens"]
    assert mock.ask("POST", CHAT, body).json["usage"]["completion_tokens"] == 16


def test_each_input_gets_its_embedding(mock: Mock) -> None:
    answer = mock.ask("POST", EMBEDDINGS, {"model": "mock", "input": ["one two", "three"]}).json
    assert [entry["index"] for entry in answer["data"]] == [0, 1]
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3, "completion_tokens": 0}


def test_it_says_what_it_serves_and_that_it_is_well(mock: Mock) -> None:
    assert [model["id"] for model in mock.ask("GET", "/v1/models").json["data"]] == ["mock"]
    assert mock.ask("GET", "/health").status == 200


@pytest.mark.parametrize(
    ("asked", "status", "message"),
    [
        (("GET", "/nowhere", None), 404, "Not Found"),
        (("POST", CHAT, b"no JSON"), 400, "the body is not JSON"),
        (("POST", CHAT, {"model": "mock"}), 400, "the body lacks 'messages'"),
        (("POST", CHAT, {"model": "mock", "messages": 7}), 400, "of another shape"),
        (("POST", CHAT, {**chat_body(), "model": "other"}), 404, "The model `other` does not exist."),
        (("POST", CHAT, chat_body(ttft=1)), 400, "ttft: Extra inputs are not permitted"),
        (("POST", CHAT, chat_body(status=429, message="slow down")), 429, "slow down"),
    ],
)
def test_errors_have_openai_s_shape(mock: Mock, asked: tuple[str, str, Any], status: int, message: str) -> None:
    answer = mock.ask(*asked)
    assert answer.status == status
    assert answer.json["error"]["code"] == status
    assert message in answer.json["error"]["message"]


def test_a_connection_serves_one_request_after_the_other(mock: Mock) -> None:
    with socket.create_connection(("127.0.0.1", mock.port), timeout=5) as connection:
        for _ in range(2):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
        body = json.dumps(chat_body(tokens=1)).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(body)
        connection.sendall(head)
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        for place in range(0, len(body), 50):
            connection.sendall(body[place : place + 50])
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += connection.recv(4096)
        assert b"[DONE]" in received


# Counting


def metrics(mock: Mock) -> dict[tuple[str, str], float]:
    """By sample name and the label that tells samples apart."""
    text = mock.ask("GET", "/metrics").body.decode()
    return {
        (sample.name, sample.labels.get("finished_reason") or sample.labels.get("le") or ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_are_those_of_vllm_with_the_same_labels(mock: Mock) -> None:
    mock.chat()
    real = {
        (sample.name, frozenset(sample.labels), sample.labels.get("le"))
        for family in text_string_to_metric_families(CAPTURE.read_text())
        for sample in family.samples
    }
    ours = {
        (sample.name, frozenset(sample.labels), sample.labels.get("le"))
        for family in text_string_to_metric_families(mock.ask("GET", "/metrics").body.decode())
        for sample in family.samples
    }
    assert len(ours) > 100
    assert ours <= real


def test_metrics_count_exactly(fresh: Mock) -> None:
    with asking(fresh, 4, tokens=7, cached_tokens=2):
        pass
    fresh.chat(tokens=5, stream=False, finish_reason="stop")
    fresh.chat(tokens=1, tool_call=True, finish_reason="tool_calls")
    fresh.chat(error_after=0)
    counted = metrics(fresh)
    assert counted["vllm:prompt_tokens_total", ""] == counted["vllm:prefix_cache_queries_total", ""] == 7 * 3
    assert counted["vllm:generation_tokens_total", ""] == 4 * 7 + 5 + 1
    assert counted["vllm:prefix_cache_hits_total", ""] == 4 * 2
    assert counted["vllm:request_success_total", "length"] == 4
    assert counted["vllm:request_success_total", "stop"] == 2
    assert counted["vllm:request_success_total", "error"] == 1
    assert counted["vllm:inter_token_latency_seconds_count", ""] == 4 * 6
    assert counted["vllm:inter_token_latency_seconds_sum", ""] == pytest.approx(sum(fresh.server.tally.itl_seconds))
    assert counted["vllm:time_to_first_token_seconds_count", ""] == 5
    assert counted["vllm:time_to_first_token_seconds_bucket", "0.01"] == 0
    assert counted["vllm:time_to_first_token_seconds_bucket", "+Inf"] == 5
    assert counted["vllm:e2e_request_latency_seconds_count", ""] == 7
    assert counted["vllm:num_requests_running", ""] == 0


def test_what_runs_and_what_waits_is_seen() -> None:
    for attempt in attempts():
        with attempt, running_mock(slots=2) as mock:
            with asking(mock, 3, tokens=2, ttft_seconds=0.2):
                wait_for(mock, running=2, waiting=1)
                counted = metrics(mock)
            assert (counted["vllm:num_requests_running", ""], counted["vllm:num_requests_waiting", ""]) == (2, 1)
            assert metrics(mock)["vllm:num_requests_waiting", ""] == 0


# Too much, too slow, broken


def test_requests_beyond_its_slots_wait_for_one() -> None:
    for attempt in attempts():
        with running_mock(Behaviour(ttft_seconds=0.05, itl_seconds=0.01), slots=1) as mock:
            with asking(mock, 3, tokens=6) as answers:
                pass
            spans = sorted((one.sent_at + one.chunks[0][0], one.sent_at + one.chunks[-1][0]) for one in answers)
            queued = metrics(mock)["vllm:request_queue_time_seconds_sum", ""]
        with attempt:
            assert all(began >= ended + 0.04 for (_, ended), (began, _) in itertools.pairwise(spans))
            assert queued > 0


def test_requests_beyond_its_queue_are_refused() -> None:
    for attempt in attempts():
        with attempt, running_mock(slots=1, queue=1) as mock:
            with asking(mock, 2, tokens=2, ttft_seconds=0.3):
                wait_for(mock, waiting=1)
                refused = mock.chat()
            assert refused.status == 429
            assert refused.json["error"]["type"] == "RateLimitError"
            assert metrics(mock)["vllm:admission_rejections_total", ""] == 1


def test_a_stall_makes_all_that_was_to_come_late_and_nothing_catches_up() -> None:
    for attempt in attempts():
        with attempt, running_mock(Behaviour(ttft_seconds=0.02, itl_seconds=0.01), stall=(0.1, 0.3)) as mock:
            with asking(mock, 2, tokens=20) as answers:
                wait_for_stall(mock)
                during = mock.chat(tokens=1)
            for answer in answers:
                times = [at for at, _ in answer.chunks]
                gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
                assert 0.3 <= max(gaps) < 0.31 + LATE_SECONDS
                assert times[-1] >= 0.02 + 19 * 0.01 + 0.3
            assert during.chunks[0][0] > 0.2


def test_a_stall_can_be_ordered_at_any_time(fresh: Mock) -> None:
    for attempt in attempts():
        fresh.ask("POST", "/mock/stall?seconds=0.2")
        with attempt:
            assert fresh.chat(tokens=1).chunks[0][0] > 0.15


def test_a_client_that_leaves_frees_its_slot() -> None:
    with running_mock(slots=1) as mock:
        body = json.dumps(chat_body(silent_after=1)).encode()
        with socket.create_connection(("127.0.0.1", mock.port)) as connection:
            connection.sendall(b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
            wait_for(mock, chunks=1)
        assert len(mock.chat(tokens=3).chunks) == 3
        assert mock.truth()["aborted"] == 1
        assert metrics(mock)["vllm:request_success_total", "length"] == 1
        assert metrics(mock)["vllm:prompt_tokens_total", ""] == 2 * 3


def test_a_waiting_client_that_leaves_is_forgotten() -> None:
    body = json.dumps(chat_body()).encode()
    asked = b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body)
    for attempt in attempts():
        with attempt, running_mock(slots=1) as mock:
            with asking(mock, 1, tokens=2, ttft_seconds=0.3):
                wait_for(mock, running=1)
                with socket.create_connection(("127.0.0.1", mock.port)) as connection:
                    connection.sendall(asked)
                    wait_for(mock, waiting=1)
                wait_for(mock, waiting=0)
            assert (mock.truth()["aborted"], mock.truth()["finished"]) == (1, 1)


def test_an_error_in_mid_stream_looks_like_vllm_s(mock: Mock) -> None:
    events = mock.chat(error_after=1, message="engine died").events
    assert events[-2:] == [
        {"error": {"message": "engine died", "type": "InternalServerError", "param": None, "code": 500}}, "[DONE]",
    ]  # fmt: skip


# As a program


def test_it_says_where_it_listens_and_ends_when_told() -> None:
    with mock_server("--ttft-seconds", "0", "--model", "one") as mock:
        assert isinstance(mock, MockProcess)
        assert mock.get("/v1/models")["data"][0]["id"] == "one"
        pid = mock.pid
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_it_ends_by_itself_when_nobody_is_left() -> None:
    command = python_command("loadtest.trust.mock_server", "--lifetime-seconds", "0.2")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=python_environment())
    assert process.communicate(timeout=60)[0].startswith(b'{"port"')
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("behaviour", "fact"),
    [('{"itl": 1}', "--behaviour: itl: Extra inputs are not permitted"), ("{", "--behaviour: Expecting property name")],
)
def test_a_behaviour_that_there_is_not_is_said_so(behaviour: str, fact: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["mock_server", "--behaviour", behaviour])
    with pytest.raises(SystemExit) as raised:
        main()
    assert str(raised.value).startswith(fact)


def test_a_mock_that_does_not_start_is_no_mystery(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LoadTestError, match="the mock server ended with status 1"), mock_server("--behaviour", "{"):
        pass
    assert "--behaviour" in capfd.readouterr().err


def wait_for(mock: Mock, **tally: int) -> None:
    """Looks until the mock has counted so."""
    wait_until(lambda: all(getattr(mock.server.tally, name) == number for name, number in tally.items()), seconds=5)


def wait_for_stall(mock: Mock) -> None:
    wait_until(lambda: mock.server.engine.stalled, seconds=5)
