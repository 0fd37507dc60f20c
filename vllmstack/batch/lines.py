"""One line of a batch: what it asks, or what is wrong with it.

https://platform.openai.com/docs/api-reference/batch/request-input
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")

LONGEST_LINE_BYTES = 32 << 20
"""As long as the gateway's largest body by default; a longer one is an error of its own, read and dropped."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One line that can be sent."""

    number: int
    """Counts from 1; blank lines count."""
    custom_id: str
    url: str
    """The path, such as ``/v1/chat/completions``."""
    body: bytes
    """JSON in UTF-8, as it is sent."""


@dataclass(frozen=True, kw_only=True)
class BadLine:
    """One that cannot."""

    number: int
    custom_id: str | None
    fact: str


def read_lines(file: Path) -> Iterator[tuple[int, bytes | None]]:
    """Number and text of each line that is not blank; None for one that is too long.

    Reads as it is asked: a file of any size takes the memory of its longest line, and of no more than the limit.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as stream:
        number = 0
        while True:
            line = stream.readline(LONGEST_LINE_BYTES + 1)
            if not line:
                return
            number += 1
            if len(line) > LONGEST_LINE_BYTES:
                while line and not line.endswith(b"\n"):
                    line = stream.readline(LONGEST_LINE_BYTES)
                yield number, None
            elif line.strip():
                yield number, line


def custom_id_of(line: bytes | None) -> str | None:
    """A line's ``custom_id``, whatever else is wrong with it; None where there is none that is text."""
    return _named(_document(line))


def parse(number: int, line: bytes | None, model: str | None = None, *, repeated: bool = False) -> Request | BadLine:
    """What a line asks; ``model`` is put into bodies that name none.

    ``repeated``: a line before it has the same ``custom_id``, so nobody could tell their answers apart.
    """
    document = _document(line)
    fact = _length_or_form(line, document) or next(_faults(document), "")
    if not fact and repeated:
        fact = "has the `custom_id` of a line before it"
    if not fact:
        body = document["body"]
        if model and "model" not in body:
            body = {"model": model, **body}
        try:
            text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except (ValueError, RecursionError):  # half a surrogate pair is a UnicodeEncodeError, which is a ValueError
            fact = "has a `body` that is no JSON: NaN, Infinity, half a character, or too deep"
        else:
            return Request(number=number, custom_id=document["custom_id"], url=document["url"], body=text)
    return BadLine(number=number, custom_id=_named(document), fact=f"line {number} {fact}")


_NONE = object()
"""What a text that is no JSON holds; ``null`` is JSON."""


def _document(line: bytes | None) -> Any:
    if line is None:
        return _NONE
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return _NONE


def _named(document: Any) -> str | None:
    custom_id = document.get("custom_id") if isinstance(document, dict) else None
    return custom_id if isinstance(custom_id, str) and custom_id else None


def _length_or_form(line: bytes | None, document: Any) -> str:
    if line is None:
        return f"is longer than {LONGEST_LINE_BYTES >> 20} MiB"
    return "is no JSON" if document is _NONE else ""


def _faults(document: Any) -> Iterator[str]:
    """What is wrong with a line; what is looked at later may stand on what came before."""
    if not isinstance(document, dict):
        yield "is no JSON object"
    if _named(document) is None:
        yield "has no `custom_id` that is text"
    body = document.get("body")
    if not isinstance(body, dict):
        yield "has no `body` that is an object"
    if document.get("method", "POST") != "POST":
        yield "has a `method` that is not POST"
    if document.get("url") not in ENDPOINTS:
        yield f"has a `url` that is none of {', '.join(ENDPOINTS)}"
    if body.get("stream"):
        yield "asks for a stream: an answer is one line"
