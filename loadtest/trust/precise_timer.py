"""A timer for asyncio that is exact to microseconds: epoll, beneath asyncio's own, rounds up to whole milliseconds."""

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from time import perf_counter

_CLOCK_MONOTONIC = 1
"""What ``perf_counter`` reads on Linux."""
_ABSOLUTE = 1
_NEVER_ZERO_SECONDS = 1e-9
"""A time of 0 would disarm the timer."""


class _TimerSpecification(ctypes.Structure):
    """``struct itimerspec``: interval and value, each seconds and nanoseconds."""

    _fields_ = (
        ("interval_seconds", ctypes.c_long),
        ("interval_nanoseconds", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


class PreciseTimer:
    """Calls ``callback`` in the loop's thread at the time set last, on ``perf_counter``'s clock.

    Where the kernel has no timerfd (macOS), the loop's own timer is used, which is exact there.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None
        self._file: int | None = None
        if sys.platform == "linux":
            self._library = ctypes.CDLL(None, use_errno=True)
            self._file = self._library.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
            if self._file < 0:
                raise OSError(ctypes.get_errno(), "timerfd_create")
            self._specification = _TimerSpecification(0, 0, 0, 0)
            self._reference = ctypes.byref(self._specification)
            loop.add_reader(self._file, self._expired)

    def set(self, at: float) -> None:
        """Fires at ``at`` (``perf_counter`` seconds) and no longer at what was set before; at once if it is past."""
        if self._file is None:
            if self._handle is not None:
                self._handle.cancel()
            self._handle = self._loop.call_later(max(0.0, at - perf_counter()), self._callback)
            return
        at = max(at, _NEVER_ZERO_SECONDS)
        self._specification.seconds = int(at)
        self._specification.nanoseconds = int((at % 1) * 1e9)
        self._library.timerfd_settime(self._file, _ABSOLUTE, self._reference, None)

    def close(self) -> None:
        """Fires no more."""
        if self._handle is not None:
            self._handle.cancel()
        if self._file is not None:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = None

    def _expired(self) -> None:
        if self._file is not None:
            try:
                os.read(self._file, 8)
            except BlockingIOError:  # it was set anew between firing and this call
                return
            self._callback()
