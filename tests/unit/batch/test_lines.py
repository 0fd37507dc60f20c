"""Lines of a batch: what they ask, and what is wrong with them."""

import json
from pathlib import Path
from typing import Any

import pytest

from vllmstack.batch import lines
from vllmstack.batch.lines import BadLine, Request, custom_id_of, parse, read_lines

GOOD: dict[str, Any] = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "m", "messages": []},
}
NO_JSON = "has a `body` that is no JSON: NaN, Infinity, half a character, or too deep"


def line(**changes: Any) -> bytes:
    return json.dumps({name: value for name, value in (GOOD | changes).items() if value is not None}).encode()


def test_a_line_is_a_request() -> None:
    body = b'{"model":"m","messages":[]}'

    assert parse(3, line()) == Request(number=3, custom_id="a", url="/v1/chat/completions", body=body)


def test_a_model_is_put_in_where_none_is_named() -> None:
    asked, named = parse(1, line(body={"prompt": "x"}), "m"), parse(2, line(), "other")

    assert isinstance(asked, Request)
    assert isinstance(named, Request)
    assert (json.loads(asked.body)["model"], json.loads(named.body)["model"]) == ("m", "m")


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (None, "is longer than 32 MiB"),
        (b"{", "is no JSON"),
        (b"\xff{}", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[]", "is no JSON object"),
        (line(custom_id=None), "has no `custom_id` that is text"),
        (line(custom_id=7), "has no `custom_id` that is text"),
        (line(custom_id=""), "has no `custom_id` that is text"),
        (line(body=None), "has no `body` that is an object"),
        (line(method="GET"), "has a `method` that is not POST"),
        (
            line(url="/v1/models"),
            "has a `url` that is none of /v1/chat/completions, /v1/completions, /v1/embeddings",
        ),
        (line(body={"temperature": float("nan")}), NO_JSON),
        (line(body={"prompt": "\ud800"}), NO_JSON),
        (b'{"custom_id": "a", "url": "/v1/completions", "body": {"x": ' + b"1" * 5000 + b"}}", "is no JSON"),
        (line(body={"stream": True}), "asks for a stream: an answer is one line"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: bytes | None, fact: str) -> None:
    found = parse(7, text)

    assert isinstance(found, BadLine)
    assert found.fact == f"line 7 {fact}"


def test_a_name_that_was_there_before_is_no_name() -> None:
    found = parse(9, line(), repeated=True)

    assert isinstance(found, BadLine)
    assert (found.custom_id, found.fact) == ("a", "line 9 has the `custom_id` of a line before it")


@pytest.mark.parametrize(
    ("text", "name"),
    [(line(), "a"), (line(body=None), "a"), (line(custom_id=7), None), (b"{", None), (b"null", None), (None, None)],
)
def test_a_lines_name_is_found_whatever_else_is_wrong(text: bytes | None, name: str | None) -> None:
    assert custom_id_of(text) == name


def test_a_bad_line_keeps_its_name() -> None:
    found = parse(1, line(body=None))

    assert isinstance(found, BadLine)
    assert found.custom_id == "a"


def test_blank_lines_ask_nothing_and_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_bytes(b"one\n\n  \r\ntwo\nthree")

    assert [(number, text) for number, text in read_lines(file)] == [(1, b"one\n"), (4, b"two\n"), (5, b"three")]


def test_a_line_that_is_too_long_is_read_past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE_BYTES", 8)
    file = tmp_path / "in.jsonl"
    file.write_bytes(b"x" * 100 + b"\nshort\n" + b"y" * 9)

    assert list(read_lines(file)) == [(1, None), (2, b"short\n"), (3, None)]
