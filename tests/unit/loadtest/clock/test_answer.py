"""What chunks and whole answers say, without a network."""

import json
from typing import Any

import pytest

from loadtest.clock.answer import StreamedAnswer, read_whole, spread
from loadtest.clock.failures import AnswerError
from loadtest.clock.observation import Observation, Outcome
from loadtest.workload.steps import CHAT, COMPLETIONS, EMBEDDINGS


class Stream:
    """A StreamedAnswer that gets an event at each whole second."""

    def __init__(self, path: str = CHAT, *, keep_text: bool = False) -> None:
        self.observation = Observation(scenario="s", model="m", scheduled_at=0.0)
        self.ends = 0
        self.answer = StreamedAnswer(self.observation, path=path, keep_text=keep_text, on_done=self._done)

    def _done(self) -> None:
        self.ends += 1

    def say(self, data: bytes | str) -> None:
        self.answer.at += 1.0
        self.answer.take(b"data: " + (data.encode() if isinstance(data, str) else data) + b"\n\n")

    def chunk(self, delta: Any, *, tokens: int | None = None, **choice: Any) -> None:
        """``tokens``: completion tokens so far, in a continuous usage."""
        chunk: dict[str, Any] = {"choices": [{"index": 0, "delta": delta, **choice}]}
        if tokens is not None:
            chunk["usage"] = usage(tokens)
        self.say(json.dumps(chunk))

    def finish(self, tokens: int | None = None) -> Observation:
        if tokens is not None:
            self.say(json.dumps({"choices": [], "usage": usage(tokens)}))
        self.say("[DONE]")
        self.answer.close()
        self.answer.settle()
        return self.observation


def usage(completion: int, prompt: int = 5) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def test_a_chunk_with_the_role_only_does_not_start_the_clock() -> None:
    stream = Stream()
    stream.chunk({"role": "assistant", "content": ""}, tokens=0)
    stream.chunk({"content": "Hello"}, tokens=1)
    assert stream.finish(1).first_token_at == 2.0


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "x"},
        {"reasoning": "x"},
        {"reasoning_content": "x"},
        {"content": None, "tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]},
    ],
)
@pytest.mark.parametrize("continuous", [True, False])
def test_content_reasoning_and_tool_calls_each_start_it(delta: dict[str, Any], continuous: bool) -> None:
    stream = Stream()
    stream.chunk({"role": "assistant", "content": ""}, tokens=0 if continuous else None)
    stream.chunk(delta, tokens=1 if continuous else None)
    observation = stream.finish(1)
    assert (observation.first_token_at, observation.chunk_times, observation.chunk_tokens) == (2.0, [2.0], [1])


def test_continuous_usage_says_how_many_tokens_a_chunk_holds() -> None:
    stream = Stream()
    for tokens in (2, 3, 7):
        stream.chunk({"content": "x"}, tokens=tokens)
    observation = stream.finish(7)
    assert observation.chunk_tokens == [2, 1, 4]
    assert (observation.prompt_tokens, observation.completion_tokens) == (5, 7)
    assert observation.last_token_at == 3.0


def test_tokens_without_text_before_the_first_text_are_counted_with_it() -> None:
    stream = Stream()
    stream.chunk({"content": ""}, tokens=1)
    stream.chunk({"content": ""}, tokens=2)
    stream.chunk({"content": "é"}, tokens=3)
    observation = stream.finish(3)
    assert (observation.chunk_times, observation.chunk_tokens) == ([3.0], [3])


def test_a_token_without_text_in_the_middle_or_at_the_end_came_when_its_usage_came() -> None:
    stream = Stream()
    for number, text in enumerate(("a", "", "b", ""), start=1):
        stream.chunk({"content": text}, tokens=number, finish_reason="stop" if number == 4 else None)
    observation = stream.finish(4)
    assert (observation.chunk_times, observation.chunk_tokens) == ([1.0, 2.0, 3.0, 4.0], [1, 1, 1, 1])
    assert observation.finish_reason == "stop"


def test_a_usage_that_counts_nothing_new_is_no_token() -> None:
    stream = Stream()
    stream.chunk({"content": "a"}, tokens=1)
    stream.chunk({}, tokens=1, finish_reason="stop")
    observation = stream.finish(1)
    assert (observation.chunk_times, observation.chunk_tokens) == ([1.0], [1])


def test_tokens_that_only_the_last_usage_counts_belong_to_the_last_chunk() -> None:
    stream = Stream()
    stream.chunk({"content": "a"}, tokens=1)
    stream.chunk({"content": "b"}, tokens=2)
    assert stream.finish(4).chunk_tokens == [1, 3]


def test_without_continuous_usage_tokens_are_spread_evenly_over_chunks() -> None:
    stream = Stream()
    for _ in range(4):
        stream.chunk({"content": "x"})
    observation = stream.finish(10)
    assert observation.chunk_tokens == [2, 3, 2, 3]
    assert observation.completion_tokens == 10


@pytest.mark.parametrize(("tokens", "chunks"), [(10, 4), (3, 4), (0, 3), (7, 7), (0, 0)])
def test_spreading_loses_nothing(tokens: int, chunks: int) -> None:
    shares = spread(tokens, chunks)
    assert len(shares) == chunks
    assert sum(shares) == tokens
    assert not shares or max(shares) - min(shares) <= 1


def test_completions_carry_their_text_in_the_choice() -> None:
    stream = Stream(COMPLETIONS, keep_text=True)
    stream.say(json.dumps({"choices": [{"text": ""}], "usage": usage(0)}))
    stream.say(json.dumps({"choices": [{"text": "Hi", "finish_reason": "length"}], "usage": usage(2)}))
    observation = stream.finish(2)
    assert (observation.chunk_times, observation.chunk_tokens, observation.finish_reason) == ([2.0], [2], "length")
    assert stream.answer.judge() == "Hi"


def test_the_prefix_cache_is_heard_of_in_the_last_usage() -> None:
    stream = Stream()
    stream.chunk({"content": "x"}, tokens=1)
    stream.say(json.dumps({"choices": [], "usage": {**usage(1), "prompt_tokens_details": {"cached_tokens": 4}}}))
    assert stream.finish().cached_tokens == 4


def test_a_server_that_says_nothing_of_its_cache_leaves_none() -> None:
    stream = Stream()
    stream.chunk({"content": "x"}, tokens=1)
    stream.say(json.dumps({"choices": [], "usage": {**usage(1), "prompt_tokens_details": None}}))
    assert stream.finish().cached_tokens is None


def test_a_usage_of_null_on_each_chunk_is_none() -> None:
    stream = Stream()
    for _ in range(2):
        stream.say(json.dumps({"choices": [{"delta": {"content": "x"}}], "usage": None}))
    assert stream.finish(4).chunk_tokens == [2, 2]


def test_text_is_kept_without_reasoning() -> None:
    stream = Stream(keep_text=True)
    stream.chunk({"reasoning": "hm"}, tokens=1)
    stream.chunk({"content": "a"}, tokens=2)
    stream.chunk({"content": "b"}, tokens=3)
    stream.finish(3)
    assert stream.answer.judge() == "ab"


@pytest.mark.parametrize(
    "event",
    [
        "",
        " ",
        '{"type":"ping"}',
        '{"choices":[],"model":"m"}',
        '{"choices":[{"finish_reason":"stop"}]}',
        '{"choices":[{"delta":null}]}',
        '{"choices":[{"delta":{"content":"x"}}],"usage":{"total_tokens":"many"}}',
        '{"choices":"x","usage":[1]}',
    ],
)
def test_events_that_are_no_chunks_change_nothing(event: str) -> None:
    stream = Stream()
    stream.say(event)
    stream.chunk({"content": "x"}, tokens=1)
    assert stream.finish(1).chunk_times == [2.0]


def test_the_end_is_announced_once() -> None:
    stream = Stream()
    stream.chunk({"content": "x"}, tokens=1)
    stream.finish(1)
    stream.say("no JSON, but nobody listens any more")
    assert stream.ends == 1


@pytest.mark.parametrize(
    ("event", "outcome", "text"),
    [
        (
            '{"error":{"message":"out of memory","code":500}}',
            Outcome.STREAM_ERROR,
            "error in the stream: out of memory",
        ),
        ('{"choices":[],"error":"broken"}', Outcome.STREAM_ERROR, "error in the stream: broken"),
        ('{"error":{"code":500}}', Outcome.STREAM_ERROR, "error in the stream: no reason given"),
        ('{"choices":[{"delta"', Outcome.INVALID_ANSWER, "an event of the stream is not JSON"),
        ("<html>", Outcome.INVALID_ANSWER, "an event of the stream is not JSON"),
        ("[1]", Outcome.INVALID_ANSWER, "an event of the stream is not JSON"),
    ],
)
def test_what_ends_a_stream_at_once(event: str, outcome: Outcome, text: str) -> None:
    stream = Stream()
    stream.chunk({"content": "x"}, tokens=1)
    with pytest.raises(AnswerError) as raised:
        stream.say(event)
    assert (raised.value.outcome, raised.value.text) == (outcome, text)
    stream.answer.settle()
    assert stream.observation.chunk_tokens == [1]


def test_a_stream_without_its_last_event_is_cut_short() -> None:
    stream = Stream()
    stream.chunk({"content": "x"}, tokens=1)
    with pytest.raises(AnswerError, match="ended without \\[DONE\\]") as raised:
        stream.answer.judge()
    assert raised.value.outcome is Outcome.TRUNCATED


def test_a_stream_without_content_is_no_answer() -> None:
    stream = Stream()
    stream.chunk({"role": "assistant", "content": ""}, tokens=0)
    stream.finish(0)
    with pytest.raises(AnswerError, match="no content") as raised:
        stream.answer.judge()
    assert raised.value.outcome is Outcome.INVALID_ANSWER


def test_a_stream_without_usage_is_no_answer() -> None:
    stream = Stream()
    stream.chunk({"content": "x"})
    stream.finish()
    with pytest.raises(AnswerError, match="no usage") as raised:
        stream.answer.judge()
    assert raised.value.outcome is Outcome.INVALID_ANSWER


def whole(path: str, answer: Any) -> tuple[str, Observation]:
    observation = Observation(scenario="s", model="m", scheduled_at=0.0)
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return read_whole(body, observation, path=path), observation


def test_a_whole_chat_answer_is_read() -> None:
    message = {"role": "assistant", "content": "Hi"}
    text, seen = whole(CHAT, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage(3)})
    assert (text, seen.prompt_tokens, seen.completion_tokens, seen.finish_reason) == ("Hi", 5, 3, "stop")
    assert seen.ttft_seconds is None
    assert seen.chunk_times == []


def test_a_whole_answer_may_be_a_tool_call() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    text, seen = whole(CHAT, {"choices": [{"message": message}], "usage": usage(3)})
    assert (text, seen.completion_tokens) == ("", 3)


def test_whole_completions_and_embeddings_are_read() -> None:
    text, seen = whole(COMPLETIONS, {"choices": [{"text": "Hi", "finish_reason": "length"}], "usage": usage(3)})
    assert (text, seen.completion_tokens) == ("Hi", 3)
    text, seen = whole(EMBEDDINGS, {"data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 9, "total_tokens": 9}})
    assert (text, seen.prompt_tokens, seen.completion_tokens) == ("", 9, 0)


@pytest.mark.parametrize(
    ("path", "answer", "text"),
    [
        (CHAT, b"<html>", "the answer is not JSON"),
        (CHAT, [1], "the answer is not a JSON object"),
        (CHAT, {"error": {"message": "no such thing"}}, "error in a 200: no such thing"),
        (CHAT, {"choices": [{"message": {"content": ""}}], "usage": usage(0)}, "no content in the answer"),
        (CHAT, {"choices": [], "usage": usage(0)}, "no content in the answer"),
        (CHAT, {"choices": [{"message": {"content": "x"}}]}, "no usage in the answer"),
        (EMBEDDINGS, {"data": [], "usage": usage(0)}, "no content in the answer"),
        (EMBEDDINGS, {"data": [{"embedding": [1.0]}]}, "no usage in the answer"),
    ],
)
def test_whole_answers_that_are_none(path: str, answer: Any, text: str) -> None:
    with pytest.raises(AnswerError) as raised:
        whole(path, answer)
    assert (raised.value.outcome, raised.value.text) == (Outcome.INVALID_ANSWER, text)
