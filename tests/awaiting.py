"""Waiting for what happens by itself, somewhere else."""

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], bool], *, seconds: float, every: float = 0.002, clock: Callable[[], float] = time.monotonic
) -> None:
    """Looks every so many seconds until it is so; fails the test after ``seconds`` of the clock."""
    end = clock() + seconds
    while not condition():
        assert clock() < end, f"did not happen within {seconds:g} s"
        time.sleep(every)
