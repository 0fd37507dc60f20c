"""Sends a batch's lines, some at a time, and keeps what comes back."""

import asyncio
import time
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
run's patience."""

JSON = {"Content-Type": "application/json"}


@dataclass(kw_only=True)
class Runner:
    """One run over the lines that are not done."""

    client: httpx2.AsyncClient
    journal: Journal
    concurrency: int
    patience_seconds: float = 600.0
    """How long no line at all may get an answer before the run gives up; what is answered by then is kept."""
    moved: Callable[[], object] = lambda: None
    """Called after each line that is done."""
    _last_answer: float = field(default_factory=time.monotonic)
    _all_sent: bool = False

    async def run(self, lines: Iterator[Request | BadLine]) -> None:
        """Returns when every line is done.

        Raises:
            VllmstackError: the server gave no answer for longer than patience allows, or refuses the key; an answer
                cannot be written. In an ExceptionGroup, as all workers end.
        """
        self._last_answer = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(self.concurrency):
                group.create_task(self._work(lines))

    async def _work(self, lines: Iterator[Request | BadLine]) -> None:
        for line in lines:
            if isinstance(line, BadLine):
                self._fail(line.number, line.custom_id, "invalid_line", line.fact)
                # A file of bad lines alone must not keep the others from their answers.
                await asyncio.sleep(0)
            else:
                await self._ask(line)
            self.moved()
        self._all_sent = True

    async def _ask(self, request: Request) -> None:
        tries, failures, failed_at = 0, 0, time.monotonic()
        while True:
            tries += 1
            wait: float | None = None
            try:
                answer = await self.client.post(request.url, content=request.body, headers=JSON)
            except httpx2.RequestError as error:
                failures += self._last_answer > failed_at
                said = f"{type(error).__name__}: {error}".rstrip(": ")
                if failures >= TRIES or self._is_last_and_silent():
                    self._fail(request.number, request.custom_id, "no_answer", said)
                    return
            else:
                status = answer.status_code
                if status == httpx2.codes.UNAUTHORIZED:
                    raise _refused(answer)
                own = status == httpx2.codes.INTERNAL_SERVER_ERROR or self._last_answer > failed_at
                failures += own and status >= httpx2.codes.INTERNAL_SERVER_ERROR
                if not is_passing(status, answer.headers) or failures >= TRIES or self._is_last_and_silent():
                    self._keep(request, answer)
                    return
                said = f"{status}: {answer.text[:200]}"
                wait = retry_after(answer.headers)
            failed_at = time.monotonic()
            self._give_up_after(said)
            await asyncio.sleep(wait or pause_seconds(tries))

    def _keep(self, request: Request, answer: httpx2.Response) -> None:
        if not is_passing(answer.status_code, answer.headers):
            self._last_answer = time.monotonic()
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

    def _is_last_and_silent(self) -> bool:
        """Whether nothing but lines that are not answered is left, of a server that did answer others."""
        silent = time.monotonic() - self._last_answer > self.patience_seconds
        return silent and self._all_sent and self.journal.done.count > 0

    def _give_up_after(self, said: str) -> None:
        silent = time.monotonic() - self._last_answer
        if silent > self.patience_seconds:
            raise StackError(
                Problem(
                    fact=f"no line was answered for {silent:.0f} s; the last word was {said}",
                    hint="`vllmstack status` shows why; the same command goes on where this one was",
                )
            )


def _refused(answer: httpx2.Response) -> StackError:
    """Of no use to any line: that all of them failed would have to be mended by hand."""
    hint = "export VLLMSTACK_API_KEY=…; the same command goes on where this one was"
    return StackError(Problem(fact=f"the server refuses the key: {answer.text[:300]}", hint=hint))
