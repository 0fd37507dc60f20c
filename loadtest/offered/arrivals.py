"""Schedules: when sessions start in the open loop, all of it known before the first one.

Every schedule is a process of rate 1 (Poisson, gamma or evenly spaced) whose time is stretched by the rate asked for:
the n-th session starts when the integral of the rate reaches the process's n-th point (time rescaling; Cinlar,
Introduction to Stochastic Processes, 1975).
"""

import bisect
import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence

from loadtest.errors import LoadTestError
from loadtest.offered.arrival import Arrival
from loadtest.workload.randomness import source
from vllmstack.deployment.wording import perhaps
from vllmstack.errors import Problem

KINDS = ("poisson", "gamma", "constant", "ramp", "steps")
MOST_ARRIVALS = 5_000_000
"""They are held in memory, on each worker."""
_STEP = re.compile(r"\s*(\d+(?:\.\d+)?)\s*[x:]\s*(\d+(?:\.\d+)?)\s*s?\s*")

Steps = Sequence[tuple[float, float]]
"""Rate and seconds of each."""


def schedule(
    kind: str,
    *,
    rate: float,
    duration_seconds: float,
    seed: int,
    burstiness: float | None = None,
    until_rate: float | None = None,
    steps: Steps | None = None,
    requests: int | None = None,
) -> list[Arrival]:
    """The arrivals of a run, in order, all before ``duration_seconds`` and at most ``requests`` of them.

    ``rate`` is sessions a second: the mean of ``poisson``, ``gamma`` and ``constant``, the beginning of ``ramp``, which
    goes in a straight line to ``until_rate`` at the end; ``steps`` have rates and lengths of their own.

    ``burstiness`` is the shape of the gamma distribution of the gaps, as in vLLM's benchmark: 1 is Poisson, less is
    burstier, infinite is evenly spaced; their coefficient of variation is 1/√burstiness. It holds for ``gamma``,
    ``ramp`` and ``steps``, and is 1 where it is left out.

    Raises:
        LoadTestError: with every argument that is lacking or out of range.
    """
    _check(
        kind,
        rate=rate,
        duration_seconds=duration_seconds,
        burstiness=burstiness,
        until_rate=until_rate,
        steps=steps,
    )
    shape = {"poisson": 1.0, "constant": math.inf}.get(kind, 1.0 if burstiness is None else burstiness)
    end = duration_seconds if not steps or kind != "steps" else min(duration_seconds, steps_seconds(steps))
    if kind == "ramp":
        when, total = _ramp(rate, until_rate or 0.0, end)
    elif kind == "steps":
        when, total = _staircase(steps or (), end)
    else:
        when, total = (lambda point: point / rate), rate * end
    expected = min(total, requests or math.inf)
    if expected > MOST_ARRIVALS:
        fact = f"the schedule would have {expected:,.0f} sessions, more than {MOST_ARRIVALS:,}"
        raise LoadTestError(Problem(place="--rate", fact=fact, hint="lower the rate or the duration"))
    points = itertools.takewhile(lambda point: point < total, _points(shape, seed))
    return [Arrival(at=when(point)) for point in itertools.islice(points, requests)]


def mean_rate(kind: str, *, rate: float, until_rate: float | None = None, steps: Steps | None = None) -> float:
    """Sessions a second over the whole schedule."""
    if kind == "ramp":
        return (rate + (until_rate or 0.0)) / 2
    if kind == "steps" and steps:
        return sum(step_rate * seconds for step_rate, seconds in steps) / steps_seconds(steps)
    return rate


def steps_seconds(steps: Steps) -> float:
    """How long a schedule of steps lasts."""
    return sum(seconds for _, seconds in steps)


def parse_steps(text: str) -> list[tuple[float, float]]:
    """``1x30,2x30,4x30``, or ``1:30,2:30,4:30``: 1 session a second for 30 seconds, then 2, then 4.

    Raises:
        LoadTestError: with every step that is not of this form.
    """
    steps, problems = [], []
    for part in text.split(","):
        match = _STEP.fullmatch(part)
        if match and float(match[2]) > 0:
            steps.append((float(match[1]), float(match[2])))
            continue
        fact = f"{part.strip()!r} lasts no time" if match else f"{part.strip()!r} is no step"
        hint = "write RATExSECONDS with commas between them, e.g. 1x30,2x30,4x30"
        problems.append(Problem(place="--steps", fact=fact, hint=hint))
    if not problems and not any(rate for rate, _ in steps):
        problems.append(Problem(place="--steps", fact="no step has a rate above 0", hint="write e.g. 1x30,2x30"))
    if problems:
        raise LoadTestError(problems)
    return steps


def _points(shape: float, seed: int) -> Iterator[float]:
    """A process of rate 1: the sums of gaps with mean 1. An evenly spaced one begins at once."""
    if math.isinf(shape):
        yield from map(float, itertools.count())
    numbers = source(seed, "arrivals")
    point = 0.0
    while True:
        point += numbers.expovariate(1.0) if shape == 1 else numbers.gammavariate(shape, 1 / shape)
        yield point


def _ramp(first: float, last: float, seconds: float) -> tuple[Callable[[float], float], float]:
    """The time at which r₀t + (r₁ − r₀)t²/2T reaches a point, and what it reaches at T.

    2y/(r₀ + √(r₀² + 2ay)) with a = (r₁ − r₀)/T is the root that stays exact where a is near 0.
    """
    slope = (last - first) / seconds

    def when(point: float) -> float:
        root = math.sqrt(max(first * first + 2 * slope * point, 0.0))
        return 2 * point / (first + root) if point else 0.0

    return when, (first + last) / 2 * seconds


def _staircase(steps: Steps, end: float) -> tuple[Callable[[float], float], float]:
    """The time at which the steps together have brought a number of arrivals, and how many they bring until ``end``."""
    starts = list(itertools.accumulate((seconds for _, seconds in steps), initial=0.0))
    brought = list(itertools.accumulate((rate * seconds for rate, seconds in steps), initial=0.0))

    def when(point: float) -> float:
        # The last step that begins at or before the point: one of rate 0 brings nothing and is passed over.
        number = min(bisect.bisect_right(brought, point), len(steps)) - 1
        return starts[number] + (point - brought[number]) / steps[number][0]

    number = min(bisect.bisect_right(starts, end), len(steps)) - 1
    return when, brought[number] + steps[number][0] * (end - starts[number])


def _check(
    kind: str, *, rate: float, duration_seconds: float, burstiness: float | None, until_rate: float | None,
    steps: Steps | None,
) -> None:  # fmt: skip
    problems = []
    if kind not in KINDS:
        hint = perhaps(kind, KINDS) or f"choose one of {', '.join(KINDS)}"
        problems.append(Problem(place="--arrivals", fact=f"no arrivals are called {kind!r}", hint=hint))
    if kind != "steps" and not (math.isfinite(rate) and rate > 0):
        fact = f"{rate:g} sessions a second cannot be scheduled"
        problems.append(Problem(place="--rate", fact=fact, hint="give a number above 0"))
    if not (math.isfinite(duration_seconds) and duration_seconds > 0):
        fact = f"{duration_seconds:g} seconds cannot be scheduled"
        problems.append(Problem(place="--duration", fact=fact, hint="give a number of seconds above 0"))
    if burstiness is not None and not burstiness > 0:
        hint = "1 is Poisson, 0.5 burstier, 2 evener, inf evenly spaced"
        problems.append(Problem(place="--burstiness", fact=f"{burstiness:g} is not above 0", hint=hint))
    if kind == "gamma" and burstiness is None:
        hint = "1 is Poisson, 0.5 burstier, 2 evener, inf evenly spaced"
        problems.append(Problem(place="--burstiness", fact="gamma arrivals need it", hint=hint))
    if kind == "ramp" and (until_rate is None or not (math.isfinite(until_rate) and until_rate >= 0)):
        fact = "a ramp needs the rate that it ends with" if until_rate is None else f"{until_rate:g} is no rate"
        problems.append(Problem(place="--until-rate", fact=fact, hint="give sessions a second, 0 or more"))
    if kind == "steps" and not steps:
        problems.append(Problem(place="--steps", fact="steps need it", hint="e.g. 1x30,2x30,4x30"))
    if problems:
        raise LoadTestError(problems)
