"""When a session starts, and how long it is if a trace says so."""

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Arrival:
    """One entry of a schedule."""

    at: float
    """Seconds since the schedule's start."""
    prompt_tokens: int | None = None
    """From a trace; None: the scenario decides."""
    completion_tokens: int | None = None
    prefix_blocks: tuple[int, ...] = ()
    """From a trace that says which requests begin alike: the prompt's pieces by number, equal numbers equal texts."""
    block_tokens: int = 0
    """Tokens in each of those pieces; the last may be shorter."""
