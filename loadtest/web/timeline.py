"""The time line as a page draws it: few enough points, whatever the run's length."""

from collections.abc import Callable, Sequence
from typing import Any

from loadtest.clock.histogram import Histogram
from loadtest.results import RunResult, Second

MAXIMUM_POINTS = 300
"""About one for every two pixels of a chart."""
GROUPS_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
LATE_SECONDS = 30
"""Seconds younger than this may still change: workers report every 3 s, and a busy one later."""
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
HISTOGRAMS = ("ttft", "tpot")
GROUPS_BEFORE_PAUSE = 20


class Timeline:
    """Keeps what was computed of seconds that no longer change: the page is asked for once a second."""

    def __init__(self, *, pause: Callable[[], object] = lambda: None, maximum_points: int = MAXIMUM_POINTS) -> None:
        self._pause = pause
        """Lets other greenlets run: where one process is everything, they are what is measured."""
        self._maximum_points = maximum_points
        self._kept: dict[int, dict[str, Any]] = {}
        self._kept_of: tuple[str, int] = ("", 0)

    def columns(self, run: RunResult, *, until: float | None = None) -> dict[str, Any]:
        """Columns of equal length, a value for each group of ``group_seconds``; None where nothing was observed.

        ``at`` is the group's first second; ``due``, ``sent``, ``ended``, ``failed`` and ``tokens`` are a second's
        mean; ``good`` is a share of the ended; ``in_flight`` is at the group's end; the quantiles are in seconds.
        ``until``: the run goes on and this second is the last that is complete. Seconds without an event are there too.
        """
        seconds = _every_second(run.timeline, until)
        group_seconds = group_size(len(seconds), self._maximum_points)
        if self._kept_of != (run.id, group_seconds):
            self._kept_of, self._kept = (run.id, group_seconds), {}
        last = seconds[-1].at if seconds else 0
        rows = []
        for number, group in enumerate(_groups(seconds, group_seconds)):
            first = group[0].at
            row = self._kept.get(first)
            if row is None:
                row = _row(group)
                if len(group) == group_seconds and group[-1].at < last - LATE_SECONDS:
                    self._kept[first] = row
                if number % GROUPS_BEFORE_PAUSE == 0:
                    self._pause()
            rows.append(row)
        names = rows[0].keys() if rows else _row([Second(at=0)]).keys()
        return {"group_seconds": group_seconds, **{name: [row[name] for row in rows] for name in names}}


def group_size(seconds: int, maximum_points: int = MAXIMUM_POINTS) -> int:
    """The fewest seconds a point that give no more than ``maximum_points``."""
    return next((size for size in GROUPS_SECONDS if seconds <= size * maximum_points), GROUPS_SECONDS[-1])


def _every_second(timeline: Sequence[Second], until: float | None) -> Sequence[Second]:
    """Without the seconds that are not complete, with those in which nothing happened: a stall is to be seen."""
    if until is None or not timeline:
        return timeline
    first, end = timeline[0].at, int(until)
    kept = timeline[: max(end - first, 0)]
    if not kept:
        return []
    still = kept[-1].in_flight
    return [*kept, *(Second(at=at, in_flight=still) for at in range(kept[-1].at + 1, end))]


def _groups(seconds: Sequence[Second], size: int) -> list[Sequence[Second]]:
    return [seconds[start : start + size] for start in range(0, len(seconds), size)]


def _row(group: Sequence[Second]) -> dict[str, Any]:
    length = len(group)
    ended = sum(second.ok + second.failed for second in group)
    row: dict[str, Any] = {
        "at": group[0].at,
        "due": sum(second.due for second in group) / length,
        "sent": sum(second.sent for second in group) / length,
        "ended": ended / length,
        "failed": sum(second.failed for second in group) / length,
        "tokens": sum(second.tokens for second in group) / length,
        "good": sum(second.good for second in group) / ended if ended else None,
        "in_flight": group[-1].in_flight,
    }
    for name in HISTOGRAMS:
        merged = Histogram()
        for second in group:
            data = getattr(second, name)
            if data.count:
                merged.merge(Histogram.of(data))
        for quantile, share in QUANTILES.items():
            row[f"{name}_{quantile}"] = merged.quantile(share)
    return row
