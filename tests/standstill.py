"""A clock that stands still with the machine: what a virtual machine was not given is nobody's delay."""

import threading
import time

TICK_SECONDS = 0.02
LONGEST_TICK_SECONDS = 0.3
"""A sleeping thread that wakes up later than this was on a machine that stood still."""


class _Clock:
    """Counts the time between two ticks of a thread that does nothing else, up to the longest that can be."""

    def __init__(self) -> None:
        self._counted, self._at = 0.0, time.monotonic()
        self._lock = threading.Lock()
        threading.Thread(target=self._tick, daemon=True).start()

    def seconds(self) -> float:
        with self._lock:
            return self._counted + min(time.monotonic() - self._at, LONGEST_TICK_SECONDS)

    def _tick(self) -> None:
        while True:
            time.sleep(TICK_SECONDS)
            with self._lock:
                now = time.monotonic()
                self._counted += min(now - self._at, LONGEST_TICK_SECONDS)
                self._at = now


_clock: _Clock | None = None


def running_seconds() -> float:
    """``time.monotonic()`` less the time in which the machine stood still; only differences mean something.

    For limits on how long something may take that a test waits for. What takes long while the machine runs shows on
    this clock as on any other.
    """
    global _clock  # noqa: PLW0603 - a thread that ticks from the first use on
    if _clock is None:
        _clock = _Clock()
    return _clock.seconds()
