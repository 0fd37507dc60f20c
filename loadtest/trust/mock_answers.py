"""What the mock server says: vLLM's answers, in their exact shape, and every way to spoil them."""

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import orjson

from loadtest.clock.events import DONE
from loadtest.trust.mock_requests import Asked, Behaviour
from loadtest.workload.steps import CHAT

_WORDS = (" the", " quick", " brown", " fox", " jumps", " over", " a", " lazy", " dog", " today")
_END_OF_BODY = b"0\r\n\r\n"


def error_body(status: int, message: str, kind: str) -> bytes:
    """The error object of vLLM, as the body of an answer or the data of an event."""
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": status}})


class Writer:
    """Makes the bytes of one answer: HTTP chunks that hold server-sent events, or one JSON body."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._chat = asked.path == CHAT
        self._head: dict[str, Any] = {
            "id": f"{'chatcmpl' if self._chat else 'cmpl'}-{uuid4().hex}",
            "object": "chat.completion.chunk" if self._chat else "text_completion",
            "created": int(time.time()),
            "model": asked.model,
        }
        self._frame = _framing(asked.behaviour)
        self._words = (asked.behaviour.text,) if asked.behaviour.text else _WORDS
        self._content = [self._parts(content=word) for word in self._words]

    def opening(self) -> bytes:
        """What comes before the first token: chat says who speaks."""
        mark = _http_chunk(b"\xef\xbb\xbf") if self._asked.behaviour.byte_order_mark else b""
        if not self._chat:
            return mark
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        before, after = self._around_usage({**self._head, "choices": [choice]})
        return mark + self._frame(before + self._usage(0) + after)

    def tokens(self, first: int, count: int) -> bytes:
        """The chunk with tokens number ``first`` (from 0) and the ``count`` − 1 after it."""
        asked, behaviour = self._asked, self._asked.behaviour
        end = first + count
        last = end >= asked.max_tokens
        thinks = first < behaviour.reasoning_tokens
        if count == 1 and not last and not thinks and not behaviour.tool_call:
            before, after = self._content[first % len(self._content)]
            return self._frame(before + self._usage(end) + after)
        words = [self._words[number % len(self._words)] for number in range(first, end)]
        if last and behaviour.last_token_is_empty:
            words.pop()
        text = "".join(words)
        field = "tool" if behaviour.tool_call else "reasoning" if thinks else "content"
        before, after = self._parts(
            **{field: text}, finish_reason=behaviour.finish_reason if last else None, opens=first == 0
        )
        return self._frame(before + self._usage(end) + after)

    def broken_chunk(self, first: int) -> bytes:
        """A chunk whose JSON was cut."""
        before, _after = self._content[first % len(self._content)]
        return self._frame(before[:-20])

    def failure(self) -> bytes:
        """The event that says that generation failed, and the end."""
        error = error_body(500, self._asked.behaviour.message, "InternalServerError")
        return self._frame(error) + self._frame(DONE) + _END_OF_BODY

    def closing(self) -> bytes:
        """What comes after the last token."""
        behaviour = self._asked.behaviour
        parts = []
        if self._asked.include_usage:
            chunk = {**self._head, "choices": [], "usage": self._final_usage()}
            parts.append(self._frame(orjson.dumps(chunk)))
        if not behaviour.no_done:
            parts.append(self._frame(DONE))
        if not behaviour.unterminated:
            parts.append(_END_OF_BODY)
        return b"".join(parts)

    def whole(self) -> bytes:
        """The body of an answer that is not streamed."""
        asked, behaviour = self._asked, self._asked.behaviour
        words = (
            [] if behaviour.empty else [self._words[number % len(self._words)] for number in range(asked.max_tokens)]
        )
        text = "".join(words)
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": behaviour.finish_reason}
        if self._chat:
            choice["message"] = {"role": "assistant", "content": text, "reasoning": None}
        else:
            choice["text"] = text
        answer: dict[str, Any] = {**self._head, "choices": [choice]}
        if self._chat:
            answer["object"] = "chat.completion"
        if not behaviour.no_usage:
            answer["usage"] = self._final_usage()
        return orjson.dumps(answer)

    def _parts(
        self,
        *,
        content: str = "",
        reasoning: str = "",
        tool: str | None = None,
        finish_reason: str | None = None,
        opens: bool = False,
    ) -> tuple[bytes, bytes]:
        """A chunk's bytes before and after the numbers of its ``usage``."""
        choice: dict[str, Any] = {"index": 0}
        if not self._chat:
            choice["text"] = content or reasoning or tool or ""
        elif tool is not None:
            function = {"name": "look_up", "arguments": tool} if opens else {"arguments": tool}
            call = {"id": f"call_{uuid4().hex}", "type": "function"} if opens else {}
            choice["delta"] = {"tool_calls": [{**call, "index": 0, "function": function}]}
        else:
            choice["delta"] = {"reasoning": reasoning} if reasoning else {"content": content}
        choice |= {"logprobs": None, "finish_reason": finish_reason}
        if not self._chat or finish_reason is not None:
            choice["stop_reason"] = None
        choice["token_ids"] = None
        return self._around_usage({**self._head, "choices": [choice]})

    def _around_usage(self, chunk: dict[str, Any]) -> tuple[bytes, bytes]:
        data = orjson.dumps(chunk)
        if not self._asked.continuous_usage:
            return data, b""
        usage = b',"usage":{"prompt_tokens":%d,"total_tokens":' % self._asked.prompt_tokens
        return data[:-1] + usage, b',"completion_tokens_details":null}}' if self._chat else b"}}"

    def _usage(self, completion_tokens: int) -> bytes:
        if not self._asked.continuous_usage:
            return b""
        total = self._asked.prompt_tokens + completion_tokens
        return b'%d,"completion_tokens":%d' % (total, completion_tokens)

    def _final_usage(self) -> dict[str, Any]:
        prompt, completion = self._asked.prompt_tokens, self._asked.max_tokens
        usage = {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}
        cached = self._asked.behaviour.cached_tokens
        return usage if cached is None else {**usage, "prompt_tokens_details": {"cached_tokens": cached}}


def embeddings(asked: Asked, dimensions: int = 8) -> bytes:
    """The body of an answer of /v1/embeddings."""
    vector = [round(0.125 * (place + 1), 3) for place in range(dimensions)]
    entries = [{"index": place, "object": "embedding", "embedding": vector} for place in range(asked.inputs)]
    answer: dict[str, Any] = {
        "id": f"embd-{uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": asked.model,
        "data": [] if asked.behaviour.empty else entries,
    }
    if not asked.behaviour.no_usage:
        usage = {"prompt_tokens": asked.prompt_tokens, "total_tokens": asked.prompt_tokens, "completion_tokens": 0}
        answer["usage"] = usage
    return orjson.dumps(answer)


def _http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _framing(behaviour: Behaviour) -> Callable[[bytes], bytes]:
    """How an event's data becomes bytes on the wire."""
    spoiled = behaviour.keep_alives or behaviour.multi_line or behaviour.split_bytes or behaviour.line_end != "\n"
    if not spoiled:
        return _event
    end = behaviour.line_end.encode()

    def frame(data: bytes) -> bytes:
        lines = data.replace(b',"', b',\n"').split(b"\n") if behaviour.multi_line else [data]
        event = b"".join(b"data: " + line + end for line in lines) + end
        if behaviour.keep_alives:
            event = b": ping" + end + end + event
        step = behaviour.split_bytes or len(event)
        return b"".join(_http_chunk(event[start : start + step]) for start in range(0, len(event), step))

    return frame


def _event(data: bytes) -> bytes:
    return b"%x\r\ndata: %b\n\n\r\n" % (len(data) + 8, data)
