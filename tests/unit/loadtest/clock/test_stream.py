"""The token clock against the mock server, whose times are known, and against servers that break every promise."""

import json
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.trust.mock_process import MockProcess, end, mock_server, python_environment
from loadtest.workload.steps import CHAT, COMPLETIONS, EMBEDDINGS
from tests.attempts import attempts
from tests.awaiting import wait_until
from tests.unit.loadtest.clock.scripted_server import (
    DONE,
    END,
    HEAD,
    HOLD,
    RESET,
    Script,
    ScriptedServer,
    event,
    scripted_server,
    token,
)

pytestmark = pytest.mark.slow

DRIVER = Path(__file__).with_name("clock_driver.py")
TOKENS = 5
PATIENCE_SECONDS = 30.0
"""For what comes within milliseconds, unless the machine stands still."""
KEY = "the right one"

Seen = dict[str, Any]
Send = Callable[..., Seen]


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockProcess]:
    key = tmp_path_factory.mktemp("key") / "key"
    key.write_text(KEY + "\n")
    behaviour = ("--ttft-seconds", "0.03", "--itl-seconds", "0.005")
    # All of this file's tests together may take minutes on a slow machine.
    with mock_server(*behaviour, "--api-key-file", str(key), lifetime_seconds=1500) as process:
        yield process


@pytest.fixture(scope="module")
def driver() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, str(DRIVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=python_environment()
    )
    assert process.stdin
    try:
        yield process
    finally:
        process.stdin.close()
        end(process)


@pytest.fixture(scope="module")
def send(driver: subprocess.Popen[bytes]) -> Send:
    """Sends one request and returns the observation, with ``text`` and the Locust events that it ``fired``."""

    def send(
        url: str,
        path: str = CHAT,
        *,
        streamed: bool = True,
        usage: bool = True,
        mock: dict[str, Any] | None = None,
        body: dict[str, Any] | None = None,
        request: dict[str, Any] | None = None,
        api_key: str | None = KEY,
        **command: Any,
    ) -> Seen:
        asked: dict[str, Any] = {"model": "mock", "max_tokens": TOKENS, "stream": streamed}
        if path == CHAT:
            asked["messages"] = [{"role": "user", "content": "three words here"}]
        else:
            asked["prompt" if path == COMPLETIONS else "input"] = "three words here"
        if streamed:
            asked["stream_options"] = {"include_usage": True, "continuous_usage_stats": usage}
        if mock:
            asked["mock"] = mock
        fields = {"scenario": "chat", "model": "mock", "path": path, "streamed": streamed, "body": asked | (body or {})}
        assert driver.stdin
        assert driver.stdout
        line = json.dumps({"url": url, "request": fields | (request or {}), "api_key": api_key, **command})
        driver.stdin.write(line.encode() + b"\n")
        driver.stdin.flush()
        answer = json.loads(driver.stdout.readline())
        return {**answer["observation"], "text": answer["text"], "fired": answer["fired"]}

    return send


def failure(seen: Seen) -> tuple[str, str]:
    """Outcome and error, after a look at what holds for every failure."""
    [fired] = seen["fired"]
    assert fired["exception"] == seen["error"]
    assert "\n" not in seen["error"]
    assert seen["text"] is None
    assert seen["ended_at"] >= seen["sent_at"]
    assert len(seen["chunk_times"]) == len(seen["chunk_tokens"])
    return seen["outcome"], seen["error"]


# What is right


def test_times_are_those_of_the_server(mock: MockProcess, send: Send) -> None:
    for attempt in attempts():
        seen = send(mock.url, mock={"ttft_seconds": 0.1, "itl_seconds": 0.02})
        assert seen["outcome"] == "ok"
        assert seen["ttft_seconds"] >= 0.1
        assert seen["chunk_times"][0] == seen["first_token_at"]
        assert seen["chunk_times"][-1] == seen["last_token_at"] <= seen["ended_at"]
        assert seen["scheduled_at"] == 1.5
        with attempt:
            assert seen["ttft_seconds"] < 0.3
            assert 0.06 < seen["last_token_at"] - seen["first_token_at"] < 0.3


def test_counts_are_those_of_the_usage(mock: MockProcess, send: Send) -> None:
    seen = send(mock.url, mock={"cached_tokens": 2}, request={"session": "s", "turn": 3, "expected_prompt_tokens": 3})
    assert (seen["prompt_tokens"], seen["completion_tokens"], seen["cached_tokens"]) == (3, TOKENS, 2)
    assert seen["chunk_tokens"] == [1] * TOKENS
    assert seen["finish_reason"] == "length"
    assert seen["status"] == 200
    assert seen["error"] == ""
    assert (seen["session"], seen["turn"], seen["expected_prompt_tokens"]) == ("s", 3, 3)


def test_a_chunk_of_several_tokens_counts_as_several(mock: MockProcess, send: Send) -> None:
    assert send(mock.url, mock={"tokens_per_chunk": 2})["chunk_tokens"] == [2, 2, 1]
    assert send(mock.url, usage=False, mock={"tokens_per_chunk": 3})["chunk_tokens"] == [2, 3]


def test_the_role_alone_does_not_start_the_clock(mock: MockProcess, send: Send) -> None:
    for attempt in attempts():
        seen = send(mock.url, mock={"role_early": True, "ttft_seconds": 0.08})
        assert seen["ttft_seconds"] >= 0.08
        assert len(seen["chunk_times"]) == TOKENS
        with attempt:
            assert seen["ttft_seconds"] < 0.3


def test_reasoning_starts_the_clock_and_is_no_part_of_the_text(mock: MockProcess, send: Send) -> None:
    seen = send(mock.url, mock={"reasoning_tokens": 3, "text": "x"}, request={"keep_text": True})
    assert len(seen["chunk_times"]) == TOKENS
    assert seen["text"] == "xx"


def test_tool_calls_start_the_clock(mock: MockProcess, send: Send) -> None:
    seen = send(mock.url, mock={"tool_call": True, "finish_reason": "tool_calls"})
    assert (len(seen["chunk_times"]), seen["finish_reason"]) == (TOKENS, "tool_calls")


def test_an_end_of_sequence_token_is_the_last_token(mock: MockProcess, send: Send) -> None:
    seen = send(mock.url, mock={"last_token_is_empty": True, "finish_reason": "stop"})
    assert seen["chunk_tokens"] == [1] * TOKENS


def test_completions_are_clocked_too(mock: MockProcess, send: Send) -> None:
    seen = send(mock.url, COMPLETIONS, request={"keep_text": True})
    assert (seen["outcome"], seen["chunk_tokens"], seen["text"]) == ("ok", [1] * TOKENS, " the quick brown fox jumps")


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, EMBEDDINGS])
def test_answers_in_one_piece_have_counts_but_no_first_token(mock: MockProcess, send: Send, path: str) -> None:
    seen = send(mock.url, path, streamed=False)
    assert (seen["outcome"], seen["prompt_tokens"], seen["first_token_at"]) == ("ok", 3, None)
    assert seen["completion_tokens"] == (0 if path == EMBEDDINGS else TOKENS)
    assert seen["ended_at"] - seen["sent_at"] > 0.03


@pytest.mark.parametrize(
    "spoiled",
    [
        {"split_bytes": 1},
        {"split_bytes": 7, "line_end": "\r\n"},
        {"multi_line": True},
        {"multi_line": True, "line_end": "\r", "split_bytes": 3},
        {"keep_alives": True, "line_end": "\r\n"},
        {"byte_order_mark": True},
    ],
    ids="+".join,
)
def test_text_survives_however_its_events_are_written(mock: MockProcess, send: Send, spoiled: Seen) -> None:
    seen = send(mock.url, mock={"text": "grüße 🚀 ", **spoiled}, request={"keep_text": True})
    assert (seen["outcome"], seen["text"]) == ("ok", "grüße 🚀 " * TOKENS)
    assert seen["chunk_tokens"] == [1] * TOKENS


def test_text_is_returned_only_if_it_is_wanted(mock: MockProcess, send: Send) -> None:
    assert send(mock.url)["text"] is None


def test_the_request_id_is_the_gateway_s(mock: MockProcess, send: Send) -> None:
    assert send(mock.url, request={"headers": {"X-Request-Id": "seven"}})["request_id"] == "seven"


def test_locust_hears_of_each_request_once_and_of_its_whole_time(mock: MockProcess, send: Send) -> None:
    seen = send(mock.url)
    [fired] = seen["fired"]
    assert (fired["request_type"], fired["name"], fired["exception"], fired["url"]) == ("POST", "chat", None, CHAT)
    assert fired["response_time"] == pytest.approx((seen["ended_at"] - seen["sent_at"]) * 1000)
    assert fired["response_length"] > TOKENS * 200


def test_several_events_in_one_read_share_its_time(send: Send) -> None:
    with scripted_server([HEAD, token(1) + token(2) + token(3) + DONE + END]) as server:
        seen = send(server.url)
    assert seen["chunk_tokens"] == [1, 1, 1]
    assert len(set(seen["chunk_times"])) == 1


def test_what_comes_with_the_headers_is_read(send: Send) -> None:
    with scripted_server([HEAD + token(1) + DONE + END], [HEAD + token(1), 0.02, token(2) + DONE + END]) as server:
        assert send(server.url)["chunk_tokens"] == [1]
        assert send(server.url)["chunk_tokens"] == [1, 1]


def test_a_body_that_ends_with_its_connection_is_whole_if_it_says_so_itself(send: Send) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    events = (
        b'data: {"choices":[{"delta":{"content":"x"}}]}\n\ndata: {"choices":[],"usage":{"completion_tokens":1}}\n\n'
    )
    with scripted_server([head, 0.02, events, b"data: [DONE]"], [head, events]) as server:
        assert send(server.url)["outcome"] == "ok"
        assert send(server.url)["outcome"] == "truncated"


def test_a_message_that_never_ends_is_not_waited_for(send: Send) -> None:
    with scripted_server([HEAD, 0.05, token(1) + DONE, HOLD]) as server:
        seen = send(server.url)
        assert server.closed_by_client.wait(PATIENCE_SECONDS)
    assert seen["outcome"] == "ok"
    assert seen["ended_at"] == seen["last_token_at"]  # not the second for which the end was waited


def test_https_is_clocked_as_well(send: Send, tmp_path: Path) -> None:
    pem = _certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    # More than one TLS record: what is decrypted already must be read without waiting for more.
    long = "".join(token(number).decode() for number in range(1, 301)).encode()
    with scripted_server([HEAD, 0.02, long + DONE + END], context=context) as server:
        seen = send(server.url, certificates=str(pem))
        assert (seen["outcome"], seen["chunk_tokens"]) == ("ok", [1] * 300)
        outcome, error = failure(send(server.url))
        assert (outcome, error.partition(":")[0]) == ("unreachable", "TLS")


def _certificate(folder: Path) -> Path:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed, and the certificate of this test is made with it")
    pem = folder / "server.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(pem), "-out", str(folder / "only.pem"), "-subj", "/CN=127.0.0.1", "-days", "1"]
    subprocess.run([*command, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    pem.write_text(pem.read_text() + (folder / "only.pem").read_text())
    return pem


# What is wrong


@pytest.mark.parametrize(
    ("mock_says", "status", "error"),
    [
        ({"status": 400, "message": "4097 tokens are too many"}, 400, "HTTP 400: N tokens are too many"),
        ({"status": 429, "message": "slow down"}, 429, "HTTP 429: slow down"),
        ({"status": 503, "message": "no replica"}, 503, "HTTP 503: no replica"),
    ],
)
def test_an_http_error_is_refused_in_the_server_s_words(
    mock: MockProcess, send: Send, mock_says: Seen, status: int, error: str
) -> None:
    seen = send(mock.url, mock=mock_says)
    assert failure(seen) == ("refused", error)
    assert seen["status"] == status
    assert failure(send(mock.url, streamed=False, mock=mock_says)) == ("refused", error)


def test_a_redirect_is_not_followed(send: Send) -> None:
    redirect = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    with scripted_server([redirect]) as server:
        assert failure(send(server.url)) == ("refused", "HTTP 307: Temporary Redirect")
        assert len(server.requests) == 1


@pytest.mark.parametrize("key", ["wrong", None])
def test_a_key_that_is_not_accepted_is_refused(mock: MockProcess, send: Send, key: str | None) -> None:
    assert failure(send(mock.url, api_key=key)) == ("refused", "HTTP 401: Unauthorized")


def test_an_error_in_mid_stream_is_told_from_all_others(mock: MockProcess, send: Send) -> None:
    seen = send(mock.url, mock={"error_after": 2, "message": "engine died"})
    assert failure(seen) == ("stream_error", "error in the stream: engine died")
    assert (seen["chunk_tokens"], seen["completion_tokens"]) == ([1, 1], 2)


@pytest.mark.parametrize(
    ("mock_says", "error"),
    [
        ({"truncate_after": 2}, "the stream ended without [DONE]"),
        ({"no_done": True}, "the stream ended without [DONE]"),
        ({"cut_after": 2}, "the connection broke in the middle of the answer"),
    ],
)
def test_a_stream_cut_short_is_truncated(mock: MockProcess, send: Send, mock_says: Seen, error: str) -> None:
    seen = send(mock.url, mock=mock_says)
    assert failure(seen) == ("truncated", error)
    assert seen["first_token_at"] is not None


def test_a_reset_connection_truncates(send: Send) -> None:
    with scripted_server([HEAD, token(1), 0.02, RESET], [b"HTTP/1.1 200 OK\r\nContent-", 0.02]) as server:
        assert failure(send(server.url)) == ("truncated", "the connection broke in the middle of the answer")
        assert failure(send(server.url)) == ("truncated", "the connection broke in the headers")


def test_nothing_within_the_total_limit_is_a_timeout(mock: MockProcess, send: Send) -> None:
    for attempt in attempts():
        late = send(mock.url, timeouts={"total_seconds": 0.1}, mock={"ttft_seconds": 30})
        assert failure(late) == ("timed_out", "no complete answer within the time limit")
        assert late["ended_at"] - late["sent_at"] >= 0.1
        with attempt:
            assert late["ended_at"] - late["sent_at"] < 0.5
    for attempt in attempts():
        slow = send(mock.url, timeouts={"total_seconds": 0.1}, mock={"itl_seconds": 0.05})
        with attempt:
            assert failure(slow) == ("timed_out", "no complete answer within the time limit")
            assert 1 <= len(slow["chunk_times"]) <= 2


def test_no_headers_within_the_total_limit_is_a_timeout(send: Send) -> None:
    with scripted_server([HOLD]) as server:
        seen = send(server.url, timeouts={"total_seconds": 0.1})
        assert failure(seen) == ("timed_out", "no complete answer within the time limit")
        assert server.closed_by_client.wait(PATIENCE_SECONDS)


def test_silence_between_chunks_is_a_timeout_but_waiting_for_the_first_is_not(mock: MockProcess, send: Send) -> None:
    limits = {"between_chunks_seconds": 0.1}
    for attempt in attempts():
        seen = send(mock.url, timeouts=limits, mock={"silent_after": 2, "ttft_seconds": 0.2})
        assert failure(seen) == ("timed_out", "nothing more came within the time limit between chunks")
        assert seen["ended_at"] - seen["sent_at"] > 0.29
        with attempt:
            assert seen["ended_at"] - seen["sent_at"] < 1.0
    for attempt in attempts():
        with attempt:
            assert send(mock.url, timeouts=limits, mock={"itl_seconds": 0.06})["outcome"] == "ok"


def test_keep_alives_end_a_silence(send: Send) -> None:
    ping = b"8\r\n: ping\n\n\r\n"
    with scripted_server([HEAD, token(1), 0.07, ping, 0.07, ping, 0.07, token(2) + DONE + END]) as server:
        for attempt in attempts():
            with attempt:
                assert send(server.url, timeouts={"between_chunks_seconds": 0.12})["outcome"] == "ok"


def test_no_server_is_unreachable(send: Send) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        seen = send(f"http://127.0.0.1:{free.getsockname()[1]}")
    assert failure(seen) == ("unreachable", "connection refused")
    assert seen["status"] is None


def test_a_server_that_hangs_up_without_a_word_is_unreachable(send: Send) -> None:
    with scripted_server([]) as server:
        assert failure(send(server.url)) == ("unreachable", "the connection was closed before an answer came")


@pytest.mark.parametrize(
    ("mock_says", "error"),
    [
        ({"empty": True}, "no content in the answer"),
        ({"no_usage": True}, "no usage in the answer"),
        ({"bad_json": True}, "an event of the stream is not JSON"),
        ({"html": True}, "the answer is text/html, not a stream of events"),
    ],
)
def test_a_200_that_is_no_answer_is_invalid(mock: MockProcess, send: Send, mock_says: Seen, error: str) -> None:
    assert failure(send(mock.url, mock=mock_says)) == ("invalid_answer", error)


@pytest.mark.parametrize(
    ("mock_says", "error"),
    [
        ({"empty": True}, "no content in the answer"),
        ({"no_usage": True}, "no usage in the answer"),
        ({"html": True}, "the answer is not JSON"),
    ],
)
def test_a_whole_200_that_is_no_answer_is_invalid(mock: MockProcess, send: Send, mock_says: Seen, error: str) -> None:
    assert failure(send(mock.url, streamed=False, mock=mock_says)) == ("invalid_answer", error)


def test_what_is_not_http_is_invalid(send: Send) -> None:
    with scripted_server([b"SSH-2.0-OpenSSH\r\n"], [HEAD, token(1), 0.02, b"no chunk size\r\n"]) as server:
        assert failure(send(server.url)) == ("invalid_answer", "the answer is not HTTP")
        assert failure(send(server.url)) == ("invalid_answer", "the answer is not HTTP")


# Leaving


@pytest.mark.parametrize("after_seconds", [0.02, 0.2])
def test_a_client_that_leaves_is_neither_success_nor_failure(
    mock: MockProcess, send: Send, after_seconds: float
) -> None:
    for attempt in attempts():
        aborted = mock.get("/mock/truth")["aborted"]
        seen = send(
            mock.url,
            request={"abandon_after_seconds": after_seconds},
            mock={"ttft_seconds": 0.1, "itl_seconds": 0.005},
            body={"max_tokens": 10_000},
        )
        assert (seen["outcome"], seen["error"]) == ("abandoned", "")
        assert [fired["exception"] for fired in seen["fired"]] == [None]
        assert seen["ended_at"] - seen["sent_at"] >= after_seconds
        assert sum(seen["chunk_tokens"]) == seen["completion_tokens"]
        with attempt:
            assert seen["ended_at"] - seen["sent_at"] < after_seconds + 0.5
            assert bool(seen["chunk_times"]) == (after_seconds > 0.1)
            # A request that the mock had no time to read before it was left is one it never heard of.
            wait_for_aborted(mock, aborted + 1)


def test_an_answer_that_is_complete_in_time_is_not_abandoned(mock: MockProcess, send: Send) -> None:
    assert send(mock.url, request={"abandon_after_seconds": 5.0})["outcome"] == "ok"


def test_a_killed_user_leaves_no_connection_behind(send: Send) -> None:
    with scripted_server([HEAD, token(1), HOLD]) as server:
        seen = send(server.url, kill_after_chunks=1)
        assert server.closed_by_client.wait(PATIENCE_SECONDS)
    assert len(seen["chunk_times"]) == 1
    assert seen["fired"] == []


# Connections

ANSWER: Script = [HEAD, 0.01, token(1), 0.01, token(2) + DONE, 0.01, END]


def test_a_request_says_what_it_must_and_keeps_no_cookie(send: Send) -> None:
    cookie = HEAD.replace(b"\r\n\r\n", b"\r\nSet-Cookie: replica=1; Path=/\r\n\r\n")
    with scripted_server([cookie, token(1) + DONE + END], ANSWER) as server:
        for _ in range(2):
            send(server.url + "/", request={"headers": {"X-Tenant": "blue"}}, api_key="secret")
    for request in server.requests:
        head, _, body = request.partition(b"\r\n\r\n")
        first, *headers = head.decode().lower().split("\r\n")
        assert first == f"post {CHAT} http/1.1"
        assert {"authorization: bearer secret", "content-type: application/json", "x-tenant: blue"} <= set(headers)
        assert "accept-encoding: identity" in headers
        assert not any(header.startswith("cookie:") for header in headers)
        assert json.loads(body)["messages"][0]["content"] == "three words here"


def test_a_connection_that_the_server_closed_meanwhile_is_not_used(send: Send) -> None:
    with scripted_server(ANSWER) as server:
        for number in range(1, 4):
            assert send(server.url)["outcome"] == "ok"
            wait_for_closed(server, number)
        assert server.connections == 3


def test_a_good_answer_s_connection_is_used_again(send: Send) -> None:
    refusal = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\n{}"
    with scripted_server(ANSWER, [refusal], ANSWER, [HEAD + token(1) + DONE + END], ANSWER, keep=True) as server:
        outcomes = [send(server.url)["outcome"] for _ in range(5)]
        assert outcomes == ["ok", "refused", "ok", "ok", "ok"]
        assert server.connections == 1


@pytest.mark.parametrize(
    "script",
    [
        [HEAD, token(1), event('{"error":{"message":"x"}}'), HOLD],
        [HEAD, token(1), event("no JSON"), HOLD],
        [HEAD, token(1), HOLD],
    ],
    ids=["error", "no JSON", "timeout"],
)
def test_a_bad_answer_s_connection_is_closed_and_not_used_again(send: Send, script: Script) -> None:
    with scripted_server(script, ANSWER, keep=True) as server:
        assert send(server.url, timeouts={"total_seconds": 0.3})["outcome"] != "ok"
        assert server.closed_by_client.wait(PATIENCE_SECONDS)
        assert send(server.url)["outcome"] == "ok"
        assert server.connections == 2


def wait_for_aborted(mock: MockProcess, number: int) -> None:
    wait_until(lambda: mock.get("/mock/truth")["aborted"] == number, seconds=5)


def wait_for_closed(server: ScriptedServer, number: int) -> None:
    wait_until(lambda: server.closed == number, seconds=PATIENCE_SECONDS)
