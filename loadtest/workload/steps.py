"""What a session does: the contract between scenarios, which plan, and the users, which send."""

from collections.abc import Generator
from dataclasses import dataclass, field

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"


@dataclass(slots=True, frozen=True, kw_only=True)
class Request:
    """One request, ready to be sent."""

    scenario: str
    model: str
    path: str
    """CHAT, COMPLETIONS or EMBEDDINGS."""
    body: bytes
    """JSON, UTF-8."""
    streamed: bool
    expected_prompt_tokens: int | None = None
    """By the model's own tokenizer, chat template included; None if it cannot be known before."""
    session: str = ""
    turn: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    """Beyond authorization and content type: tenants, session ids."""
    abandon_after_seconds: float | None = None
    """The client leaves this long after sending, if the answer is not complete by then."""
    keep_text: bool = False
    """The session needs the answer's text for its next turn."""


@dataclass(slots=True, frozen=True)
class Think:
    """The user reads and types."""

    seconds: float


Step = Request | Think
Session = Generator[Request | Think, str | None, None]
"""Yields steps; after a Request it is sent the answer's text (None: it failed, or ``keep_text`` is off), after a
Think None."""
