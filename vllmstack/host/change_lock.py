"""One command at a time changes the stack: two that roll replicas would take out more than either of them knows."""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from vllmstack.errors import HostError, Problem
from vllmstack.host.processes import interruptible
from vllmstack.project import Project

LOCK = ".changing"
"""Below ``.vllmstack/``. The kernel lets go of it when the command ends, however it ends; the file stays."""


@contextlib.contextmanager
def changing(project: Project, command: str) -> Iterator[None]:
    """Nobody else changes the stack within the block, and a closed terminal ends it as Ctrl-C does.

    Raises:
        HostError: another command does, or the folder cannot be written.
    """
    file = project.state / LOCK
    try:
        project.state.mkdir(exist_ok=True)
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        hint = "give this user the folder .vllmstack, and look at `df -h .`"
        raise HostError(Problem(fact=f"cannot write {file}: {error.strerror}", hint=hint)) from None
    with os.fdopen(handle, "r+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = stream.read().strip() or "one that has just begun"
            raise HostError(
                Problem(fact=f"another command changes this stack: {who}", hint="wait for its end, then ask again")
            ) from None
        stream.truncate()
        stream.write(f"`vllmstack {command}`, process {os.getpid()}\n")
        stream.flush()
        with interruptible():
            yield
