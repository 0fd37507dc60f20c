"""Measuring again where the machine spoilt it: what a program does wrong, it does wrong each time."""

import time
from collections.abc import Iterator
from types import TracebackType

ATTEMPTS = 12
LONGEST_PAUSE_SECONDS = 2.0


class Attempt:
    """``with attempt:`` around what only a machine that does not stand still can show."""

    def __init__(self, *, last: bool) -> None:
        self._last = last
        self.succeeded = False

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """A failed assertion counts only if it is the last attempt's; every other error at once."""
        self.succeeded = error is None
        return isinstance(error, AssertionError) and not self._last


def attempts() -> Iterator[Attempt]:
    """Until one succeeds; what is asserted outside of ``with attempt:`` must hold in all of them.

    For limits on measured times, and for requests that must be under way together: a virtual machine may stand still
    for seconds, and then neither says anything of the program. Where an event can be awaited, it is awaited instead.
    A fault that shows now and then only is hidden by this: whatever must hold each time stands outside.
    """
    for number in range(1, ATTEMPTS + 1):
        attempt = Attempt(last=number == ATTEMPTS)
        yield attempt
        if attempt.succeeded:
            return
        # Longer each time: all of them within the same standstill would be but one.
        time.sleep(min(0.05 * 2**number, LONGEST_PAUSE_SECONDS))
