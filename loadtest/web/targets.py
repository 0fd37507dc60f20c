"""The deployment's targets beside the run that goes on: only those that it can answer are judged."""

import math
from enum import StrEnum
from typing import Any

from loadtest.results import LoadKind, RunResult
from loadtest.stack import StackFacts
from loadtest.verdict.limits import Limit, limits_in, load_of
from loadtest.verdict.targets import Row, Verdict, judge, limits_of
from vllmstack.deployment.model import Target


class State(StrEnum):
    """Of one limit, or of a target."""

    MET = "met"
    MISSED = "missed"
    WAITING = "not measured yet"
    UNCLEAR = "cannot tell"
    """The run is not valid, or not the one that the target asks for after all: ``reasons`` say why."""
    NOT_RUN = "not run"
    """Another scenario, model or load."""


_OF_VERDICT = {Verdict.MET: State.MET, Verdict.MISSED: State.MISSED, Verdict.INVALID: State.UNCLEAR}
_ORDER = (State.UNCLEAR, State.MISSED, State.WAITING, State.MET)
"""A target is as its worst limit."""


def not_run(stack: StackFacts | None) -> list[dict[str, Any]]:
    """Every target of the deployment, before anything ran."""
    return [_not_run(model.name, target) for model in (stack.models if stack else ()) for target in model.targets]


def live(run: RunResult, stack: StackFacts | None, *, changed: str = "") -> list[dict[str, Any]]:
    """Every target; those judged first whose scenario, model and load are the run's.

    ``changed`` says how the load was changed under way: then no target's load was held.
    """
    judged, others = [], []
    for model in stack.models if stack else ():
        for target in model.targets:
            if _matches(run, target, model.name):
                judged.append(_judged(run, target, model.name, changed))
            else:
                others.append(_not_run(model.name, target))
    return judged + others


def _matches(run: RunResult, target: Target, model: str) -> bool:
    asked = load_of(target)
    served = {series.model for series in run.series} | {one.name for one in run.environment.models}
    if run.scenario != target.scenario or model not in served or run.load.kind is not asked.kind:
        return False
    if asked.kind is LoadKind.CLOSED:
        return run.load.concurrency == asked.concurrency
    return run.load.arrivals == asked.arrivals and math.isclose(run.load.rate or 0.0, asked.rate or 0.0, rel_tol=1e-6)


def _judged(run: RunResult, target: Target, model: str, changed: str) -> dict[str, Any]:
    if not run.total.counts.sent:
        return _with_state(model, target, State.WAITING)
    countable = target.goodput_ratio is None or run.limits == limits_of(target)
    verdict = judge(target if countable else target.model_copy(update={"goodput_ratio": None}), [run], model)
    invalid = verdict.verdict is Verdict.INVALID and verdict.rows
    reasons = [changed] if changed else list(verdict.reasons) if invalid else []
    rows = [_row(row, unclear=bool(reasons), answered=run.total.counts.ok > 0) for row in verdict.rows]
    if not countable:
        # Of a run by other limits, or by none, everything else can still be told.
        goodput = [_empty_row(limit, State.UNCLEAR) for limit in limits_in(target) if limit.key == "goodput_ratio"]
        rows += [row | {"note": "this run counts good requests by other latency limits"} for row in goodput]
    states = {row["state"] for row in rows}
    return {
        **_head(model, target),
        "state": next((state for state in _ORDER if state in states), State.UNCLEAR),
        "reasons": reasons,
        "rows": rows,
    }


def _row(row: Row, *, unclear: bool, answered: bool) -> dict[str, Any]:
    state = State.UNCLEAR if unclear else _OF_VERDICT[row.verdict]
    if row.measured is None and not answered:
        state = State.WAITING
    measured = row.measured.estimate if row.measured else None
    return {
        "limit": row.limit,
        "asked": row.asked,
        "at_most": row.at_most,
        "unit": row.unit,
        "measured": measured,
        "infinite": measured is not None and math.isinf(measured),  # JSON has no number for it
        "close": row.close,
        "note": row.note,
        "state": state,
    }


def _not_run(model: str, target: Target) -> dict[str, Any]:
    return _with_state(model, target, State.NOT_RUN)


def _with_state(model: str, target: Target, state: State) -> dict[str, Any]:
    rows = [_empty_row(limit, state) for limit in limits_in(target)]
    return {**_head(model, target), "state": state, "reasons": [], "rows": rows}


def _empty_row(limit: Limit, state: State) -> dict[str, Any]:
    return {
        "limit": limit.name,
        "asked": limit.asked,
        "at_most": limit.at_most,
        "unit": limit.unit,
        "measured": None,
        "infinite": False,
        "close": False,
        "note": "",
        "state": state,
    }


def _head(model: str, target: Target) -> dict[str, Any]:
    return {"model": model, "scenario": target.scenario, "load": str(load_of(target))}
