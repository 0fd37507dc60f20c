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
