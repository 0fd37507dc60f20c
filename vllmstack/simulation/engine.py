"""One replica: continuous batching with chunked prefill over a paged KV cache, as vLLM's scheduler (V1) does it."""

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vllmstack.simulation.cache import BlockCache
from vllmstack.simulation.frontend import Frontend, FrontendProfile
from vllmstack.simulation.step_times import StepTimes
from vllmstack.simulation.timeline import Timeline

NO_FRONTEND = FrontendProfile()
"""Takes no time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProfile:
    """How long an engine's steps take, and what it may hold."""

    times: StepTimes
    blocks: int
    block_tokens: int = 16
    max_sequences: int = 256
    """vLLM's ``max_num_seqs``."""
    max_batched_tokens: int = 8192
    """vLLM's ``max_num_batched_tokens``: decoding comes first, prompts get the rest in chunks."""
    tokens_per_step: float = 1.0
    """Of each sequence that decodes. More than one with speculation: vllmstack.prediction.design.Speculation."""
    scheduled_ahead: bool = False
    """vLLM's ``async_scheduling``: a step is made up while the one before it runs, so that who comes meanwhile is not
    in it."""
    frontend: FrontendProfile = NO_FRONTEND


class Request(Protocol):
    """What an engine must know of a request."""

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def completion_tokens(self) -> int: ...

    def blocks(self, block_tokens: int) -> list[int]:
        """Numbers of the first full blocks of prompt and answer, equal where the text up to there is equal."""


class Watcher(Protocol):
    """Who wants to know what becomes of a request."""

    def first_token(self, at: float) -> None:
        """Its first token arrives then, now or soon."""

    def ended(self, at: float, cached_tokens: int) -> None:
        """Its last token arrives then; so many tokens of its prompt came from the cache."""


class _Sequence:
    """A request in the engine."""

    __slots__ = (
        "cached_tokens", "computed", "context", "decodes_from", "generated", "held", "numbers", "private", "request",
        "started", "to_prefill", "watcher",
    )  # fmt: skip

    def __init__(self, request: Request, watcher: Watcher, numbers: list[int]) -> None:
        self.request = request
        self.watcher = watcher
        self.numbers = numbers
        self.generated = 0  # tokens of the answer there are, but for those since it began to decode
        self.context = request.prompt_tokens  # tokens that must be computed before it decodes
        self.to_prefill = 0
        self.computed = 0  # of them, those that are
        self.cached_tokens = 0
        self.held: list[int] = []
        self.private = 0
        self.decodes_from = -1  # the engine's advance when it began to; -1: it does not
        self.started = False  # it has a first token


class Engine:
    """Serves requests first come, first served; who came last is preempted where blocks run out.

    All that decode get the same number of tokens in a step. ``advance`` counts them: with speculation steps advance by
    more than one.
    """

    def __init__(self, timeline: Timeline, profile: EngineProfile) -> None:
        self._timeline = timeline
        self._profile = profile
        self._times = profile.times
        self._size = profile.block_tokens
        self._cache = BlockCache(profile.blocks)
        self._frontend = Frontend(profile.frontend, timeline)
        self._arrived: deque[_Sequence] = deque()
        self._waiting: deque[_Sequence] = deque()
        self._prefilling: deque[_Sequence] = deque()
        self._decoding = 0
        self._ends: list[tuple[int, int, int, _Sequence]] = []  # a heap by the advance at which the answer is complete
        self._phases = [0] * profile.block_tokens  # who decodes, by (context - advance) modulo the block's tokens
        self._context = 0  # tokens, of those that decode
        self._prompts = 0  # tokens, of those that are computed first
        self._filled = 0  # blocks of all that run; what several share is counted for each
        self._granted = 0  # blocks of the run's first step
        self._admitted: list[_Sequence] = []  # in that order, with some that have ended
        self._running = 0
        self._steps = 0
        self._advance = 0
        self._numbers = 0
        self._run: _Run | None = None
        self.busy_seconds = 0.0
        self.preemptions = 0
        self.most_held = 0
        """Blocks, at most."""
        self.wasted_ratio = 0.0
        """Of the held blocks' room, what no token was in, at the moment when most were held."""

    @property
    def held_ratio(self) -> float:
        """Of all blocks, those that were held at most."""
        return self.most_held / self._profile.blocks

    def submit(self, request: Request, watcher: Watcher) -> None:
        """Queues a request.

        Raises:
            ValueError: it needs more KV cache than there is, and would wait for ever.
        """
        profile = self._profile
        tokens = request.prompt_tokens + request.completion_tokens
        if -(-tokens // profile.block_tokens) > profile.blocks:
            raise ValueError(f"{tokens} tokens do not fit into {profile.blocks} blocks")
        sequence = _Sequence(request, watcher, request.blocks(profile.block_tokens))
        self._frontend.accept(request.prompt_tokens, lambda: self._queue(sequence))

    def _queue(self, sequence: _Sequence) -> None:
        run = self._run
        if run is None:
            self._waiting.append(sequence)
            self._begin()
            return
        (self._arrived if self._profile.scheduled_ahead else self._waiting).append(sequence)
        run.interrupt(self._timeline.now)

    def _begin(self) -> None:
        """One step if there is a prompt to compute, else all steps up to the next answer's end or a lack of blocks."""
        profile = self._profile
        # Whoever is preempted for this step would be the first to be admitted to it.
        admits = self._grant_step()
        decoding = self._decoding
        width = math.ceil(profile.tokens_per_step) if profile.tokens_per_step > 1 else 1
        budget = profile.max_batched_tokens - decoding * width
        finished: list[_Sequence] = []
        prefill, reads = 0, 0.0
        while prefill < budget and (self._prefilling or (admits and self._admit())):
            sequence = self._prefilling[0]
            chunk = min(budget - prefill, sequence.to_prefill)
            prefill += chunk
            reads += chunk * (sequence.computed + chunk / 2)
            sequence.computed += chunk
            sequence.to_prefill -= chunk
            if not sequence.to_prefill:
                finished.append(self._prefilling.popleft())
        someone_came = bool(self._arrived)
        self._waiting.extend(self._arrived)
        self._arrived.clear()
        if not prefill and not decoding:
            self._frontend.follow(0, 1.0)
            return
        seconds = self._times.seconds(decoding=decoding, context=self._context, prefill=prefill, prefill_context=reads)
        steps = 1 if prefill or someone_came else self._steps_alone()
        growth = decoding * profile.tokens_per_step * self._times.context_seconds
        self._frontend.follow(decoding + len(finished), seconds)
        self._run = _Run(self._timeline, seconds, growth, steps, lambda run: self._end(run, finished))

    def _grant_step(self) -> bool:
        """Takes the blocks of the next step of those that decode; False if someone was preempted for it."""
        if not self._decoding:
            self._granted = 0
            return True
        need = self._needed(self._advance_of(1))
        everyone = need <= self._cache.free
        while need > self._cache.free:
            self._preempt()
            need = self._needed(self._advance_of(1))
        self._take(need)
        self._granted = need
        return everyone

    def _take(self, blocks: int) -> None:
        if blocks:
            self._cache.grow(blocks)
            self._filled += blocks

    def _advance_of(self, steps: int) -> int:
        """Tokens that each sequence gets in the next so many steps."""
        rate = self._profile.tokens_per_step
        return steps if rate == 1 else math.floor((self._steps + steps) * rate) - math.floor(self._steps * rate)

    def _needed(self, tokens: int) -> int:
        """Blocks that are needed for so many tokens more of each sequence that decodes."""
        phases, advance, size = self._phases, self._advance, self._size
        if tokens == 1:
            return phases[-advance % size]
        whole, rest = divmod(tokens, size)
        return self._decoding * whole + sum(phases[-(advance + index) % size] for index in range(rest))

    def _steps_alone(self) -> int:
        """Steps until an answer is complete, or blocks run out."""
        ends = self._next_end()
        tokens = ends - self._advance
        rate = self._profile.tokens_per_step
        steps = tokens if rate == 1 else max(1, math.ceil(ends / rate) - self._steps)
        most = self._cache.free + self._granted
        while steps > 1 and self._needed(self._advance_of(steps)) > most:
            steps //= 2
        return steps

    def _next_end(self) -> int:
        """The advance at which the next answer is complete."""
        while True:
            ends, _, began, sequence = self._ends[0]
            if sequence.decodes_from == began:
                return ends
            heapq.heappop(self._ends)  # it was preempted

    def _admit(self) -> bool:
        """Moves the first that waits to those that prefill, if it may run."""
        if not self._waiting or self._running >= self._profile.max_sequences:
            return False
        sequence = self._waiting[0]
        size = self._profile.block_tokens
        context = sequence.context
        # The last token of a prompt is computed in any case: its output is the first token of the answer.
        numbers = sequence.numbers[: context // size]
        matched = self._cache.matched(numbers[: (context - 1) // size]) if numbers else 0
        private = -(-context // size) - len(numbers)
        if not self._cache.hold(numbers, private):
            return False
        self._waiting.popleft()
        self._running += 1
        self._admitted.append(sequence)
        if len(self._admitted) > 4 * self._running + 64:
            self._admitted = [one for one in self._admitted if one.private or one.held]
        sequence.held, sequence.private = numbers, private
        self._prompts += context
        self._filled += len(numbers) + private
        sequence.computed = matched * size
        sequence.to_prefill = context - sequence.computed
        if not sequence.started:
            sequence.cached_tokens = sequence.computed
        self._prefilling.append(sequence)
        return True

    def _preempt(self) -> None:
        """Takes the blocks of who was admitted last; it waits before all others, and is computed anew."""
        while not (self._admitted[-1].private or self._admitted[-1].held):
            self._admitted.pop()
        sequence = self._admitted.pop()
        self.preemptions += 1
        self._running -= 1
        if sequence.decodes_from < 0:
            self._prefilling.remove(sequence)
            self._prompts -= sequence.context
        else:
            self._leave(sequence)
        self._give_back(sequence, [])
        sequence.context = sequence.request.prompt_tokens + sequence.generated
        self._waiting.appendleft(sequence)

    def _give_back(self, sequence: _Sequence, filled: list[int]) -> None:
        self._filled -= len(sequence.held) + sequence.private
        self._cache.release(sequence.held, sequence.private, filled)
        sequence.held, sequence.private = [], 0

    def _leave(self, sequence: _Sequence) -> None:
        """It decodes no more; what it holds is brought up to date."""
        size = self._profile.block_tokens
        tokens = self._advance - sequence.decodes_from
        sequence.generated += tokens
        context = sequence.context + tokens
        self._context -= context
        self._decoding -= 1
        self._phases[(context - self._advance) % size] -= 1
        sequence.private = -(-context // size) - len(sequence.held)
        sequence.decodes_from = -1

    def _join(self, sequence: _Sequence) -> None:
        """It decodes from now on."""
        self._numbers += 1
        self._decoding += 1
        self._context += sequence.context
        self._phases[(sequence.context - self._advance) % self._profile.block_tokens] += 1
        sequence.decodes_from = self._advance
        left = sequence.request.completion_tokens - sequence.generated
        heapq.heappush(self._ends, (self._advance + left, self._numbers, self._advance, sequence))

    def _end(self, run: "_Run", finished: list[_Sequence]) -> None:
        self._run = None
        profile, cache = self._profile, self._cache
        decoding = self._decoding
        tokens = self._advance_of(run.steps)
        if run.steps > 1:
            self._take(self._needed(tokens) - self._granted)
        self._steps += run.steps
        self._advance += tokens
        self._context += tokens * decoding
        self.busy_seconds += run.seconds
        if cache.held > self.most_held:
            self.most_held = cache.held
            unfilled = self._filled * profile.block_tokens - self._context - self._prompts
            self.wasted_ratio = unfilled / (cache.held * profile.block_tokens)
        last = tokens * decoding // run.steps + len(finished)
        at = self._frontend.passes(tokens * decoding + len(finished), last, run.seconds / run.steps)
        ended: list[_Sequence] = []
        while self._decoding and self._next_end() <= self._advance:
            sequence = heapq.heappop(self._ends)[3]
            self._leave(sequence)
            ended.append(sequence)
        first: list[_Sequence] = []
        for sequence in finished:
            self._prompts -= sequence.context
            sequence.generated += 1
            if not sequence.started:
                sequence.started = True
                first.append(sequence)
            if sequence.generated >= sequence.request.completion_tokens:
                ended.append(sequence)
            else:
                self._join(sequence)
        for sequence in ended:
            self._give_back(sequence, sequence.numbers[len(sequence.held) :])
        self._running -= len(ended)
        # Only now: whoever is told may submit the next request at once.
        for sequence in first:
            sequence.watcher.first_token(at)
        for sequence in ended:
            sequence.watcher.ended(at, sequence.cached_tokens)
        if self._run is None:
            self._begin()


class _Run:
    """Steps one after the other, each longer than the one before by the same time."""

    __slots__ = ("_begun", "_done", "_first", "_growth", "_timeline", "steps")

    def __init__(
        self, timeline: Timeline, first: float, growth: float, steps: int, done: Callable[["_Run"], None]
    ) -> None:
        self.steps = steps
        self._timeline = timeline
        self._begun = timeline.now
        self._first = first
        self._growth = growth
        self._done = done
        self._schedule()

    @property
    def seconds(self) -> float:
        """Of all steps."""
        return self._first * self.steps + self._growth * self.steps * (self.steps - 1) / 2

    def interrupt(self, now: float) -> None:
        """Ends it with the step that is being done."""
        if self.steps == 1:
            return
        steps = max(1, math.ceil(self._done_after(now - self._begun)))
        if steps < self.steps:
            self.steps = steps
            self._schedule()

    def _done_after(self, seconds: float) -> float:
        """Steps, the last one in part: the root of growth/2 n² + (first - growth/2) n = seconds."""
        half = self._growth / 2
        if half * self.steps < 1e-9 * self._first:
            return seconds / self._first
        linear = self._first - half
        return (math.sqrt(linear * linear + 4 * half * seconds) - linear) / (2 * half)

    def _schedule(self) -> None:
        steps = self.steps
        self._timeline.at(self._begun + self.seconds, lambda: self._fire(steps))

    def _fire(self, steps: int) -> None:
        if steps == self.steps:  # else it was interrupted, and has ended already
            self._done(self)
