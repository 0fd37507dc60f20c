"""Which runs belong together: repeats of one load are a point, loads of one scenario are a sweep."""

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

from loadtest.clock.histogram import Histogram
from loadtest.report.measures import E2E, Measure, estimate
from loadtest.report.wording import load_name, short_load
from loadtest.results import LoadKind, RunResult, Series
from loadtest.verdict.pooling import pooled
from loadtest.verdict.statistics import Interval, knee


@dataclass(frozen=True)
class Point:
    """One load, measured once or several times."""

    runs: tuple[RunResult, ...]

    @property
    def first(self) -> RunResult:
        return self.runs[0]

    @property
    def name(self) -> str:
        return load_name(self.first)

    @property
    def short_name(self) -> str:
        return short_load(self.first)

    @property
    def level(self) -> float:
        """Users, or sessions a second; 0 where the load says neither (a trace)."""
        load = self.first.load
        return float((load.concurrency if load.kind is LoadKind.CLOSED else load.rate) or 0)

    @property
    def valid(self) -> bool:
        """Whether every repeat can be believed."""
        return all(run.valid for run in self.runs)

    @cached_property
    def total(self) -> Series:
        """The requests of all repeats."""
        return pooled([run.total for run in self.runs])

    def estimate(self, one: Measure) -> Interval | None:
        """Over all repeats together."""
        if one.key not in self._estimates:
            self._estimates[one.key] = estimate(one, self.runs)
        return self._estimates[one.key]

    @cached_property
    def _estimates(self) -> dict[str, Interval | None]:
        """Tables and charts, drawn in two sizes, ask for the same ones."""
        return {}


@dataclass(frozen=True)
class Sweep:
    """Loads of one scenario, in growing order."""

    points: tuple[Point, ...]

    @property
    def first(self) -> RunResult:
        return self.points[0].first

    @property
    def kind(self) -> LoadKind:
        return self.first.load.kind

    @property
    def runs(self) -> tuple[RunResult, ...]:
        return tuple(run for point in self.points for run in point.runs)

    @property
    def has_curve(self) -> bool:
        """Whether there are enough loads to draw a line through."""
        return len({point.level for point in self.points if point.level}) >= 3

    @cached_property
    def knee(self) -> Point | None:
        """Beyond it, the median end-to-end time grows faster than throughput; None if the curve has no bend.

        Invalid runs say nothing about the server and are left out.
        """
        believed = [point for point in self.points if point.valid and point.level]
        curve = [
            (
                point.total.output_tokens_per_second,
                Histogram.of(E2E.data(point.first, point.total)).quantile(0.5) or float("nan"),
            )
            for point in believed
        ]
        bend = knee(curve)
        return None if bend is None or not _costs_more_than_it_gives(curve[bend], curve[-1]) else believed[bend]


_NOTABLE_GROWTH = 1.1


def _costs_more_than_it_gives(bend: tuple[float, float], last: tuple[float, float]) -> bool:
    """Whether latency truly grew faster: scaled to its own range, noise on a level line has a bend as well."""
    (throughput, latency), (last_throughput, last_latency) = bend, last
    return last_latency * throughput > _NOTABLE_GROWTH * latency * last_throughput


def sweeps(runs: Sequence[RunResult]) -> list[Sweep]:
    """Every run in its place; the order of first appearance decides between sweeps."""
    curves: dict[Hashable, dict[Hashable, list[RunResult]]] = {}
    for run in runs:
        curves.setdefault(what_is_measured(run), {}).setdefault(load_key(run), []).append(run)
    found = []
    for loads in curves.values():
        points = [Point(tuple(sorted(repeats, key=lambda run: (run.started_at, run.id)))) for repeats in loads.values()]
        found.append(Sweep(tuple(sorted(points, key=lambda point: point.level))))
    return found


def load_key(run: RunResult) -> tuple[Hashable, ...]:
    """Equal for repeats of one load, judged by the same limits."""
    return (*run.load.model_dump(mode="json").values(), *sorted(run.limits.items()))


def what_is_measured(run: RunResult) -> tuple[Hashable, ...]:
    """Equal for loads that belong on one curve: scenario with its parameters, models, deployment, kind of load."""
    models = tuple(sorted({series.model for series in run.series}))
    text = json.dumps(run.scenario_text, sort_keys=True, default=str)
    where = run.environment
    return (run.scenario, text, models, where.deployment, where.url, run.load.kind, run.load.arrivals)
