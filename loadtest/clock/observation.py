"""One request as its client saw it."""

from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """How a request ended. Only OK is a success; ABANDONED is neither success nor failure (the scenario meant it)."""

    OK = "ok"
    REFUSED = "refused"
    """An HTTP status other than 200: `status` and the server's own words."""
    STREAM_ERROR = "stream_error"
    """An error event in the middle of a stream."""
    TRUNCATED = "truncated"
    """The stream ended without `data: [DONE]`, or the connection broke in the middle."""
    TIMED_OUT = "timed_out"
    """Nothing more came within the request's time limit."""
    UNREACHABLE = "unreachable"
    """No connection, or it was closed before the first byte."""
    INVALID_ANSWER = "invalid_answer"
    """A 200 whose body is not what the endpoint promises: no JSON, no content, no usage."""
    ABANDONED = "abandoned"
    """The client left, as the scenario told it to."""


FAILURES = frozenset(Outcome) - {Outcome.OK, Outcome.ABANDONED}


@dataclass(slots=True, kw_only=True)
class Observation:
    """Times are seconds since the run's start, on the worker's monotonic clock; None: did not happen."""

    scenario: str
    """The scenario's name; in a mix the part's name."""
    model: str
    scheduled_at: float
    """When the request was due: open loop, by the schedule; closed loop, the moment it was sent."""
    sent_at: float = 0.0
    first_token_at: float | None = None
    """The first non-empty content, reasoning or tool delta."""
    last_token_at: float | None = None
    ended_at: float = 0.0
    """The last byte, or the moment the client gave up."""
    outcome: Outcome = Outcome.OK
    status: int | None = None
    """HTTP status; None without an answer."""
    error: str = ""
    """One line, for a person; empty if it succeeded. Equal causes give equal texts (no ids, no numbers)."""
    finish_reason: str = ""
    request_id: str = ""
    """The gateway's X-Request-Id."""
    session: str = ""
    turn: int = 0
    """Counts from 0 within a conversation."""
    expected_prompt_tokens: int | None = None
    prompt_tokens: int = 0
    """The three counts come from the answer's `usage`, never from counting chunks."""
    completion_tokens: int = 0
    cached_tokens: int | None = None
    """Prompt tokens that the prefix cache held; None if the server does not say."""
    chunk_times: list[float] = field(default_factory=list)
    """When each chunk that carried tokens came; the first is ``first_token_at``. Empty if not streamed."""
    chunk_tokens: list[int] = field(default_factory=list)
    """Tokens in each of those chunks; the sum is ``completion_tokens`` for a stream with continuous usage, else
    ``completion_tokens`` is spread evenly over the chunks."""

    @property
    def failed(self) -> bool:
        return self.outcome in FAILURES

    @property
    def ttft_seconds(self) -> float | None:
        """From sending to the first token (service time)."""
        return None if self.first_token_at is None else self.first_token_at - self.sent_at

    @property
    def scheduled_ttft_seconds(self) -> float | None:
        """From the scheduled time to the first token: what a user feels who does not wait for others."""
        return None if self.first_token_at is None else self.first_token_at - self.scheduled_at

    @property
    def tpot_seconds(self) -> float | None:
        """Time per output token after the first chunk: the decode time over the tokens that came in it."""
        if self.first_token_at is None or self.last_token_at is None or not self.chunk_tokens:
            return None
        tokens = self.completion_tokens - self.chunk_tokens[0]
        return (self.last_token_at - self.first_token_at) / tokens if tokens > 0 else None

    @property
    def e2e_seconds(self) -> float:
        """From sending to the end."""
        return self.ended_at - self.sent_at

    @property
    def scheduled_e2e_seconds(self) -> float:
        """From the scheduled time to the end."""
        return self.ended_at - self.scheduled_at
