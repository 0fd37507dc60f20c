"""Verdicts without a measurement."""

import math

from loadtest.results import Load, LoadKind
from loadtest.verdict.limits import Limit, limits_in
from loadtest.verdict.statistics import Interval
from loadtest.verdict.targets import Row, TargetVerdict, Verdict
from vllmstack.deployment.model import Target

TARGET = Target.model_validate(
    {
        "load": {"requests_per_second": 1},
        "output_tokens_per_second": 1000,
        "ttft_seconds": {"p99": 2},
        "error_ratio": 0.01,
    }
)


def judged(
    load: float,
    *,
    ttft: float = 1.0,
    errors: float = 0.0,
    tokens: float = 100.0,
    close: bool = False,
    invalid: str = "",
) -> TargetVerdict:
    """At ``load`` a second the 99th percentile is ``ttft`` seconds; ``close`` says that it is so of the TTFT."""
    values = {"output_tokens_per_second": 100.0, "ttft_seconds.p99": ttft, "error_ratio": errors}
    rows = tuple(
        _row(limit, values[limit.key], close and limit.latency is not None, invalid) for limit in limits_in(TARGET)
    )
    verdicts = [row.verdict for row in rows]
    return TargetVerdict(
        model="smoke",
        scenario="chat",
        load=Load(kind=LoadKind.OPEN, rate=load, arrivals="poisson"),
        rows=rows,
        verdict=Verdict.INVALID if invalid else Verdict.MISSED if Verdict.MISSED in verdicts else Verdict.MET,
        reasons=(invalid,) if invalid else (),
        runs=(f"chat-r{load:g}",),
    )


def _row(limit: Limit, value: float, close: bool, invalid: str) -> Row:
    verdict = Verdict.MET if limit.met_by(value) else Verdict.MISSED
    return Row(
        key=limit.key,
        limit=limit.name,
        asked=limit.asked,
        at_most=limit.at_most,
        measured=Interval(value, value, math.inf if close else value),
        unit=limit.unit,
        verdict=Verdict.INVALID if invalid else verdict,
        margin=limit.margin(value),
        close=close,
        notes=(),
    )
