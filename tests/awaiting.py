"""Waiting for what happens by itself, somewhere else."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    found: Callable[[], T],
    *,
    seconds: float,
    what: str | Callable[[], str] = "what was waited for",
    every: float = 0.002,
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """Looks every so many seconds for a true value; fails the test if there is none within ``seconds`` of the clock.

    ``what`` may be a function, asked when the test fails.
    """
    end = clock() + seconds
    while not (value := found()):
        assert clock() + every < end, f"not within {seconds:g} s: {what if isinstance(what, str) else what()}"
        time.sleep(every)
    return value
