"""The mock server's engine: it owes each answer its tokens at known times, and keeps them."""

import asyncio
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush, heapreplace
from itertools import count
from time import perf_counter

from loadtest.trust.mock_answers import Writer
from loadtest.trust.mock_metrics import Tally
from loadtest.trust.mock_requests import Asked
from loadtest.trust.precise_timer import PreciseTimer

_LARGEST_BATCH = 256
"""Chunks that are written before requests are read again."""


class Answer:
    """One request being answered. Times are ``perf_counter``'s."""

    def __init__(self, asked: Asked, *, arrived_at: float) -> None:
        self.asked = asked
        self.arrived_at = arrived_at
        self.base = arrived_at
        """Deadlines count from here: the arrival, or when a slot was free, put off by stalls."""
        self.tokens = 0
        """Sent so far."""
        self.sent_at = 0.0
        """The last chunk."""
        self.first_sent_at = 0.0
        self.over = False
        self.behaviour = asked.behaviour
        self._prefilled = False

    def begin(self, at: float) -> float:
        """Starts work at ``at``; the first deadline."""
        self.base = at
        return at + self.behaviour.ttft_seconds

    def step(self, now: float, tally: Tally) -> float | None:
        """Does what is due; the next deadline, None if there is nothing more to do."""
        raise NotImplementedError

    def prefill(self, tally: Tally) -> None:
        """Counts the prompt, once, as vLLM does with the first token: of requests that end early too."""
        if not self._prefilled:
            self._prefilled = True
            tally.prompt_tokens += self.asked.prompt_tokens
            tally.cached_tokens += self.behaviour.cached_tokens or 0

    def finish(self, now: float, tally: Tally, reason: str) -> None:
        """Counts the request as vLLM does when it is complete; that it was a tool call its engine does not know."""
        self.over = True
        self.prefill(tally)
        tally.finished[reason if reason in tally.finished else "stop"] += 1
        histograms = tally.histograms
        histograms["e2e_request_latency_seconds"].record(now - self.arrived_at)
        first = self.first_sent_at or now
        histograms["request_prefill_time_seconds"].record(self.behaviour.ttft_seconds)
        histograms["request_queue_time_seconds"].record(self.base - self.arrived_at)
        histograms["request_decode_time_seconds"].record(now - first)
        if self.tokens > 1:
            histograms["request_time_per_output_token_seconds"].record((now - first) / (self.tokens - 1))


class Whole(Answer):
    """An answer in one piece, when its last token would have come."""

    def __init__(
        self, asked: Asked, send: Callable[[bytes], None], body: Callable[[], bytes], *, tokens: int, arrived_at: float
    ) -> None:
        super().__init__(asked, arrived_at=arrived_at)
        self._send = send
        self._body = body
        self._total = tokens

    def begin(self, at: float) -> float:
        """As a stream, but nothing is seen of it before its end."""
        return super().begin(at) + max(0, self._total - 1) * self.behaviour.itl_seconds

    def step(self, now: float, tally: Tally) -> float | None:
        """Sends it."""
        self._send(self._body())
        self.first_sent_at = self.base + self.behaviour.ttft_seconds
        self.tokens = self._total
        tally.generation_tokens += self._total
        self.finish(now, tally, self.behaviour.finish_reason)
        return None


class Stream(Answer):
    """An answer chunk by chunk: chunk ``i`` is due at arrival + TTFT + (tokens before it) × ITL, without drift."""

    def __init__(
        self,
        asked: Asked,
        writer: Writer,
        send: Callable[[bytes], None],
        cut: Callable[[], None],
        *,
        arrived_at: float,
    ) -> None:
        super().__init__(asked, arrived_at=arrived_at)
        self._writer = writer
        self._send = send
        self._cut = cut
        told = asked.behaviour
        ends = (told.error_after, told.truncate_after, told.cut_after, told.silent_after)
        self._faulty = told.empty or told.bad_json or any(end is not None for end in ends)

    def step(self, now: float, tally: Tally) -> float | None:
        """Sends the chunk that is due."""
        asked, behaviour, tokens = self.asked, self.behaviour, self.tokens
        if self._faulty and self._fault(now, tally):
            return None
        size = min(behaviour.tokens_per_chunk, asked.max_tokens - tokens)
        data = self._writer.tokens(tokens, size)
        if not tokens and not behaviour.role_early:
            data = self._writer.opening() + data
        end = tokens + size
        if end >= asked.max_tokens:
            data += self._writer.closing()
        written_at = perf_counter()
        self._send(data)
        if tokens:
            gap = (written_at - self.sent_at) / size
            tally.itl_seconds.append(gap)
            tally.inter_token.record(gap, size)
        else:
            self.first_sent_at = written_at
            self.prefill(tally)
            tally.ttft_seconds.append(written_at - self.arrived_at)
            tally.first_token.record(written_at - self.arrived_at)
        tally.lateness_seconds.append(written_at - self._due(tokens))
        tally.chunks += 1
        tally.generation_tokens += size
        self.sent_at = written_at
        self.tokens = end
        if end < asked.max_tokens:
            return self._due(end)
        self.finish(written_at, tally, behaviour.finish_reason)
        return None

    def _due(self, tokens: int) -> float:
        return self.base + self.behaviour.ttft_seconds + tokens * self.behaviour.itl_seconds

    def _fault(self, now: float, tally: Tally) -> bool:
        """Whether the answer ends here, and not as it should."""
        behaviour, tokens = self.behaviour, self.tokens
        if behaviour.empty:
            self._send(self._writer.opening() + self._writer.closing())
            self.finish(now, tally, "stop")
        elif behaviour.error_after is not None and tokens >= behaviour.error_after:
            self._send(self._writer.failure())
            self.finish(now, tally, "error")
        elif behaviour.truncate_after is not None and tokens >= behaviour.truncate_after:
            self._send(b"0\r\n\r\n")
            self.finish(now, tally, "abort")
        elif behaviour.cut_after is not None and tokens >= behaviour.cut_after:
            self._cut()
            self.over = True
        elif behaviour.silent_after is not None and tokens >= behaviour.silent_after:
            pass  # the slot stays taken until the client leaves
        elif behaviour.bad_json and tokens >= 2:
            self._send(self._writer.broken_chunk(tokens) + b"0\r\n\r\n")
            self.finish(now, tally, "error")
        else:
            return False
        return True


class Engine:
    """Works on ``slots`` answers at once and lets ``queue`` more wait; None: on any number."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, tally: Tally, *, slots: int | None = None, queue: int | None = None
    ) -> None:
        self.tally = tally
        self._loop = loop
        self._slots = slots
        self._queue = queue
        self._waiting: deque[Answer] = deque()
        self._due: list[tuple[float, int, Answer]] = []
        """A heap of deadlines."""
        self._number = count()
        self._timer = PreciseTimer(loop, self._work)
        self._armed_for = 0.0
        self._stalled_until = 0.0
        self._stall: tuple[float, float] | None = None

    @property
    def stalled(self) -> bool:
        """Whether it does nothing at the moment."""
        return perf_counter() < self._stalled_until

    def stall_later(self, after_seconds: float, seconds: float) -> None:
        """Does nothing for ``seconds``, from ``after_seconds`` after the first request on."""
        self._stall = (after_seconds, seconds)

    def stall(self, seconds: float) -> None:
        """Does nothing for ``seconds`` from now: no token comes, and all that were to come are late by as much."""
        now = perf_counter()
        self._stalled_until = max(self._stalled_until, now) + seconds
        for _deadline, _number, answer in self._due:
            answer.base += seconds
        self._due = [(deadline + seconds, number, answer) for deadline, number, answer in self._due]
        self._arm()

    def submit(self, answer: Answer) -> bool:
        """Takes the answer on, now or when a slot is free; False: the queue is full."""
        if self._stall is not None:
            self._loop.call_later(self._stall[0], self.stall, self._stall[1])
            self._stall = None
        if self._slots is None or self.tally.running < self._slots:
            self._begin(answer, answer.arrived_at)
        elif self._queue is None or self.tally.waiting < self._queue:
            self._waiting.append(answer)
            self.tally.waiting += 1
        else:
            self.tally.rejected += 1
            return False
        return True

    def abandon(self, answer: Answer) -> None:
        """The client left."""
        if answer.over:
            return
        answer.over = True
        self.tally.aborted += 1
        if answer in self._waiting:
            self._waiting.remove(answer)
            self.tally.waiting -= 1
        else:
            self._free()

    def close(self) -> None:
        """Ends all work."""
        self._timer.close()

    def _begin(self, answer: Answer, at: float) -> None:
        self.tally.running += 1
        heappush(self._due, (answer.begin(max(at, self._stalled_until)), next(self._number), answer))
        self._arm()

    def _free(self) -> None:
        self.tally.running -= 1
        if self._waiting:
            self.tally.waiting -= 1
            self._begin(self._waiting.popleft(), perf_counter())

    def _arm(self) -> None:
        if self._due and self._due[0][0] != self._armed_for:
            self._armed_for = self._due[0][0]
            self._timer.set(self._armed_for)

    def _work(self) -> None:
        due, tally = self._due, self.tally
        self._armed_for = 0.0
        for _ in range(_LARGEST_BATCH):
            if not due:
                return
            deadline, number, answer = due[0]
            now = perf_counter()
            if deadline > now:
                break
            if answer.over:  # its client left
                heappop(due)
                continue
            following = answer.step(now, tally)
            if following is not None:
                heapreplace(due, (following, number, answer))
                continue
            heappop(due)
            if answer.over:
                self._free()
        self._arm()
