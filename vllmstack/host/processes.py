"""Other programs, run so that their failure can be told to a person."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vllmstack.errors import HostError, Problem

LAST_LINES = 15
LINE_CHARACTERS = 200
"""A failed build repeats its whole RUN instruction in one line."""


def run(
    command: Sequence[str],
    *,
    doing: str,
    hint: str,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    log: Path | None = None,
) -> str:
    """Runs a program to its end and returns its standard output; with ``log`` both outputs go to that file instead.

    Raises:
        HostError: it could not be started or did not exit with 0; the fact ends with its last lines.
    """
    variables = {**os.environ, **(environment or {})}
    try:
        if log is None:
            done = subprocess.run(command, env=variables, cwd=folder, capture_output=True, text=True, check=False)
            output, complaint = done.stdout, done.stderr or done.stdout
        else:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("w") as file:
                done = subprocess.run(
                    command, env=variables, cwd=folder, stdout=file, stderr=subprocess.STDOUT, text=True, check=False
                )
            output, complaint = "", log.read_text(errors="replace")
            hint = f"{hint} (the whole output: {log})"
    except FileNotFoundError:
        raise HostError(Problem(fact=f"{doing}: there is no `{command[0]}` on this machine", hint=hint)) from None
    except OSError as error:
        raise HostError(Problem(fact=f"{doing}: {error.filename}: {error.strerror}", hint=hint)) from None
    if done.returncode != 0:
        tail = "\n".join(f"    {line[:LINE_CHARACTERS]}" for line in complaint.strip().splitlines()[-LAST_LINES:])
        raise HostError(Problem(fact=f"{doing} failed (exit {done.returncode}):\n{tail}", hint=hint))
    return output


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """What else ends a program, a closed terminal or a CI job's end, is an interruption too: it cleans up."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
