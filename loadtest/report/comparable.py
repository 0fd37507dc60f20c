"""Whether the numbers of two variants mean the same: scenario, load, limits, valid runs."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from loadtest.report import wording
from loadtest.report.grouping import Point
from loadtest.results import RunResult
from vllmstack.errors import Problem

HINT = "compare runs of one scenario under one load; --force compares them all the same"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A name and its runs: repeats of one load, or a sweep."""

    name: str
    runs: tuple[RunResult, ...]


def obstacles(baseline: Variant, candidates: Sequence[Variant]) -> Iterator[Problem]:
    """Every invalid run, and every field in which a candidate is not like the baseline."""
    for variant in (baseline, *candidates):
        for run in variant.runs:
            if not run.valid:
                fact = f"is INVALID: {'; '.join(run.invalid_reasons)}"
                hint = "measure it again; --force compares it all the same"
                yield Problem(file=variant.name, place=run.id, fact=fact, hint=hint)
    ours = _described(baseline)
    for candidate in candidates:
        theirs = _described(candidate)
        same_scenario = ours["scenario"] == theirs["scenario"]
        for field in dict.fromkeys([*ours, *theirs]):
            before, after = ours.get(field, set()), theirs.get(field, set())
            if before != after and (same_scenario or "." not in field):
                fact = f"is {_listed(after)}, and {_listed(before)} in {baseline.name}"
                yield Problem(file=candidate.name, place=field, fact=fact, hint=HINT)


def pairs(baseline: Variant, candidate: Variant, *, force: bool = False) -> list[tuple[Point, Point]]:
    """Points of the same scenario, models and load; with ``force`` also the only point of each, whatever it is."""
    ours, theirs = _points(baseline), _points(candidate)
    found = [(point, theirs[key]) for key, point in ours.items() if key in theirs]
    if not found and force and len(ours) == len(theirs) == 1:
        return [(next(iter(ours.values())), next(iter(theirs.values())))]
    return sorted(found, key=lambda pair: pair[0].level)


def _points(variant: Variant) -> dict[Hashable, Point]:
    found: dict[Hashable, list[RunResult]] = {}
    for run in variant.runs:
        load = tuple(run.load.model_dump(mode="json").values())
        found.setdefault((run.scenario, _models(run), load), []).append(run)
    return {key: Point(tuple(runs)) for key, runs in found.items()}


def _models(run: RunResult) -> tuple[str, ...]:
    return tuple(sorted({series.model for series in run.series}))


def _described(variant: Variant) -> dict[str, set[str]]:
    """Each field with the values that the variant's runs have."""
    found: dict[str, set[str]] = {}
    for run in variant.runs:
        fields = {
            "scenario": run.scenario,
            "model": ", ".join(_models(run)) or "none",
            "load": wording.load_name(run),
            "limits": ", ".join(f"{name} {limit:g} s" for name, limit in sorted(run.limits.items())) or "none",
        }
        fields |= {f"scenario.{name}": str(value) for name, value in _flat(run.scenario_text)}
        for name, value in fields.items():
            found.setdefault(name, set()).add(value)
    return found


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif name != "description":
            yield f"{prefix}{name}", value


def _listed(values: set[str]) -> str:
    return ", ".join(sorted(values)) or "not there"
