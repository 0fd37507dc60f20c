"""One thing that limited a run: what, by which numbers, and what to change."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Finding:
    """For a person who must decide what to change."""

    limit: str
    """A few words; equal for the same limit at another load."""
    evidence: tuple[str, ...]
    advice: tuple[str, ...]
    loads: tuple[str, ...] = ()
    """Of a sweep, those that showed it, ascending: ``64``, ``128``; empty for a single load."""
