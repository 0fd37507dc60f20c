"""What an answer says, chunk by chunk: the part of the token clock that knows no network."""

from collections.abc import Callable
from typing import Any

import orjson

from loadtest.clock.events import DONE, EventSplitter
from loadtest.clock.failures import AnswerError, message_of, same_text
from loadtest.clock.observation import Observation, Outcome
from loadtest.workload.steps import CHAT, EMBEDDINGS

_NO_CONTENT = "no content in the answer"
_NO_USAGE = "no usage in the answer"
_NOT_JSON = "an event of the stream is not JSON"


class StreamedAnswer:
    """Reads a stream's events into an Observation.

    A chunk is a token chunk if it brings text, reasoning or a part of a tool call. Once the clock has started, a chunk
    is also one if ``usage`` counts more tokens with it than before: half a character, or an end-of-sequence token, has
    no text. Tokens without text before the first text are counted with it.
    """

    def __init__(self, observation: Observation, *, path: str, keep_text: bool, on_done: Callable[[], None]) -> None:
        """``on_done`` is called when ``[DONE]`` came."""
        self.at = 0.0
        self._observation = observation
        self._on_done = on_done
        self._done = False
        self._chunk_times = observation.chunk_times
        self._chunk_tokens = observation.chunk_tokens
        self._chat = path == CHAT
        self._field = "content" if self._chat else "text"
        self._parts: list[str] | None = [] if keep_text else None
        self._splitter = EventSplitter()
        self._split = self._splitter.feed
        self._usage: dict[str, Any] | None = None
        self._counted = 0
        """Completion tokens in the usage of the last token chunk."""

    def take(self, piece: bytes | bytearray) -> None:
        """Takes a piece of the body that came at ``at``.

        Raises:
            AnswerError: the stream carries an error, or something that is no event of OpenAI's.
        """
        for data in self._split(piece):
            try:
                chunk = orjson.loads(data)
                choice = chunk["choices"][0]
                self._take_choice(choice, choice["delta"] if self._chat else choice, chunk.get("usage"))
            except (ValueError, LookupError, TypeError, AttributeError):
                self._take_other(data)

    def _take_choice(self, choice: dict[str, Any], delta: dict[str, Any], usage: dict[str, Any] | None) -> None:
        text = delta.get(self._field)
        times = self._chunk_times
        if usage:
            tokens = usage["completion_tokens"]
            self._usage = usage
            if text or (times and tokens > self._counted) or (self._chat and _thinks_or_calls(delta)):
                times.append(self.at)
                self._chunk_tokens.append(tokens - self._counted)
                self._counted = tokens
        elif text or (self._chat and _thinks_or_calls(delta)):
            times.append(self.at)
        if text and self._parts is not None:
            self._parts.append(text)
        if choice.get("finish_reason"):
            self._observation.finish_reason = choice["finish_reason"]
        if len(times) == 1:
            self._observation.first_token_at = times[0]

    def close(self) -> None:
        """The body has ended: an event that lacks its blank line counts too.

        Raises:
            AnswerError: as ``feed``.
        """
        if not self._done:
            for data in self._splitter.close():
                self.take(b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n")

    def judge(self) -> str | None:
        """Says whether the complete answer is one, by way of an exception; the text, if it was to be kept.

        Raises:
            AnswerError: cut short, without content, without usage.
        """
        if not self._done:
            raise AnswerError(Outcome.TRUNCATED, "the stream ended without [DONE]")
        if not self._chunk_times:
            raise AnswerError(Outcome.INVALID_ANSWER, _NO_CONTENT)
        if self._usage is None:
            raise AnswerError(Outcome.INVALID_ANSWER, _NO_USAGE)
        return None if self._parts is None else "".join(part for part in self._parts if isinstance(part, str))

    def settle(self) -> None:
        """Fills in what is known only at the end, good or bad: counts, and tokens a chunk without continuous usage."""
        observation = self._observation
        times, tokens = self._chunk_times, self._chunk_tokens
        _fill_usage(observation, self._usage)
        if times:
            observation.last_token_at = times[-1]
        if len(tokens) != len(times):
            tokens[:] = spread(observation.completion_tokens, len(times))
        elif times:
            tokens[-1] += max(0, observation.completion_tokens - self._counted)

    def _take_other(self, data: bytes | bytearray) -> None:
        """Everything that is not a chunk with a choice."""
        if data.strip() == DONE:
            self._done = True
            self._on_done()
        if self._done or not data.strip():
            return
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise AnswerError(Outcome.INVALID_ANSWER, _NOT_JSON) from None
        if not isinstance(event, dict):
            raise AnswerError(Outcome.INVALID_ANSWER, _NOT_JSON)
        if event.get("error"):
            words = message_of(event["error"]) or "no reason given"
            raise AnswerError(Outcome.STREAM_ERROR, f"error in the stream: {same_text(words)}")
        usage = event.get("usage")
        if isinstance(usage, dict):
            self._usage = usage


def _thinks_or_calls(delta: dict[str, Any]) -> bool:
    return bool(delta.get("reasoning") or delta.get("reasoning_content") or delta.get("tool_calls"))


def spread(tokens: int, chunks: int) -> list[int]:
    """``tokens`` over ``chunks`` as evenly as whole numbers allow."""
    return [(number + 1) * tokens // chunks - number * tokens // chunks for number in range(chunks)]


def read_whole(body: bytes | bytearray, observation: Observation, *, path: str) -> str:
    """Reads an answer that is not a stream; its text.

    Raises:
        AnswerError: it is not what the endpoint promises.
    """
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise AnswerError(Outcome.INVALID_ANSWER, "the answer is not JSON") from None
    if not isinstance(answer, dict):
        raise AnswerError(Outcome.INVALID_ANSWER, "the answer is not a JSON object")
    if answer.get("error"):
        words = message_of(answer["error"]) or "no reason given"
        raise AnswerError(Outcome.INVALID_ANSWER, f"error in a 200: {same_text(words)}")
    usage = answer.get("usage")
    if isinstance(usage, dict):
        _fill_usage(observation, usage)
    text = ""
    try:
        if path == EMBEDDINGS:
            content = answer["data"][0]["embedding"]
        else:
            choice = answer["choices"][0]
            observation.finish_reason = choice.get("finish_reason") or ""
            part = choice["message"] if path == CHAT else choice
            said = part.get("content" if path == CHAT else "text")
            content = said or _thinks_or_calls(part)
            text = said if isinstance(said, str) else ""
    except (LookupError, TypeError, AttributeError):
        content = None
    if not content:
        raise AnswerError(Outcome.INVALID_ANSWER, _NO_CONTENT)
    if not isinstance(usage, dict):
        raise AnswerError(Outcome.INVALID_ANSWER, _NO_USAGE)
    return text


def _fill_usage(observation: Observation, usage: dict[str, Any] | None) -> None:
    if usage is None:
        return
    observation.prompt_tokens = usage.get("prompt_tokens") or 0
    observation.completion_tokens = usage.get("completion_tokens") or 0
    details = usage.get("prompt_tokens_details")
    if isinstance(details, dict):
        observation.cached_tokens = details.get("cached_tokens")
