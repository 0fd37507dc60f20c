"""Equal causes give equal texts."""

import pytest

from loadtest.clock.failures import no_answer, refusal, same_text, server_words
from loadtest.clock.observation import Outcome


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("the limit is 4096 tokens. You asked for 5,000.", "the limit is N tokens. You asked for N."),
        ("request chatcmpl-9b3f2c1d4e5f60718293a4b5c6d7e8f9 was aborted", "request ID was aborted"),
        ("request 123e4567-e89b-12d3-a456-426614174000 failed", "request ID failed"),
        ("key sk_live1234567890ab is wrong", "key ID is wrong"),
        ("object at 0x7f3a2b10 is gone", "object at ID is gone"),
        ("The model `Llama-2-7b-chat-hf` does not exist.", "The model `Llama-2-7b-chat-hf` does not exist."),
        ("cannot reach 127.0.0.1:8000", "cannot reach N"),
        ("two\nlines,   one blank", "two lines, one blank"),
        ("generation takes responsibility", "generation takes responsibility"),
    ],
)  # fmt: skip
def test_what_differs_from_request_to_request_is_taken_out(said: str, text: str) -> None:
    assert same_text(said) == text


def test_long_texts_are_cut() -> None:
    assert len(same_text("word " * 100)) == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error":{"message":"too many","type":"x","code":429}}', "too many"),
        (b'{"error":"too many"}', "too many"),
        (b'{"object":"error","message":"too many","code":429}', "too many"),
        (b'{"detail":"Not Found"}', "Not Found"),
        (b"<html>502</html>", ""),
        (b"[]", ""),
        (b"", ""),
    ],
)
def test_a_server_s_own_words_are_found(body: bytes, words: str) -> None:
    assert server_words(body) == words


def test_a_refusal_without_words_gives_the_reason() -> None:
    assert refusal(502, "Bad Gateway", b"<html>") == "HTTP 502: Bad Gateway"
    assert (
        refusal(400, "Bad Request", b'{"error":{"message":"prompt has 5000 tokens"}}')
        == "HTTP 400: prompt has N tokens"
    )
    assert refusal(599, "", b"") == "HTTP 599: no reason given"


class Wrapped(Exception):
    """As geventhttpclient wraps what it would have tried again."""

    def __init__(self, original: BaseException) -> None:
        super().__init__()
        self.original = original


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "connection refused"),
        (Wrapped(TimeoutError("timed out")), "no connection within the time limit"),
        (Wrapped(BrokenPipeError(32, "Broken pipe")), "the connection was closed before an answer came"),
        (OSError(24, "Too many open files"), "too many open files"),
        (RuntimeError("pool 17 closed"), "RuntimeError: pool N closed"),
    ],
)
def test_what_keeps_an_answer_from_coming(error: Exception, text: str) -> None:
    failure = no_answer(error)
    assert (failure.outcome, failure.text) == (Outcome.UNREACHABLE, text)
