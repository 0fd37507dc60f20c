"""Clients of any OpenAI-compatible server that tell what a user would feel: TTFT and TPOT of each answer."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx2
import openai
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import ChoiceDelta

from vllmstack.errors import InvalidInput, Problem, StackError
from vllmstack.host.gateway_client import trusts_environment
from vllmstack.repeating import is_passing, pause_seconds, retry_after

FAILURES = (openai.APIError, httpx2.HTTPError)
"""Not every release of openai makes its own error of what breaks a stream that has begun."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A whole answer, and what it took."""

    text: str
    finish_reason: str
    prompt_tokens: int
    output_tokens: int
    ttft_seconds: float | None
    """From sending to the first token, be it of text, of reasoning or of a tool call; None where there was none."""
    seconds: float
    """From sending to the last token; to the end where there was none."""

    @property
    def tpot_seconds(self) -> float | None:
        """Time per output token after the first: decode time ÷ (tokens − 1); None for fewer than two."""
        if self.ttft_seconds is None or self.output_tokens < 2:
            return None
        return (self.seconds - self.ttft_seconds) / (self.output_tokens - 1)


class Collected:
    """Makes an answer of a stream's chunks as they come."""

    def __init__(self, on_text: Callable[[str], object] | None = None, *, began: float | None = None) -> None:
        """``began`` is when it was first asked for (time.perf_counter); now, if left out."""
        self._began = time.perf_counter() if began is None else began
        self._first: float | None = None
        self._last: float | None = None
        self._parts: list[str] = []
        self._finish = ""
        self._tokens = (0, 0)
        self._on_text = on_text

    @property
    def has_begun(self) -> bool:
        """Whether any text has come: then it cannot be asked again unseen."""
        return bool(self._parts)

    def take(self, chunk: ChatCompletionChunk) -> None:
        """One chunk; its text is passed on at once."""
        if chunk.usage:
            self._tokens = (chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
        for choice in chunk.choices:
            self._finish = choice.finish_reason or self._finish
            text = choice.delta.content
            if text or _thinks_or_calls(choice.delta):
                self._last = time.perf_counter()
                self._first = self._last if self._first is None else self._first
            if text:
                self._parts.append(text)
                if self._on_text:
                    self._on_text(text)

    def answer(self) -> Answer:
        """Of all chunks, once the last has come."""
        ended = time.perf_counter() if self._last is None else self._last
        return Answer(
            text="".join(self._parts),
            finish_reason=self._finish,
            prompt_tokens=self._tokens[0],
            output_tokens=self._tokens[1],
            ttft_seconds=None if self._first is None else self._first - self._began,
            seconds=ended - self._began,
        )


def _thinks_or_calls(delta: ChoiceDelta) -> bool:
    """As the load test's clock has it (loadtest/clock/answer.py). Servers said ``reasoning_content`` before."""
    return any(getattr(delta, name, None) for name in ("reasoning", "reasoning_content", "tool_calls"))


def query_server(
    prompt: str | Sequence[dict[str, Any]],
    base_url: str = "http://127.0.0.1:8000/v1",
    *,
    model: str | None = None,
    api_key: str | None = None,
    on_text: Callable[[str], object] | None = None,
    timeout_seconds: float = 600,
    **options: Any,
) -> Answer:
    """One answer, streamed.

    Args:
        prompt: A question, or a chat's messages.
        base_url: Of the server, with its ``/v1``.
        model: Its name; the first that the server lists if left out.
        api_key: None where the server asks for none.
        on_text: Called with each piece of text as it comes, for who wants to see it: ``print``.
        timeout_seconds: How long the server may be silent.
        **options: Of the request: ``max_tokens``, ``temperature`` and so on.

    Raises:
        InvalidInput: ``n`` is above 1.
        StackError: the server does not answer, refuses, or breaks off; with what it said.
    """
    _check_one(options)
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    with openai.OpenAI(
        base_url=base_url,
        api_key=api_key or "none",
        max_retries=0,
        timeout=timeout_seconds,  # openai takes an http_client's own for not given where it is httpx2's default
        http_client=httpx2.Client(trust_env=trusts_environment(base_url)),
    ) as client:
        named = model or first_model(client, base_url)
        return streamed(client, base_url, model=named, messages=messages, on_text=on_text, options=options)


def first_model(client: openai.OpenAI, base_url: str | None) -> str:
    """The first that the server lists; ``base_url`` is as in :func:`said`.

    Raises:
        StackError: it lists none, does not answer, or refuses.
    """
    try:
        return _first(client.models.list().data, base_url)
    except FAILURES as error:
        raise said(error, base_url, broken=False) from None


def streamed(
    client: openai.OpenAI,
    base_url: str | None,
    *,
    model: str,
    messages: Sequence[dict[str, Any]],
    on_text: Callable[[str], object] | None,
    options: dict[str, Any],
) -> Answer:
    """One answer by a client that is connected already; ``base_url`` is as in :func:`said`.

    Raises:
        StackError: the server does not answer, refuses, or breaks off; with what it said.
    """
    collected = Collected(on_text)
    try:
        for chunk in client.chat.completions.create(**_asked(model, messages, options)):
            collected.take(chunk)
    except FAILURES as error:
        raise said(error, base_url, broken=collected.has_begun) from None
    return collected.answer()


class AsyncClient:
    """Many requests at a time, each tried again while that can help and its deadline has not passed.

    docs/guides/python.md has an example, which runs as a test.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000/v1",
        *,
        api_key: str | None = None,
        tries: int = 5,
        deadline_seconds: float = 600,
        connections: int = 1000,
    ) -> None:
        """Connects to nothing yet.

        Args:
            base_url: Of the server, with its ``/v1``.
            api_key: None where the server asks for none.
            tries: Of one request, the first among them.
            deadline_seconds: Of one request with all its tries and pauses.
            connections: At a time; more requests wait for one.
        """
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._base_url = base_url
        self._tries = tries
        self._deadline_seconds = deadline_seconds
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or "none",
            max_retries=0,  # its own know no deadline
            timeout=None,  # the deadline is all: a long silence is no broken connection, to be asked again
            http_client=httpx2.AsyncClient(limits=limits, trust_env=trusts_environment(base_url)),
        )
        self._model: str | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes its connections."""
        await self._client.close()

    async def chat(
        self,
        prompt: str | Sequence[dict[str, Any]],
        *,
        model: str | None = None,
        on_text: Callable[[str], object] | None = None,
        deadline_seconds: float | None = None,
        **options: Any,
    ) -> Answer:
        """One answer, streamed; see :func:`query_server`. An answer that has begun is not asked for again.

        Its times count from the first try on, pauses included.

        Raises:
            InvalidInput: ``n`` is above 1.
            StackError: it failed for good, or its deadline has passed.
        """
        _check_one(options)
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        seconds = self._deadline_seconds if deadline_seconds is None else deadline_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._tried(model, messages, on_text, options)
        except TimeoutError:
            fact = f"{self._base_url} did not answer within {seconds:g} s"
            raise StackError(Problem(fact=fact, hint="raise `deadline_seconds`, or see `vllmstack top`")) from None

    async def chat_all(
        self, prompts: Iterable[str | Sequence[dict[str, Any]]], *, at_a_time: int = 64, **options: Any
    ) -> list[Answer | StackError]:
        """All of them, in their order; one that fails is its error, and ends none of the others."""
        gate = asyncio.Semaphore(at_a_time)

        async def one(prompt: str | Sequence[dict[str, Any]]) -> Answer | StackError:
            async with gate:
                try:
                    return await self.chat(prompt, **options)
                except StackError as error:
                    return error

        return await asyncio.gather(*(one(prompt) for prompt in prompts))

    async def _tried(
        self,
        model: str | None,
        messages: Sequence[dict[str, Any]],
        on_text: Callable[[str], object] | None,
        options: dict[str, Any],
    ) -> Answer:
        began: float | None = None
        for number in range(1, self._tries + 1):
            collected = Collected(on_text)
            try:
                named = model or await self._first_model()
                began = time.perf_counter() if began is None else began
                collected = Collected(on_text, began=began)
                async for chunk in await self._stream(_asked(named, messages, options)):
                    collected.take(chunk)
                return collected.answer()
            except FAILURES as error:
                if collected.has_begun or not _may_pass(error) or number == self._tries:
                    raise said(error, self._base_url, broken=collected.has_begun) from None
                wait = retry_after(error.response.headers) if isinstance(error, openai.APIStatusError) else None
            await asyncio.sleep(wait or pause_seconds(number))
        raise AssertionError("the last try returns or raises")

    async def _stream(self, asked: dict[str, Any]) -> AsyncIterator[ChatCompletionChunk]:
        stream: AsyncIterator[ChatCompletionChunk] = await self._client.chat.completions.create(**asked)
        return stream

    async def _first_model(self) -> str:
        if self._model is None:
            self._model = _first((await self._client.models.list()).data, self._base_url)
        return self._model


def said(error: openai.APIError | httpx2.HTTPError, base_url: str | None, *, broken: bool) -> StackError:
    """What went wrong, in the server's own words. ``base_url`` None: it is the stack's gateway, asked in a terminal."""
    told = error.__cause__ if isinstance(error, openai.APIConnectionError) and error.__cause__ else error
    words = told.message if isinstance(told, openai.APIError) else str(told) or type(told).__name__
    if broken:
        return StackError(Problem(fact=f"the answer broke off: {words}", hint="see `vllmstack status`"))
    if isinstance(error, openai.AuthenticationError):
        hint = "give `api_key`" if base_url else "export VLLMSTACK_API_KEY=…"
        return StackError(Problem(fact=f"{base_url or 'the gateway'} refuses the key: {words}", hint=hint))
    where = f" from {base_url}" if base_url else ""
    return StackError(Problem(fact=f"no answer{where}: {words}", hint="see `vllmstack status`"))


def _first(models: Sequence[openai.types.Model], base_url: str | None) -> str:
    if not models:
        hint = "wait until it has loaded one, or give `model`" if base_url else "see `vllmstack status`"
        raise StackError(Problem(fact=f"{base_url or 'the gateway'} lists no model", hint=hint))
    return models[0].id


def _check_one(options: dict[str, Any]) -> None:
    """Several answers come in turns in one stream: their texts would be mixed."""
    several = options.get("n")
    if isinstance(several, int) and several > 1:
        hint = "ask as often, or ask a client of openai's own"
        raise InvalidInput(Problem(fact=f"n={several} asks for several answers a prompt", hint=hint))


def _asked(model: str, messages: Sequence[dict[str, Any]], options: dict[str, Any]) -> dict[str, Any]:
    usage = {"include_usage": True}
    return {"model": model, "messages": list(messages), "stream": True, "stream_options": usage, **options}


def _may_pass(error: openai.APIError | httpx2.HTTPError) -> bool:
    if isinstance(error, openai.APIStatusError):
        return is_passing(error.status_code, error.response.headers)
    return isinstance(error, (openai.APIConnectionError, httpx2.HTTPError))
