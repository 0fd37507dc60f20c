"""vLLM's API server: one process that takes in every request and passes on every token."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from vllmstack.simulation.timeline import Timeline

SLICE = 128
"""Tokens of a step that are decoded before the streams have their turn (VLLM_V1_OUTPUT_PROC_CHUNK_SIZE)."""
TURNS = 20
"""Of the thread, that a request takes on its way in: where it is busy, each turn waits for one of every stream's."""
NEVER = float("inf")
ROUNDING = 1e-6
"""Of a request's turns, what is not waited for: it may be less than the clock can tell apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendProfile:
    """What the API server's one thread does, in seconds on an idle server. Nothing by default: it takes no time."""

    request_seconds: float = 0.0
    """For each request: HTTP, validation, the hand-over to the engine."""
    prompt_token_seconds: float = 0.0
    """For each token of its prompt: tokenisation, one prompt after the other on a thread of its own."""
    token_seconds: float = 0.0
    """For each token of an answer: it is decoded, and handed to its stream."""
    chunk_seconds: float = 0.0
    """For each event of a stream."""
    latency_seconds: float = 0.0
    """On the way in, of each request, beside the above: what keeps nobody waiting."""


class Frontend:
    """Requests in, tokens out, all on one event loop: whatever is ready has a turn, and then the next.

    Requests that enter therefore share the thread, and get there together. While tokens take some of it they share the
    rest; while tokens take all of it they still have their turns, one in each round over the streams.
    """

    def __init__(self, profile: FrontendProfile, timeline: Timeline) -> None:
        self._profile = profile
        self._timeline = timeline
        self._each = profile.token_seconds + profile.chunk_seconds
        self._tokenised_at = 0.0  # all prompts that have come
        # Turns of all at which it has had its own, when it is tokenised, what then.
        self._entering: deque[tuple[float, float, Callable[[], None]]] = deque()
        self._turns = 0.0  # of a request that had been entering all the time; 1 is all that one needs
        self._rate = 0.0  # at which they grow
        self._turns_at = 0.0  # the time for which that holds
        self._looks_at = NEVER
        self._streams = 0
        self._step_seconds = 1.0  # of the steps that the streams get tokens from
        self._passed_on_at = 0.0  # all tokens that there are
        self._decoded_at = 0.0  # the same, if streams had no events

    def accept(self, prompt_tokens: int, enter: Callable[[], None]) -> None:
        """Takes in a request that comes now; ``enter`` is called when it reaches the engine."""
        profile, now = self._profile, self._timeline.now
        begin = now if now > self._tokenised_at else self._tokenised_at
        self._tokenised_at = begin + prompt_tokens * profile.prompt_token_seconds
        if not profile.request_seconds:
            ready = self._tokenised_at + profile.latency_seconds
            if ready > now:
                self._timeline.at(ready, enter)
            else:
                enter()
            return
        self._count_turns()
        self._entering.append((self._turns + 1.0, self._tokenised_at, enter))
        if self._passed_on_at > now:
            self._passed_on_at += profile.request_seconds
        self._look_ahead()

    def _count_turns(self) -> None:
        now = self._timeline.now
        if self._entering:
            self._turns += (now - self._turns_at) * self._rate
        else:
            self._turns = 0.0
        self._turns_at = now

    def _look_ahead(self) -> None:
        """From now on turns are taken at another rate: looks again when the first request has had its own."""
        now = self._timeline.now
        work = len(self._entering) * self._profile.request_seconds
        passing_on = self._streams * self._each
        self._rate = 1.0 / (work + TURNS * passing_on)
        if self._passed_on_at <= now:
            self._rate = max(self._rate, (1.0 - passing_on / self._step_seconds) / work)
        at = now + max(0.0, self._entering[0][0] - self._turns) / self._rate
        if at < self._looks_at:
            self._looks_at = at
            self._timeline.at(at, self._look)

    def _look(self) -> None:
        now = self._timeline.now
        if now < self._looks_at:
            return  # the rate changed meanwhile
        self._looks_at = NEVER
        self._count_turns()
        entering, latency = self._entering, self._profile.latency_seconds
        while entering and entering[0][0] <= self._turns + ROUNDING:
            _, tokenised_at, enter = entering.popleft()
            self._timeline.at(max(now, tokenised_at) + latency, enter)
        if entering:
            self._look_ahead()

    def follow(self, tokens: int, step_seconds: float) -> None:
        """The engine begins steps that end in so many tokens each; 0: it has nothing to do."""
        self._count_turns()
        self._streams, self._step_seconds = tokens, step_seconds
        if self._entering:
            self._look_ahead()

    def passes(self, tokens: int, last: int, step_seconds: float) -> float:
        """When the tokens of steps that end now have been passed on.

        vLLM's streams merge what waits for them (vllm/v1/engine/output_processor.py, RequestOutputCollector). It waits
        where steps of one slice come faster than events are sent: they are decoded one after the other before a stream
        has its turn, so that being behind costs a round over all streams and does not add up; only ``token_seconds``
        bounds the rate. Larger steps let the streams have their turn in between: each token is an event.

        Args:
            tokens: of all of them.
            last: of the last one: as many streams get an event.
            step_seconds: of each.
        """
        now, each = self._timeline.now, self._each
        token, chunk = self._profile.token_seconds, self._profile.chunk_seconds
        decoded_at = max(self._decoded_at + tokens * token, now + last * token)
        passed_on_at = max(self._passed_on_at + tokens * each, now + last * each)
        if last <= SLICE:
            merged = decoded_at + last * chunk
            if step_seconds > last * token:
                # A round over all streams takes in m steps' tokens: last * (chunk + m * token) = m * step_seconds.
                merged = max(merged, now + last * chunk * step_seconds / (step_seconds - last * token))
            passed_on_at = min(passed_on_at, merged)
        else:
            decoded_at = max(decoded_at, passed_on_at - last * chunk)
        self._decoded_at, self._passed_on_at = decoded_at, passed_on_at
        return passed_on_at
