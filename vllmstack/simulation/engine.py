"""One replica: continuous batching with chunked prefill over a paged KV cache."""

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vllmstack.simulation.cache import BlockCache
from vllmstack.simulation.requests import Turn
from vllmstack.simulation.timeline import Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProfile:
    """What an engine's step takes, and what it may hold. A step's time is the sum of its parts."""

    step_seconds: float
    """Of any step: the weights are read, kernels are launched."""
    prefill_seconds: float
    """More for each prompt token in the step."""
    sequence_seconds: float
    """More for each sequence that gets its next token."""
    context_seconds: float
    """More for each token of context of those sequences: their KV cache is read."""
    blocks: int
    block_tokens: int = 16
    max_sequences: int = 256
    """vLLM's ``max_num_seqs``."""
    max_batched_tokens: int = 8192
    """vLLM's ``max_num_batched_tokens``: decoding comes first, prompts get the rest in chunks."""


class Watcher(Protocol):
    """Who wants to know what becomes of a request."""

    def first_token(self) -> None:
        """Its prompt is computed."""

    def ended(self, cached_tokens: int) -> None:
        """Its answer is complete; so many tokens of its prompt came from the cache."""


@dataclass(slots=True)
class _Sequence:
    number: int
    turn: Turn
    watcher: Watcher
    numbers: list[int]
    cached_tokens: int = 0
    to_prefill: int = 0


class Engine:
    """Serves turns first come, first served."""

    def __init__(self, timeline: Timeline, profile: EngineProfile) -> None:
        self._timeline = timeline
        self._profile = profile
        self._cache = BlockCache(profile.blocks)
        self._waiting: deque[_Sequence] = deque()
        self._prefilling: deque[_Sequence] = deque()
        self._decoding: list[tuple[int, int, _Sequence]] = []  # a heap by the step that brings the last token
        self._context_tokens = 0  # of those that decode
        self._step = 0  # steps done
        self._submitted = 0
        self._admitted = 0
        self._run: _Run | None = None
        self.busy_seconds = 0.0

    def submit(self, turn: Turn, watcher: Watcher) -> None:
        """Queues a request.

        Raises:
            ValueError: it needs more KV cache than there is, and would wait for ever.
        """
        numbers = turn.blocks(self._profile.block_tokens)
        if len(numbers) + 1 > self._profile.blocks:
            raise ValueError(f"{turn.answer.end} tokens do not fit into {self._profile.blocks} blocks")
        self._submitted += 1
        self._waiting.append(_Sequence(self._submitted, turn, watcher, numbers))
        if self._run is None:
            self._begin()
        elif len(self._waiting) == 1:
            self._run.interrupt(self._timeline.now)

    def _begin(self) -> None:
        """One step if there is a prompt to compute, else all steps up to the next answer's end: they are alike."""
        profile = self._profile
        sequences = len(self._decoding)
        finished, tokens = self._prefill(profile.max_batched_tokens - sequences)
        if not tokens and not sequences:
            return
        seconds = profile.step_seconds + tokens * profile.prefill_seconds
        seconds += sequences * profile.sequence_seconds + self._context_tokens * profile.context_seconds
        steps = 1 if tokens else self._decoding[0][0] - self._step
        self._run = _Run(self._timeline, seconds, steps, lambda run: self._end(run, finished))

    def _prefill(self, budget: int) -> tuple[list[_Sequence], int]:
        """Takes prompts into a step of at most ``budget`` tokens; those that it completes, and all tokens."""
        finished: list[_Sequence] = []
        left = budget
        while left > 0 and (self._prefilling or self._admit()):
            sequence = self._prefilling[0]
            chunk = min(left, sequence.to_prefill)
            left -= chunk
            sequence.to_prefill -= chunk
            if not sequence.to_prefill:
                finished.append(self._prefilling.popleft())
        return finished, budget - left

    def _admit(self) -> bool:
        """Moves the first that waits to those that prefill, if it may run."""
        if not self._waiting or self._admitted >= self._profile.max_sequences:
            return False
        sequence = self._waiting[0]
        turn, block_tokens = sequence.turn, self._profile.block_tokens
        # The last token of a prompt is computed in any case: its output is the first token of the answer.
        usable = (turn.prompt_tokens - 1) // block_tokens
        matched = self._cache.matched(sequence.numbers[:usable])
        if not self._cache.hold(sequence.numbers):
            return False
        self._waiting.popleft()
        self._admitted += 1
        sequence.cached_tokens = matched * block_tokens
        sequence.to_prefill = turn.prompt_tokens - sequence.cached_tokens
        self._prefilling.append(sequence)
        return True

    def _end(self, run: "_Run", finished: list[_Sequence]) -> None:
        self._run = None
        self._step += run.steps
        self._context_tokens += run.steps * len(self._decoding)
        self.busy_seconds += run.steps * run.seconds
        ended: list[_Sequence] = []
        while self._decoding and self._decoding[0][0] <= self._step:
            ended.append(heapq.heappop(self._decoding)[2])
            self._context_tokens -= ended[-1].turn.answer.end - 1
        for sequence in finished:
            tokens = sequence.turn.completion_tokens
            if tokens == 1:
                ended.append(sequence)
            else:
                heapq.heappush(self._decoding, (self._step + tokens - 1, sequence.number, sequence))
                self._context_tokens += sequence.turn.prompt_tokens
        self._admitted -= len(ended)
        for sequence in ended:
            self._cache.release(sequence.numbers)
        # Only now: whoever is told may submit the next request at once.
        for sequence in finished:
            sequence.watcher.first_token()
        for sequence in ended:
            sequence.watcher.ended(sequence.cached_tokens)
        if self._run is None:
            self._begin()


class _Run:
    """Steps of the same length, one after the other."""

    def __init__(self, timeline: Timeline, seconds: float, steps: int, done: Callable[["_Run"], None]) -> None:
        self.seconds = seconds
        self.steps = steps
        self._timeline = timeline
        self._begun = timeline.now
        self._done = done
        self._schedule()

    def interrupt(self, now: float) -> None:
        """Ends it with the step that is being done."""
        steps = max(1, math.ceil((now - self._begun) / self.seconds))
        if steps < self.steps:
            self.steps = steps
            self._schedule()

    def _schedule(self) -> None:
        steps = self.steps
        self._timeline.at(self._begun + steps * self.seconds, lambda: self._fire(steps))

    def _fire(self, steps: int) -> None:
        if steps == self.steps:  # else it was interrupted, and has ended already
            self._done(self)
