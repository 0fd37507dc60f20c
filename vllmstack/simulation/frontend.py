"""vLLM's API server: one process that takes in every request and passes on every token."""

from dataclasses import dataclass

MOST_BUSY = 0.9
"""What passing on tokens takes of the thread, at most, while a request is taken in: they take turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendProfile:
    """What the API server's one thread does, in seconds on an idle server. Nothing by default: it takes no time."""

    request_seconds: float = 0.0
    """For each request: HTTP, validation, the hand-over to the engine."""
    prompt_token_seconds: float = 0.0
    """For each token of its prompt: tokenisation."""
    token_seconds: float = 0.0
    """For each token of an answer: it is decoded, and handed to its stream."""
    chunk_seconds: float = 0.0
    """For each event of a stream. Where steps end faster than their tokens are passed on, an event holds several."""
    latency_seconds: float = 0.0
    """On the way in, of each request, beside the above: many short turns that keep no other request waiting, and are as
    much slower as tokens take of the thread."""


class Frontend:
    """Requests in, one after the other; tokens out, likewise. The two take turns: neither waits for all of the other.

    vLLM's streams merge what waits for them (vllm/v1/engine/output_processor.py, RequestOutputCollector), so that being
    behind costs a round over all streams and does not add up; only ``token_seconds`` bounds the rate.
    """

    def __init__(self, profile: FrontendProfile) -> None:
        self._profile = profile
        self._taken_in_at = 0.0  # all requests that have come
        self._passed_on_at = 0.0  # all tokens that there are
        self._decoded_at = 0.0  # the same, if streams had no events
        self._ended_at = 0.0  # the last step
        self._busy_ratio = 0.0  # with tokens, from the step before it to that

    def accept(self, now: float, prompt_tokens: int) -> float:
        """When a request that comes now reaches the engine."""
        profile = self._profile
        begin = now if now > self._taken_in_at else self._taken_in_at
        self._taken_in_at = begin + profile.request_seconds + prompt_tokens * profile.prompt_token_seconds
        return self._taken_in_at + profile.latency_seconds / (1 - self._busy_ratio)

    def passes(self, now: float, tokens: int, last: int, step_seconds: float) -> float:
        """When the tokens of steps that end now have been passed on.

        Args:
            now: when the last of the steps ends.
            tokens: of all of them.
            last: of the last one: as many streams get an event.
            step_seconds: of each.
        """
        token, chunk = self._profile.token_seconds, self._profile.chunk_seconds
        each = token + chunk
        if now > self._ended_at:
            self._busy_ratio = min(MOST_BUSY, tokens * each / (now - self._ended_at))
            self._ended_at = now
        self._decoded_at = max(self._decoded_at + tokens * token, now + last * token)
        merged = self._decoded_at + last * chunk
        if step_seconds > last * token:
            # A round over all streams takes in the tokens of m steps: last * (chunk + m * token) = m * step_seconds.
            merged = max(merged, now + last * chunk * step_seconds / (step_seconds - last * token))
        single = max(self._passed_on_at + tokens * each, now + last * each)
        self._passed_on_at = min(single, merged)
        return self._passed_on_at
