"""The verdict: whether runs of one load meet a deployment's target."""

import math
import re
from collections.abc import Iterator, Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from loadtest.errors import EXIT_INVALID, EXIT_MET, EXIT_MISSED
from loadtest.results import Load, LoadKind, RunResult
from loadtest.verdict.limits import THROUGHPUTS, Limit, limits_in, limits_of, load_of
from loadtest.verdict.measured import Measurement, infinitely_slow, measure
from loadtest.verdict.statistics import LEVEL, Interval
from vllmstack.deployment.model import Target

__all__ = ["Row", "TargetVerdict", "Verdict", "exit_code", "judge", "limits_of", "load_of"]


class Verdict(StrEnum):
    """Whether a limit, or all of a target's, are kept."""

    MET = "met"
    MISSED = "missed"
    INVALID = "invalid"
    """The measurement cannot tell: it says nothing, good or bad, about the server."""


class Part(BaseModel):
    """Base of what goes into check.json, where infinity is written as text: JSON has no number for it."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class Row(Part):
    """One limit and what was measured."""

    key: str
    """As the deployment file writes it: ``ttft_seconds.p95``."""
    limit: str
    """For people: ``ttft p95``."""
    asked: float
    at_most: bool
    """The limit is an upper one."""
    measured: Interval | None
    """None: nothing of the kind was measured. Infinite: more than every answer, for failed requests count as that."""
    unit: str
    """Of asked and measured: ``s``, ``tok/s``, ``req/s`` or ``ratio``."""
    verdict: Verdict
    margin: float | None
    """What is left to the limit over the limit: 0.2 is a fifth to spare, −0.2 a fifth over; may be −infinity."""
    close: bool
    """The interval holds the limit: another run might end the other way."""
    notes: tuple[str, ...]
    """What is to be said of it."""

    @property
    def note(self) -> str:
        return "; ".join(self.notes)

    @property
    def bounds_load(self) -> bool:
        """More load makes it worse. Throughput gets better with load, until it does not."""
        return self.key not in THROUGHPUTS


class TargetVerdict(Part):
    """One target of one model, judged."""

    model: str
    scenario: str
    load: Load
    rows: tuple[Row, ...]
    verdict: Verdict
    reasons: tuple[str, ...]
    """Why it is invalid, or which limits were missed."""
    warnings: tuple[str, ...] = ()
    """What does not fit together in the runs without spoiling them."""
    runs: tuple[str, ...]
    """Ids of the runs that it is made of."""

    @property
    def name(self) -> str:
        """``smoke · chat · concurrency 4``."""
        return f"{self.model} · {self.scenario} · {self.load}"

    @property
    def exit_code(self) -> int:
        return _EXIT_CODES[self.verdict]

    @property
    def binding(self) -> Row | None:
        """The limit with the least margin; None if nothing was measured."""
        known = [row for row in self.rows if row.margin is not None]
        return min(known, key=lambda row: math.inf if row.margin is None else row.margin, default=None)


_EXIT_CODES = {Verdict.MET: EXIT_MET, Verdict.MISSED: EXIT_MISSED, Verdict.INVALID: EXIT_INVALID}


def exit_code(verdicts: Sequence[TargetVerdict]) -> int:
    """Of all targets together: 0 all met, 1 one missed, 2 one could not be judged or there is none."""
    return max((verdict.exit_code for verdict in verdicts), default=EXIT_INVALID)


def judge(target: Target, runs: Sequence[RunResult], model: str) -> TargetVerdict:
    """Holds the repeats of one load against a target.

    The verdict goes by the estimate over all repeats together; the interval says how sure it is. An open loop's
    latencies count from when a request was due, a closed loop's from when it was sent. One invalid run makes
    all invalid: nobody knows what it would have shown.
    """
    measurement = Measurement.of(runs, model, tolerates_failures=target.error_ratio is not None)
    reasons = list(_reasons(target, measurement))
    rows = [_row(limit, measurement, invalid=bool(reasons)) for limit in limits_in(target)]
    if not rows:
        reasons.append("the target sets no limit")
    if not reasons:
        reasons += [f"{row.limit}: {row.note}" for row in rows if row.verdict is Verdict.INVALID]
    verdict = Verdict.INVALID if reasons else Verdict.MET
    missed = [row.limit for row in rows if row.verdict is Verdict.MISSED]
    if missed and not reasons:
        verdict, reasons = Verdict.MISSED, [f"{name} is missed" for name in missed]
    return TargetVerdict(
        model=model,
        scenario=target.scenario,
        load=load_of(target),
        rows=tuple(rows),
        verdict=verdict,
        reasons=tuple(reasons),
        warnings=tuple(_warnings(runs)),
        runs=tuple(run.id for run in runs),
    )


def _warnings(runs: Sequence[RunResult]) -> Iterator[str]:
    """Each kind of warning once, as its first run has it: repeats differ in the numbers only."""
    kinds: dict[str, list[str]] = {}
    for run in runs:
        for flag in run.flags:
            if flag.severity == "warning":
                kinds.setdefault(re.sub(r"[\d.,]+", "#", flag.fact), []).append(flag.fact)
    for facts in kinds.values():
        yield facts[0] if len(facts) == 1 else f"{facts[0]} (and alike in {len(facts) - 1} more)"


def _reasons(target: Target, measurement: Measurement) -> Iterator[str]:
    """Why these runs cannot answer what the target asks."""
    if not measurement.runs:
        yield "nothing was measured"
        return
    asked, limits = load_of(target), limits_of(target)
    for run in measurement.runs:
        for reason in run.invalid_reasons:
            yield f"{run.id}: {reason}"
        if run.interrupted:
            yield f"{run.id}: was interrupted before its time"
        if not _same_load(run.load, asked):
            yield f"{run.id}: was measured at {run.load}, and the target holds at {asked}"
        if target.goodput_ratio is not None and run.limits != limits:
            yield f"{run.id}: counted good requests by other latency limits than the target's"
    if not measurement.whole.counts.sent:
        yield "no request was sent inside the window"
    elif not measurement.judged_requests:
        yield "the scenario abandoned every request: none can be judged"


def _same_load(one: Load, other: Load) -> bool:
    if one.kind is not other.kind:
        return False
    if one.kind is LoadKind.CLOSED:
        return one.concurrency == other.concurrency
    return math.isclose(one.rate or 0.0, other.rate or 0.0, rel_tol=1e-6)


def _row(limit: Limit, measurement: Measurement, *, invalid: bool) -> Row:
    measured = measure(limit, measurement) if measurement.runs else None
    verdict, margin, close, notes = Verdict.INVALID, None, False, []
    if measured is not None:
        margin, close = limit.margin(measured.estimate), _is_close(limit, measured)
        notes = list(_notes(limit, measured, measurement, close=close))
        if not invalid:
            verdict = Verdict.MET if limit.met_by(measured.estimate) else Verdict.MISSED
    elif not invalid:
        notes = [f"no {limit.latency or limit.name} was measured: this scenario has none"]
    return Row(
        key=limit.key,
        limit=limit.name,
        asked=limit.asked,
        at_most=limit.at_most,
        measured=measured,
        unit=limit.unit,
        verdict=verdict,
        margin=margin,
        close=close,
        notes=tuple(notes),
    )


def _is_close(limit: Limit, measured: Interval) -> bool:
    if limit.unit == "ratio" and limit.asked == (0 if limit.at_most else 1):
        # No failure at all can be refuted, never proven: by one failure, which is then sure.
        return False
    return limit.met_by(measured.low) != limit.met_by(measured.high)


def _notes(limit: Limit, measured: Interval, measurement: Measurement, *, close: bool) -> Iterator[str]:
    counts = measurement.whole.counts
    if limit.latency is not None and counts.failed:
        if limit.share is None and not math.isinf(measured.estimate):
            yield f"{counts.failed} of {measurement.judged_requests} requests failed and are not in the mean"
        else:
            yield f"{counts.failed} of {measurement.judged_requests} requests failed: slower than every answer"
    if not close:
        return
    needed = _needed(limit, measurement)
    if needed is not None:
        yield f"too few requests to be sure: at least {needed:,}"
    else:
        yield "too close to call: repeat more"


def _needed(limit: Limit, measurement: Measurement) -> int | None:
    """Requests from which on a percentile has an upper end at all, if there are fewer and none of them failed.

    All of n values lie below the percentile with probability share^n, which must be at most the interval's tail.
    """
    series = measurement.whole
    if limit.latency is None or limit.share is None or infinitely_slow(limit.latency, series):
        return None
    needed = math.ceil(math.log((1 - LEVEL) / 2) / math.log(limit.share))
    return needed if series.counts.ok < needed else None
