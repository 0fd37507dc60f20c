"""Runs a program and ends it with all its children once its owner has ended, however that happened.

    python -I guard.py OWNER-PID GRACE-SECONDS COMMAND…

The owner holds the other end of standard input and writes nothing: that it closes is the word to stop, and the kernel
closes it for an owner that was killed. PR_SET_PDEATHSIG alone would not do: it tells of the end of the *thread* that
started the program, and of nothing if the program has children. What a child leaves behind comes to this process
(PR_SET_CHILD_SUBREAPER), so that none is missed. Ends with the program's own status.

Run as a script of the standard library alone: it must not need what the owner's sys.path had.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LOOK_SECONDS = 0.2


def main(arguments: list[str]) -> int:
    """Returns the program's status, 128 and the number for one that a signal ended."""
    owner, grace_seconds, command = int(arguments[0]), float(arguments[1]), arguments[2:]
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    told: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        told.append(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    # Should this process be killed, the program at least is asked to end.
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the owner's terminal is the owner's to hear
        preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0),  # noqa: PLW1509 # one thread
    ).pid
    status: int | None = None
    while status is None and not told and os.getppid() == owner and not _is_closed(LOOK_SECONDS):
        status = _reaped(child)
    if status is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
        deadline = time.monotonic() + grace_seconds
        while status is None and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS / 4)
            status = _reaped(child)
    while left := _descendants(os.getpid()):
        for one in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        time.sleep(LOOK_SECONDS / 4)
        ended = _reaped(child)
        status = ended if status is None else status
    code = os.waitstatus_to_exitcode(status or 0)
    return code if code >= 0 else 128 - code


def _is_closed(seconds: float) -> bool:
    """Whether the owner has let go of standard input; waits for that at most so long."""
    ready, _, _ = select.select([0], [], [], seconds)
    return bool(ready) and not os.read(0, 1024)


def _reaped(child: int) -> int | None:
    """The child's status if it has ended; whatever else has ended and came here is let go."""
    status = None
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            if found[0] == child:
                status = found[1]
    return status


def _descendants(of: int) -> list[int]:
    """All processes below this one, those that have ended and were not let go left out."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            state, parent = entry.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(entry.parent.name)] = int(parent)
    found, fresh = [], [of]
    while fresh:
        fresh = [process for process, parent in parents.items() if parent in fresh]
        found += fresh
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
