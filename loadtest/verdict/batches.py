"""Batch means: independent values from a time line whose seconds are not."""

from collections.abc import Sequence
from statistics import fmean

BATCHES = 10
"""Of the 10 to 30 that suffice whatever the length, the fewest: what is left of the correlation hurts more than a wide
interval. Source: Schmeiser, Batch size effects in the analysis of simulation output, Operations Research 30 (1982)."""
SHORTEST_BATCH_SECONDS = 3
"""Shorter ones are not independent: a queue or a batch of requests lasts longer than a second."""


def batch_means(values: Sequence[float]) -> list[float]:
    """Means of consecutive stretches: nearly independent, where neighbouring seconds are not.

    ``values`` are of one second each. What is left over at the end is dropped; fewer than two stretches give none.
    """
    batches = min(BATCHES, len(values) // SHORTEST_BATCH_SECONDS)
    if batches < 2:
        return []
    length = len(values) // batches
    return [fmean(values[start * length : (start + 1) * length]) for start in range(batches)]
