"""The highest load that meets the targets: doubling until they are missed, then bisection."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from loadtest.errors import LoadTestError
from loadtest.verdict.limits import THROUGHPUTS, limits_in
from loadtest.verdict.targets import Part, Row, TargetVerdict, Verdict
from vllmstack.deployment.model import Target
from vllmstack.errors import Problem

Judged = TargetVerdict
"""What measuring at one load gives."""

MAXIMUM_RUNS = 20
"""Ten doublings reach a thousand times the lowest load, and five halvings bring a doubling within 5 %."""


class Ending(StrEnum):
    """Why the search ended."""

    FOUND = "found"
    """Between the highest load that was met and the lowest that was missed there is no more than the precision."""
    NONE_MET = "none_met"
    """The lowest load already misses."""
    CEILING = "ceiling"
    """The highest load that was allowed is met."""
    CLIENT = "client"
    """Beyond it no valid measurement came about: the client cannot offer more, or something else is wrong."""
    RUNS = "runs"
    """No run was left to come closer."""


class Probe(Part):
    """One measurement."""

    load: float
    """Requests a second, or concurrency."""
    verdict: Verdict
    """By the limits that bound a load: throughput is left out."""
    repeated: bool
    """The second measurement of this load, since the first was too close to call."""
    judged: TargetVerdict

    @property
    def nearest(self) -> Row | None:
        """The limit with the least margin among those that bound a load; None if nothing was measured."""
        known = [row for row in self.judged.rows if row.bounds_load and row.margin is not None]
        return min(known, key=_margin, default=None)


class Capacity(Part):
    """What was found."""

    ending: Ending
    highest_met: float | None
    """None: not even the lowest load."""
    lowest_beyond: float | None
    """The lowest load that was missed or invalid; None if all were met."""
    binding: str | None
    """The limit that stands in the way: ``ttft p99``. At a ceiling the one that is nearest; None if the client gave up
    first."""
    summary: str
    """A sentence for people."""
    probes: tuple[Probe, ...]
    """In the order of measuring."""

    @property
    def best(self) -> TargetVerdict | None:
        """What was measured at the highest load that was met."""
        met = [probe for probe in self.probes if probe.verdict is Verdict.MET and probe.load == self.highest_met]
        return met[-1].judged if met else None


def bounded(target: Target) -> None:
    """Refuses a target that no load can miss by being too high.

    Raises:
        LoadTestError: it limits neither a latency nor a ratio; throughput only grows with load.
    """
    if all(limit.key in THROUGHPUTS for limit in limits_in(target)):
        raise LoadTestError(
            Problem(
                fact="the target limits throughput only, so that no load is too high for it",
                hint="add a latency or `error_ratio`, e.g. `ttft_seconds: {p99: 2}`, or choose a `--profile`",
            )
        )


def find_capacity(
    measure: Callable[[float], Judged],
    *,
    low: float,
    high: float | None = None,
    precision: float = 0.05,
    max_runs: int = MAXIMUM_RUNS,
    whole: bool = False,
) -> Capacity:
    """Searches the highest load at which ``measure`` meets its target.

    Args:
        measure: Loads the server (requests a second, or users) and judges; asked once for each probe.
        low: Where the search starts; it never goes below.
        high: No load above this is tried; None: until the target is missed.
        precision: The search ends when the lowest load beyond is at most this share above the highest met.
        max_runs: Measurements at most. A load that is missed but too close to call is measured once more, and the
            second one decides.
        whole: Only whole numbers are tried: users.

    Raises:
        ValueError: bounds, precision or runs that make no search.
    """
    if low <= 0 or (high is not None and high < low) or precision <= 0 or max_runs < 1:
        raise ValueError("a search needs 0 < low ≤ high, a precision above 0 and at least one run")
    search = _Search(measure, max_runs)
    current = _rounded(low, whole)
    ceiling = math.inf if high is None else _rounded(high, whole)
    while True:
        if not search.runs_left:
            return search.result(Ending.RUNS)
        if search.probe(current) is not Verdict.MET:
            break
        if current >= ceiling:
            return search.result(Ending.CEILING)
        current = min(current * 2, ceiling)
    while search.met is not None and search.beyond is not None:
        middle = _rounded((search.met + search.beyond.load) / 2, whole)
        if search.beyond.load <= search.met * (1 + precision) or middle in (search.met, search.beyond.load):
            return search.result(Ending.FOUND if search.beyond.verdict is Verdict.MISSED else Ending.CLIENT)
        if not search.runs_left:
            return search.result(Ending.RUNS)
        search.probe(middle)
    invalid = search.beyond is not None and search.beyond.verdict is Verdict.INVALID
    return search.result(Ending.CLIENT if invalid else Ending.NONE_MET)


def _rounded(load: float, whole: bool) -> float:
    return float(math.floor(load)) if whole and load >= 1 else 1.0 if whole else load


@dataclass
class _Search:
    measure: Callable[[float], Judged]
    max_runs: int
    met: float | None = None
    beyond: Probe | None = None
    probes: list[Probe] = field(default_factory=list)

    @property
    def runs_left(self) -> bool:
        return len(self.probes) < self.max_runs

    def probe(self, load: float) -> Verdict:
        last = self._measure(load, repeated=False)
        if last.verdict is Verdict.MISSED and self.runs_left and all(row.close for row in _missed(last.judged)):
            again = self._measure(load, repeated=True)
            # A second measurement that says nothing leaves the first one standing.
            last = last if again.verdict is Verdict.INVALID else again
        if last.verdict is Verdict.MET:
            self.met = load
        else:
            self.beyond = last
        return last.verdict

    def _measure(self, load: float, *, repeated: bool) -> Probe:
        judged = self.measure(load)
        probe = Probe(load=load, verdict=_verdict(judged), repeated=repeated, judged=judged)
        self.probes.append(probe)
        return probe

    def result(self, ending: Ending) -> Capacity:
        binding = self._binding()
        return Capacity(
            ending=ending,
            highest_met=self.met,
            lowest_beyond=self.beyond.load if self.beyond else None,
            binding=binding.limit if binding else None,
            summary=self._summary(ending, binding),
            probes=tuple(self.probes),
        )

    def _binding(self) -> Row | None:
        """What was missed at the lowest load beyond; with several, the one that was missed by most."""
        if self.beyond is not None:
            return min(_missed(self.beyond.judged), key=_margin, default=None)
        met = [probe for probe in self.probes if probe.load == self.met]
        return met[-1].nearest if met else None

    def _summary(self, ending: Ending, binding: Row | None) -> str:
        by = f"{binding.limit} binds" if binding else ""
        met, beyond = f"{self.met:g}" if self.met is not None else "", f"{self.beyond.load:g}" if self.beyond else ""
        if ending is Ending.NONE_MET:
            return f"even the lowest load, {beyond}, misses: {by}"
        if ending is Ending.CLIENT:
            reasons = self.beyond.judged.reasons if self.beyond else ()
            reason = reasons[0] if reasons else "no reason was given"
            start = f"{met} is met" if met else "nothing is met"
            return f"{start}; at {beyond} there is no valid measurement: {reason}"
        if ending is Ending.CEILING:
            return f"{met}, the highest load allowed, is met" + (f"; {binding.limit} is nearest" if binding else "")
        if ending is Ending.RUNS:
            after = (
                f"; {beyond} is not, {by or 'it gave no valid measurement'}" if beyond else "; nothing higher was tried"
            )
            return f"the runs are used up: {met or 'nothing'} is met{after}"
        return f"{met} is met and {beyond} is not: {by}"


def _bounding(judged: TargetVerdict) -> list[Row]:
    return [row for row in judged.rows if row.bounds_load]


def _missed(judged: TargetVerdict) -> list[Row]:
    return [row for row in _bounding(judged) if row.verdict is Verdict.MISSED]


def _margin(row: Row) -> float:
    return math.inf if row.margin is None else row.margin


def _verdict(judged: TargetVerdict) -> Verdict:
    """Without throughput: at a low load little is asked, so little comes out, and no server is to blame."""
    rows = _bounding(judged)
    if not rows or judged.verdict is Verdict.INVALID:
        return Verdict.INVALID
    return Verdict.MISSED if _missed(judged) else Verdict.MET
