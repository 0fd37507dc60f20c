"""Random numbers that depend on what they are for, not on who asked before: all workers draw alike for a session."""

import itertools
import random
from hashlib import blake2b


def source(*purpose: object) -> random.Random:
    """A generator for one purpose, e.g. ``source(seed, "lengths", session)``: equal purposes draw equal numbers."""
    key = "\x1f".join(map(str, purpose)).encode()
    return random.Random(int.from_bytes(blake2b(key, digest_size=8).digest()))


def zipf(count: int, exponent: float) -> list[float]:
    """Cumulative weights of ``count`` things, the n-th in proportion to n^-exponent (Zipf's law)."""
    return list(itertools.accumulate(rank**-exponent for rank in range(1, count + 1)))


def pick(cumulative_weights: list[float], numbers: random.Random) -> int:
    """The number of one of the things that ``zipf`` gave weights."""
    return numbers.choices(range(len(cumulative_weights)), cum_weights=cumulative_weights)[0]
