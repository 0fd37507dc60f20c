"""Why a request failed: an outcome and one line that is the same for the same cause."""

import re
import socket
import ssl
from typing import Any

import orjson
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError

from loadtest.clock.observation import Outcome

_LONGEST_TEXT = 200
_IDENTIFIER = re.compile(
    r"\b(?:[a-z]+-)?[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\b"  # UUID, with or without a prefix and hyphens
    r"|\b[a-z]+[-_](?=\w*\d)[0-9A-Za-z]{12,}\b"  # chatcmpl-9b3f…, req_011C…
    r"|\b(?=[a-f]*\d)[0-9a-f]{12,}\b"
    r"|\b0x[0-9a-f]+\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![\w.-])\d+(?:[.,:]\d+)*(?![\w-])")


class AnswerError(Exception):
    """The answer is not what it should be, and nothing more of it needs to be read."""

    def __init__(self, outcome: Outcome, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome
        self.text = text


def same_text(text: str) -> str:
    """``text`` on one line, without what differs from request to request: identifiers become ID, numbers N."""
    line = " ".join(text.split())
    line = _NUMBER.sub("N", _IDENTIFIER.sub("ID", line))
    return line if len(line) <= _LONGEST_TEXT else line[: _LONGEST_TEXT - 1] + "…"


def server_words(body: bytes | bytearray) -> str:
    """The message of an OpenAI-shaped error (or FastAPI's ``detail``, or vLLM's old shape); empty if there is none."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    if not isinstance(answer, dict):
        return ""
    return message_of(answer.get("error")) or message_of(answer.get("detail")) or message_of(answer)


def message_of(error: Any) -> str:
    """What an ``error`` object says; empty if it is none."""
    if isinstance(error, str):
        return error
    if isinstance(error, dict):
        said = error.get("message")
        return said if isinstance(said, str) else ""
    return ""


def refusal(status: int, reason: str, body: bytes | bytearray) -> str:
    """The text for an HTTP status other than 200."""
    return f"HTTP {status}: {same_text(server_words(body) or reason or 'no reason given')}"


def no_answer(error: BaseException) -> AnswerError:
    """For what was raised before the headers of an answer were complete."""
    # geventhttpclient wraps what it would try again if the method were not POST.
    error = getattr(error, "original", None) or error
    match error:
        case HTTPParseError() if _cut_short(error):
            return AnswerError(Outcome.TRUNCATED, "the connection broke in the headers")
        case HTTPParseError() if not isinstance(error, HTTPConnectionClosed):
            return AnswerError(Outcome.INVALID_ANSWER, "the answer is not HTTP")
        case HTTPConnectionClosed() | ConnectionResetError() | BrokenPipeError():
            text = "the connection was closed before an answer came"
        case ConnectionRefusedError():
            text = "connection refused"
        case socket.gaierror():
            text = "the server's name is not known"
        case ssl.SSLCertVerificationError():
            text = f"TLS: {same_text(error.verify_message)}"
        case ssl.SSLError():
            text = f"TLS: {same_text(error.reason or str(error))}"
        case TimeoutError():
            text = "no connection within the time limit"
        case OSError():
            text = same_text(error.strerror or type(error).__name__).lower()
        case _:
            text = same_text(f"{type(error).__name__}: {error}")
    return AnswerError(Outcome.UNREACHABLE, text)


def broken(error: Exception) -> AnswerError:
    """For what was raised by the network, or by the parser of HTTP, in the middle of the body."""
    if isinstance(error, HTTPParseError) and not _cut_short(error):
        return AnswerError(Outcome.INVALID_ANSWER, "the answer is not HTTP")
    return AnswerError(Outcome.TRUNCATED, "the connection broke in the middle of the answer")


def _cut_short(error: HTTPParseError) -> bool:
    """Whether the parser complains of the end, not of what came before it."""
    return any(words in str(error) for words in ("EOF", "Incomplete", "before end of the headers"))
