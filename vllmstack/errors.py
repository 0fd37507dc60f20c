"""What can go wrong, as a person reads it.

VllmstackError            expected failure: exit 1, one block of text, no traceback
├── InvalidInput          a file or an argument is wrong: carries every Problem found, not the first
├── HostError             this machine lacks something: Docker, a port, a GPU, disk
└── StackError            the running stack failed: a container died, a health check did not pass in time
"""

from collections.abc import Sequence
from dataclasses import dataclass

EXIT_FAILED = 1
EXIT_BUG = 3
EXIT_INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One fact that is wrong, where it stands, and what mends it."""

    fact: str
    hint: str
    place: str = ""
    """Where: ``models/0/serve/max_model_len`` in a file, or empty."""
    file: str = ""

    def __str__(self) -> str:
        where = "".join(f"{part}: " for part in (self.file, self.place) if part)
        return f"{where}{self.fact}\n  hint: {self.hint}"


class VllmstackError(Exception):
    """An expected failure. ``problems`` holds at least one Problem."""

    exit_code = EXIT_FAILED

    def __init__(self, problems: Problem | Sequence[Problem]) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class InvalidInput(VllmstackError):
    """A deployment file or an argument that cannot be used."""


class HostError(VllmstackError):
    """Something that this machine must have is not there."""


class StackError(VllmstackError):
    """The stack was started and did not come up, or does not answer."""
