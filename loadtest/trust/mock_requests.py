"""What the mock server is asked: a request's body, and how it is to be answered."""

from dataclasses import dataclass
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loadtest.workload.steps import CHAT, COMPLETIONS

DEFAULT_MAX_TOKENS = 16
"""vLLM's own for completions."""


class Behaviour(BaseModel):
    """How one request is answered: ``mock`` in its body, over the server's ``--behaviour``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ttft_seconds: float = Field(default=0.1, ge=0)
    """From the request's arrival, or from when a slot is free, to the first token."""
    itl_seconds: float = Field(default=0.01, ge=0)
    tokens_per_chunk: int = Field(default=1, ge=1)
    """Chunks then come every ``tokens_per_chunk × itl_seconds``, as with speculative decoding."""
    role_early: bool = False
    """The chunk with the role only comes at once; vLLM sends it with the first token."""
    text: str = ""
    """Of every token; empty: English words."""
    reasoning_tokens: int = Field(default=0, ge=0)
    """So many tokens come as ``reasoning`` before the content starts."""
    tool_call: bool = False
    """The content comes as the arguments of a tool call."""
    finish_reason: str = "length"
    last_token_is_empty: bool = False
    """The last token has no text, as an end-of-sequence token has none."""
    cached_tokens: int | None = None
    """Of the prompt, reported in ``usage`` and as prefix hits."""
    status: int = 200
    """Any other: this HTTP error at once."""
    message: str = "the mock was told to fail"
    error_after: int | None = None
    """An error event after so many tokens, as vLLM sends it, then the stream ends."""
    truncate_after: int | None = None
    """The stream ends in good order, but without its last events."""
    cut_after: int | None = None
    """The connection breaks."""
    silent_after: int | None = None
    """Nothing more comes, and the connection stays open."""
    no_done: bool = False
    """Everything comes but the last event."""
    no_usage: bool = False
    bad_json: bool = False
    """The chunk of the third token is cut short."""
    empty: bool = False
    """A 200 without any content."""
    html: bool = False
    """A 200 that is a web page."""
    keep_alives: bool = False
    """A comment line before each chunk."""
    multi_line: bool = False
    """Each event's data goes over several lines."""
    line_end: Literal["\n", "\r\n", "\r"] = "\n"
    byte_order_mark: bool = False
    split_bytes: int = Field(default=0, ge=0)
    """Each chunk is sent in pieces of so many bytes, characters cut through the middle; 0: whole."""
    unterminated: bool = False
    """The HTTP message never ends, although all events came."""


class BadRequest(Exception):
    """A request that vLLM answers with 400."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, understood."""

    path: str
    model: str
    streamed: bool
    max_tokens: int
    prompt_tokens: int
    include_usage: bool
    continuous_usage: bool
    behaviour: Behaviour
    inputs: int = 1
    """Embeddings: how many texts."""


def understand(path: str, body: bytes, defaults: Behaviour) -> Asked:
    """Reads a request's body.

    Raises:
        BadRequest: it is no JSON, or of a shape that the endpoint does not take.
    """
    try:
        asked = orjson.loads(body)
        extras = asked.get("mock")
        behaviour = Behaviour(**{**defaults.model_dump(), **extras}) if extras else defaults
        options = asked.get("stream_options") or {}
        inputs = asked.get("input", "")
        return Asked(
            path=path,
            model=asked["model"],
            streamed=bool(asked.get("stream")),
            max_tokens=asked.get("max_completion_tokens") or asked.get("max_tokens") or DEFAULT_MAX_TOKENS,
            prompt_tokens=_prompt_tokens(path, asked),
            include_usage=bool(options.get("include_usage")) and not behaviour.no_usage,
            continuous_usage=bool(options.get("continuous_usage_stats")) and not behaviour.no_usage,
            behaviour=behaviour,
            inputs=len(inputs) if isinstance(inputs, list) else 1,
        )
    except ValidationError as error:
        raise BadRequest(what_is_wrong(error)) from error
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    except KeyError as error:
        raise BadRequest(f"the body lacks {error}") from error
    except (TypeError, AttributeError) as error:
        raise BadRequest("the body is of another shape than the endpoint takes") from error


def what_is_wrong(error: ValidationError) -> str:
    """Every wrong field of a Behaviour, on one line."""
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())


def _prompt_tokens(path: str, asked: dict[str, Any]) -> int:
    """Words between blanks, or the ids of a tokenized prompt."""
    if path == CHAT:
        return sum(_words(message.get("content")) for message in asked["messages"])
    return _words(asked["prompt" if path == COMPLETIONS else "input"])


def _words(content: Any) -> int:
    if content is None:
        return 0
    if isinstance(content, str):
        return len(content.split())
    if isinstance(content, int):
        return 1
    if isinstance(content, dict):
        return _words(content["text"])
    return sum(_words(part) for part in content)
