"""Sends a batch's lines, some at a time, and keeps what comes back."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2

from vllmstack.batch.journal import Journal
from vllmstack.batch.lines import BadLine, Request
from vllmstack.errors import Problem, StackError
from vllmstack.repeating import is_passing, pause_seconds, retry_after

TRIES = 5
"""Of one line that fails each time: then it is the line's own error. A failure counts if the server says that it was
its own (500), or if other lines were answered since the one before: while a gateway starts again, or has no replica,
all lines fail, and none of them for its own sake. Of the last lines of all nobody can tell, so they get all of the
run's patience; more of them than are asked at a time are a server that is away."""

ASIDE = 64
"""Lines that failed in silence and wait until others were tried; as many as are asked at a time, if that is more. While
a server is away all lines fail, and what waits is in memory."""

JSON = {"Content-Type": "application/json"}


@dataclass(kw_only=True)
class _Asked:
    """A line that is not answered yet."""

    request: Request
    tries: int = 0
    failures: int = 0
    """Of those, what counts against the line itself."""
    failed_at: float = field(default_factory=time.monotonic)
    due: float = 0.0
    """Before that it is not tried again."""


@dataclass(kw_only=True)
class Runner:
    """One run over the lines that are not done."""

    client: httpx2.AsyncClient
    journal: Journal
    concurrency: int
    patience_seconds: float = 600.0
    """How long no line at all may get an answer before the run gives up; what is answered by then is kept.

    From the first failure on, not from the answer before: with few lines at a time, one that takes all the time of a
    request must not have used up the others'.
    """
    ended: Callable[[], StackError | None] = lambda: None
    """Asked when a connection fails: why the server never answers again, where that can be known."""
    hint: str = "`vllmstack status` shows why"
    """Where to look when the server does not answer."""
    moved: Callable[[], object] = lambda: None
    """Called after each line that is done."""
    _last_answer: float = field(default_factory=time.monotonic)
    _failing_since: float | None = None
    """First failure after the last answer."""
    _lines: Iterator[Request | BadLine] = field(default_factory=lambda: iter(()))
    _ahead: Request | BadLine | None = None
    """The line that is next: None once all were sent."""
    _aside: deque[_Asked] = field(default_factory=deque)
    _open: int = 0
    """Lines that were sent and are not done, those set aside among them."""

    async def run(self, lines: Iterator[Request | BadLine]) -> None:
        """Returns when every line is done.

        Raises:
            VllmstackError: the server gave no answer for longer than patience allows, has ended, or refuses the key; an
                answer cannot be written. In an ExceptionGroup, as all workers end.
        """
        self._last_answer = time.monotonic()
        self._lines, self._ahead = lines, next(lines, None)
        async with asyncio.TaskGroup() as group:
            for _ in range(self.concurrency):
                group.create_task(self._work())

    async def _work(self) -> None:
        while (line := self._next()) is not None:
            if isinstance(line, BadLine):
                self._fail(line.number, line.custom_id, "invalid_line", line.fact)
                # A file of bad lines alone must not keep the others from their answers.
                await asyncio.sleep(0)
            elif await self._ask(line):
                self._open -= 1
            else:
                continue
            self.moved()

    def _next(self) -> _Asked | BadLine | None:
        """One that was set aside, once another was answered since or no other is left; else the next of the input."""
        if self._aside:
            first = self._aside[0]
            if self._ahead is None or (self._last_answer > first.failed_at and time.monotonic() >= first.due):
                return self._aside.popleft()
        if self._ahead is None:
            return None
        line, self._ahead = self._ahead, next(self._lines, None)
        if isinstance(line, BadLine):
            return line
        self._open += 1
        return _Asked(request=line)

    async def _ask(self, line: _Asked) -> bool:
        """Returns True when the line is done, False when it was set aside."""
        request = line.request
        await asyncio.sleep(max(0.0, line.due - time.monotonic()))
        while True:
            line.tries += 1
            wait: float | None = None
            try:
                answer = await self.client.post(request.url, content=request.body, headers=JSON)
            except httpx2.RequestError as error:
                if end := self.ended():
                    raise end from None
                said = f"{type(error).__name__}: {error}".rstrip(": ")
                self._count(line, self._last_answer > line.failed_at)
                if line.failures >= TRIES or self._is_last_and_silent(line):
                    self._fail(request.number, request.custom_id, "no_answer", said)
                    return True
            else:
                status = answer.status_code
                if status == httpx2.codes.UNAUTHORIZED:
                    raise _refused(answer)
                if not is_passing(status, answer.headers):
                    self._keep(request, answer)
                    return True
                own = status == httpx2.codes.INTERNAL_SERVER_ERROR or self._last_answer > line.failed_at
                self._count(line, own and status >= httpx2.codes.INTERNAL_SERVER_ERROR)
                if line.failures >= TRIES or self._is_last_and_silent(line):
                    self._keep(request, answer)
                    return True
                said = f"{status}: {answer.text[:200]}"
                wait = retry_after(answer.headers)
            self._give_up_after(said)
            await asyncio.sleep(wait or pause_seconds(line.tries))
            if self._may_wait(line):
                line.due = time.monotonic() + pause_seconds(line.tries)
                self._aside.append(line)
                return False

    def _count(self, line: _Asked, own: bool) -> None:
        line.failures += own
        line.failed_at = time.monotonic()
        if self._failing_since is None:
            self._failing_since = line.failed_at

    def _may_wait(self, line: _Asked) -> bool:
        """Whether nobody was answered since it failed, and others can be tried: then only they can tell whose fault."""
        silent = self._last_answer <= line.failed_at
        return silent and self._ahead is not None and len(self._aside) < max(ASIDE, self.concurrency)

    def _keep(self, request: Request, answer: httpx2.Response) -> None:
        if not is_passing(answer.status_code, answer.headers):
            self._last_answer, self._failing_since = time.monotonic(), None
        good = answer.status_code == httpx2.codes.OK
        try:
            body: Any = answer.json()
        except ValueError:
            good, body = False, {"error": {"message": answer.text[:1000], "type": "invalid_answer"}}
        document = {
            "custom_id": request.custom_id,
            "response": {
                "status_code": answer.status_code,
                "request_id": answer.headers.get("x-request-id", ""),
                "body": body,
            },
            "error": None,
        }
        if good:
            self.journal.answer(request.number, document)
        else:
            self.journal.error(request.number, document)

    def _fail(self, number: int, custom_id: str | None, code: str, message: str) -> None:
        error = {"code": code, "message": message}
        self.journal.error(number, {"custom_id": custom_id, "response": None, "error": error})

    def _is_last_and_silent(self, line: _Asked) -> bool:
        """Whether nothing but lines that are not answered is left, of a server that did answer others.

        After this one had failed, that is; or else they are few.
        """
        last = self._ahead is None and self.journal.done.count > 0
        return last and self._is_out_of_patience() and (line.failures > 0 or self._open <= self.concurrency)

    def _is_out_of_patience(self) -> bool:
        since = self._failing_since
        return since is not None and time.monotonic() - since >= self.patience_seconds

    def _give_up_after(self, said: str) -> None:
        if self._is_out_of_patience():
            silent = time.monotonic() - self._last_answer
            raise StackError(
                Problem(
                    fact=f"no line was answered for {silent:.0f} s; the last word was {said}",
                    hint=f"{self.hint}; the same command goes on where this one was",
                )
            )


def _refused(answer: httpx2.Response) -> StackError:
    """Of no use to any line: that all of them failed would have to be mended by hand."""
    hint = "export VLLMSTACK_API_KEY=…; the same command goes on where this one was"
    return StackError(Problem(fact=f"the server refuses the key: {answer.text[:300]}", hint=hint))
