"""A load as `plan --load` takes it: "30 rps, 1000 in, 300 out"."""

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from vllmstack.errors import InvalidInput, Problem
from vllmstack.simulation.service import Lengths

EXAMPLE = '"30 rps, 1000 in, 300 out"'
SPREAD = 0.7
"""Standard deviation ÷ mean of lengths that vary: between an exponential distribution's and none."""
LONGEST = 4.0
"""Times the mean, at most."""

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(k?)\s*(rps|rpm|users?|in|out|shared)|(fixed)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked of a service: at a rate, or by users who each wait for their answer."""

    requests_per_second: float | None = None
    users: int | None = None
    prompt_tokens: float
    """Mean."""
    completion_tokens: float
    """Mean."""
    shared_tokens: int = 0
    """Of every prompt, at its beginning: a system prompt that all have."""
    fixed: bool = False
    """Every request is as long as the mean; else lengths vary."""

    @property
    def amount(self) -> str:
        """Its rate, or its users."""
        return f"{self.users} users" if self.users else f"{self.requests_per_second:.3g} rps"

    def times(self, factor: float) -> "Load":
        """The same requests, so many times as often; at least one user."""
        if self.users is not None:
            return replace(self, users=max(1, round(self.users * factor)))
        return replace(self, requests_per_second=(self.requests_per_second or 0.0) * factor)

    def __str__(self) -> str:
        shared = f", {self.shared_tokens} shared" if self.shared_tokens else ""
        return (
            f"{self.amount}, {self.prompt_tokens:g} in, {self.completion_tokens:g} out{shared}{', fixed' * self.fixed}"
        )

    @property
    def longest_tokens(self) -> int:
        """Of prompt and answer together, at most."""
        factor = 1.0 if self.fixed else LONGEST
        own = self.prompt_tokens - self.shared_tokens
        return self.shared_tokens + math.ceil(factor * own) + math.ceil(factor * self.completion_tokens)

    def lengths(self, seed: int = 0) -> Iterator[Lengths]:
        """Requests without end: lognormal lengths of the means asked for, the same for the same seed.

        What prompts share is as long in each; the rest varies.
        """
        chance, shared = Random(seed), self.shared_tokens  # noqa: S311 # repeatable on purpose
        while True:
            own = self._drawn(chance, self.prompt_tokens - shared)
            yield Lengths(shared + own, self._drawn(chance, self.completion_tokens), shared)

    def _drawn(self, chance: Random, mean: float) -> int:
        if self.fixed:
            return max(1, round(mean))
        deviation = math.sqrt(math.log1p(SPREAD**2))
        drawn = chance.lognormvariate(math.log(mean) - deviation**2 / 2, deviation)
        return max(1, round(min(drawn, LONGEST * mean)))

    def arrivals(self, requests: int, seed: int = 0) -> Iterator[tuple[float, Lengths]]:
        """A Poisson process of the rate: seconds, and what is asked.

        Raises:
            ValueError: it is a load of users.
        """
        if self.requests_per_second is None:
            raise ValueError("users ask when they have their answer")
        chance = Random(seed + 1)  # noqa: S311
        at = 0.0
        for request in itertools.islice(self.lengths(seed), requests):
            at += chance.expovariate(self.requests_per_second)
            yield at, request


def parse_load(text: str, *, place: str = "--load") -> Load:
    """Reads it; parts may stand in any order.

    ``N rps`` (or ``rpm``, a minute) or ``N users``; ``N in`` and ``N out`` are mean tokens (``4k`` is 4,000);
    ``N shared`` of the prompt are the same in every request; ``fixed``: no request differs from the mean.

    Raises:
        InvalidInput: with every part that is not understood, given twice or missing.
    """
    problems: list[str] = []
    values: dict[str, float] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        match = _PART.fullmatch(part)
        if match is None:
            problems.append(f"{part!r} is not understood")
            continue
        unit = (match[4] or match[3]).lower().replace("users", "user")
        number = float(match[1] or 1) * (1000 if match[2] else 1)
        if unit == "rpm":
            unit, number = "rps", number / 60
        if unit in values:
            problems.append(f"{unit!r} stands there twice")
        if number == 0 and unit != "shared":
            problems.append(f"{part!r} is nothing")
        elif unit == "user" and number != int(number):
            problems.append(f"{part!r} is no whole number of users")
        values[unit] = number
    if "rps" in values and "user" in values:
        problems.append("it has a rate and users: users decide themselves when they ask")
    if not {"rps", "user"} & values.keys():
        problems.append("it says neither how many requests a second (rps) nor how many users")
    problems += [f"it has no tokens {unit!r}" for unit in ("in", "out") if unit not in values]
    if "shared" in values and values["shared"] >= values.get("in", math.inf):
        problems.append("more tokens are shared than are in")
    if problems:
        raise InvalidInput([Problem(place=place, fact=fact, hint=f"write it like {EXAMPLE}") for fact in problems])
    return Load(
        requests_per_second=values.get("rps"),
        users=int(values["user"]) if "user" in values else None,
        prompt_tokens=values["in"],
        completion_tokens=values["out"],
        shared_tokens=int(values.get("shared", 0)),
        fixed="fixed" in values,
    )
