"""Streams that are counted to their last token: a fixed number at a time, while something is done to the stack."""

import asyncio
import json
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import httpx2

START_SECONDS = 180.0
"""Until every stream has had its first chunk."""
LIMIT_SECONDS = 900.0
"""Of one request: far longer than what is measured."""


@dataclass(kw_only=True)
class Outcome:
    """What became of the streams."""

    complete: int = 0
    failed: list[str] = field(default_factory=list)
    """Without a first chunk: what was said instead."""
    truncated: list[str] = field(default_factory=list)
    """Begun, and not ended as they should: what was missing."""
    longest_wait_seconds: float = 0.0
    """For a first chunk."""
    longest_pause_seconds: float = 0.0
    """Between two chunks."""

    @property
    def lossless(self) -> bool:
        """Nothing was lost, and there was something to lose."""
        return self.complete > 0 and not self.failed and not self.truncated

    def summary(self) -> dict[str, Any]:
        """For a report: counts, and the first few complaints."""
        return asdict(self) | {
            "failed": len(self.failed),
            "truncated": len(self.truncated),
            "complaints": (self.failed + self.truncated)[:5],
            "longest_wait_seconds": round(self.longest_wait_seconds, 1),
            "longest_pause_seconds": round(self.longest_pause_seconds, 1),
        }

    def __str__(self) -> str:
        return (
            f"{self.complete} streams complete, {len(self.failed)} failed, {len(self.truncated)} truncated; "
            f"longest wait {self.longest_wait_seconds:.1f} s, longest pause {self.longest_pause_seconds:.1f} s"
        )


class Streams:
    """A context manager: within the block ``count`` clients stream, each answer exactly ``tokens`` tokens long.

    It begins when each has had a first chunk, and ends when all that were begun have ended. ``outcome`` has what came
    of them. ``pause_seconds`` lie between a client's streams, so that they do not take all of a small machine.
    """

    def __init__(
        self, url: str, model: str, *, count: int, tokens: int, pause_seconds: float = 0.0, key: str | None = None
    ) -> None:
        self.outcome = Outcome()
        self._url = url
        self._body = {
            "model": model,
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        self._tokens = tokens
        self._count = count
        self._pause_seconds = pause_seconds
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._enough = threading.Event()
        self._begun = threading.Semaphore(0)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        for _ in range(self._count):
            if not self._begun.acquire(timeout=max(0.0, deadline - time.monotonic())):
                self.__exit__()
                raise TimeoutError(f"not every stream began within {START_SECONDS:.0f} s: {self.outcome}")
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    async def _run(self) -> None:
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=self._count)
        async with httpx2.AsyncClient(
            base_url=self._url, headers=self._headers, timeout=LIMIT_SECONDS, limits=limits, trust_env=False
        ) as client:
            await asyncio.gather(*(self._keep_asking(client, number) for number in range(self._count)))

    async def _keep_asking(self, client: httpx2.AsyncClient, number: int) -> None:
        turn = 0
        while not self._enough.is_set():
            await self._ask(client, f"Stream {number}, turn {turn}: what is the capital of France?", first=turn == 0)
            turn += 1
            if not self._enough.is_set():
                await asyncio.sleep(self._pause_seconds)

    async def _ask(self, client: httpx2.AsyncClient, prompt: str, *, first: bool) -> None:
        sent = time.monotonic()
        last: float | None = None
        end = {"finish": "", "tokens": 0, "done": False}
        outcome = self.outcome
        try:
            async with client.stream("POST", "/v1/completions", json=self._body | {"prompt": prompt}) as answer:
                if answer.status_code != httpx2.codes.OK:
                    outcome.failed.append(f"{answer.status_code} {(await answer.aread()).decode()[:200]}")
                    await asyncio.sleep(0.2)  # not thousands of refusals a second
                    return
                async for line in answer.aiter_lines():
                    if not line.startswith("data: "):
                        continue
                    now = time.monotonic()
                    if last is None:
                        outcome.longest_wait_seconds = max(outcome.longest_wait_seconds, now - sent)
                        if first:
                            self._begun.release()
                    else:
                        outcome.longest_pause_seconds = max(outcome.longest_pause_seconds, now - last)
                    last = now
                    _note(end, line.removeprefix("data: "))
        except httpx2.HTTPError as error:
            (outcome.truncated if last else outcome.failed).append(f"{type(error).__name__}: {error}")
            return
        if end == {"finish": "length", "tokens": self._tokens, "done": True}:
            outcome.complete += 1
        else:
            outcome.truncated.append(f"it ended with {end}, {self._tokens} tokens were asked for")


def _note(end: dict[str, Any], data: str) -> None:
    """What an event says of the stream's end."""
    if data == "[DONE]":
        end["done"] = True
        return
    event = json.loads(data)
    if usage := event.get("usage"):
        end["tokens"] = usage["completion_tokens"]
    for choice in event.get("choices", []):
        end["finish"] = choice.get("finish_reason") or end["finish"]
    if "error" in event:
        end["error"] = event["error"]
