"""vLLM's API server: one process that takes in every request and passes on every token."""

from dataclasses import dataclass

MOST_BUSY = 0.9
"""What passing on tokens takes of the thread, at most, while a request is taken in: they take turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendProfile:
    """What the API server's one thread does, in seconds. Nothing by default: it takes no time."""

    request_seconds: float = 0.0
    """For each request: HTTP, validation, the hand-over to the engine."""
    prompt_token_seconds: float = 0.0
    """For each token of its prompt: tokenisation."""
    token_seconds: float = 0.0
    """For each token of an answer: detokenisation, an event of the stream."""
    latency_seconds: float = 0.0
    """On the way in, of each request, beside the above, on an idle server: many short turns that keep no other request
    waiting, and are as much slower as tokens take of the thread."""


class Frontend:
    """One after the other, in the order in which it comes: requests in, tokens out."""

    def __init__(self, profile: FrontendProfile) -> None:
        self._profile = profile
        self.free_at = 0.0
        self._passed_at = 0.0
        self._busy_ratio = 0.0  # with tokens, since they were last passed on

    def accept(self, now: float, prompt_tokens: int) -> float:
        """When a request that comes now reaches the engine."""
        profile = self._profile
        begin = now if now > self.free_at else self.free_at
        self.free_at = begin + profile.request_seconds + prompt_tokens * profile.prompt_token_seconds
        return self.free_at + profile.latency_seconds / (1 - self._busy_ratio)

    def passes(self, now: float, tokens: int, last: int) -> float:
        """When the tokens of steps that end now have been passed on, ``last`` of them those of the last step."""
        each = self._profile.token_seconds
        if now > self._passed_at:
            self._busy_ratio = min(MOST_BUSY, tokens * each / (now - self._passed_at))
            self._passed_at = now
        behind = self.free_at + tokens * each
        keeps_up = now + last * each
        self.free_at = behind if behind > keeps_up else keeps_up
        return self.free_at
