"""Other programs, run so that their failure can be told to a person."""

import os
import subprocess
from collections.abc import Mapping, Sequence
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
