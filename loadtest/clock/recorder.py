"""From observations to series, time line and rows; one recorder a process, merged exactly on the master."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel

from loadtest.clock.histogram import Histogram
from loadtest.clock.histogram_data import HistogramData
from loadtest.clock.observation import Observation, Outcome
from loadtest.clock.tally import SecondTally, SeriesTally
from loadtest.results import Offered, Second, Series, WholeRun

MAXIMUM_ROWS = 200_000
"""Of requests.csv: about 40 MB. What comes after is counted, not listed."""


FEW_CHUNKS = 16
"""Below, a loop is faster than numpy."""


class SecondData(BaseModel):
    """A second as it travels."""

    counters: list[int]
    ttft: HistogramData
    tpot: HistogramData


class Recorded(BaseModel):
    """What a recorder held: a message from a worker."""

    series: list[Series] = []
    seconds: dict[int, SecondData] = {}
    asked: int = 0
    sent: int = 0
    lateness: HistogramData = HistogramData()
    first_sent: float = math.inf
    last_end: float = -math.inf
    whole: WholeRun = WholeRun()
    chunks: int = 0
    rows: list[list[Any]] = []


class Recorder:
    """Takes observations whose times count from the run's start.

    A request is measured if it was *due* inside the window, however late it ends; tokens count towards throughput if
    they *arrive* inside it, of whichever request. ``window_end`` is infinite until it is known.
    """

    def __init__(
        self, *, window_start: float = 0.0, window_end: float = math.inf, limits: Mapping[str, float] | None = None,
        by_schedule: bool = False,
    ) -> None:  # fmt: skip
        self.window_start = window_start
        self.window_end = window_end
        self.limits = dict(limits or {})
        self.by_schedule = by_schedule
        """Judge latency limits from the scheduled time (open loop)."""
        self.rows_left = MAXIMUM_ROWS
        self._clear()
        self._in_flight: dict[int, tuple[Observation, int]] = {}

    def _clear(self) -> None:
        self._series: dict[tuple[str, str], SeriesTally] = {}
        self._seconds: dict[int, SecondTally] = {}
        self._asked = 0
        self._sent = 0
        self._lateness = Histogram()
        self._first_sent = math.inf
        self._last_end = -math.inf
        self._whole = WholeRun()
        self._chunks = 0
        self._rows: list[list[Any]] = []

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    def due(self, at: float) -> None:
        """A request ought to be sent at ``at``, whether the client manages or not."""
        self._second(at).due += 1
        self._asked += self._in_window(at)

    def begin(self, one: Observation) -> None:
        """The request has been sent: ``sent_at`` and ``scheduled_at`` are known."""
        self._in_flight[id(one)] = (one, 0)
        self._second(one.sent_at).sent += 1
        self._whole.sent += 1
        if self._in_window(one.scheduled_at):
            self._lateness.record(max(one.sent_at - one.scheduled_at, 0.0))
            self._sent += one.sent_at < self.window_end
            self._first_sent = min(self._first_sent, one.sent_at)

    def end(self, one: Observation) -> None:
        """The request is over."""
        _, counted = self._in_flight.pop(id(one), (one, 0))
        if one.chunk_times:
            self._arrivals(one, counted)
        elif one.completion_tokens:  # not streamed: all of it came at once
            self._count_tokens(one, one.ended_at, one.completion_tokens)
        self._chunks += len(one.chunk_times)
        measured = self._in_window(one.scheduled_at)
        good = one.outcome is Outcome.OK and self._within_limits(one)
        self._count_whole(one)
        second = self._second(one.ended_at)
        second.ended += 1
        second.ok += one.outcome is Outcome.OK
        second.failed += one.failed
        second.good += good
        if one.first_token_at is not None and one.ttft_seconds is not None:
            ttft = one.scheduled_ttft_seconds if self.by_schedule else one.ttft_seconds
            self._second(one.first_token_at).ttft.record(ttft or 0.0)
        if one.outcome is Outcome.OK and one.tpot_seconds is not None:
            second.tpot.record(one.tpot_seconds)
        if measured:
            self._tally(one).observe(one, good=good)
            self._last_end = max(self._last_end, one.ended_at)
        if self.rows_left > 0:
            self.rows_left -= 1
            self._rows.append(_row(one, measured=measured))

    def take(self) -> Recorded:
        """All since the last call; tokens of requests still in flight are in it, the requests come when they end."""
        for key, (one, counted) in list(self._in_flight.items()):
            self._in_flight[key] = (one, self._arrivals(one, counted))
        recorded = Recorded(
            series=[tally.series(scenario, model) for (scenario, model), tally in self._series.items()],
            seconds={
                at: SecondData(
                    counters=[getattr(second, name) for name in SecondTally.COUNTERS],
                    ttft=second.ttft.data(),
                    tpot=second.tpot.data(),
                )
                for at, second in self._seconds.items()
            },
            asked=self._asked,
            sent=self._sent,
            lateness=self._lateness.data(),
            first_sent=self._first_sent,
            last_end=self._last_end,
            whole=self._whole,
            chunks=self._chunks,
            rows=self._rows,
        )
        self._clear()
        return recorded

    def merge(self, other: Recorded) -> None:
        """Adds what another process recorded."""
        for series in other.series:
            self._series.setdefault((series.scenario, series.model), SeriesTally()).merge(series)
        for at, data in other.seconds.items():
            second = SecondTally()
            for name, value in zip(SecondTally.COUNTERS, data.counters, strict=True):
                setattr(second, name, value)
            second.ttft, second.tpot = Histogram.of(data.ttft), Histogram.of(data.tpot)
            self._seconds.setdefault(at, SecondTally()).merge(second)
        self._asked += other.asked
        self._sent += other.sent
        self._lateness.merge(Histogram.of(other.lateness))
        self._first_sent = min(self._first_sent, other.first_sent)
        self._last_end = max(self._last_end, other.last_end)
        self._whole = self._whole.plus(other.whole)
        self._chunks += other.chunks
        room = MAXIMUM_ROWS - len(self._rows)
        self._rows += other.rows[:room]

    def series(self, window_seconds: float) -> tuple[Series, list[Series]]:
        """Everything together, and each scenario and model."""
        total = SeriesTally()
        parts = []
        for (scenario, model), tally in sorted(self._series.items()):
            part = tally.series(scenario, model, window_seconds)
            total.merge(part)
            parts.append(part)
        return total.series("", "", window_seconds), parts

    def timeline(self) -> list[Second]:
        """Every second from the first to the last, empty ones too."""
        if not self._seconds:
            return []
        in_flight = 0
        line = []
        for at in range(min(self._seconds), max(self._seconds) + 1):
            second = self._seconds.get(at) or SecondTally()
            in_flight += second.sent - second.ended
            line.append(second.second(at, in_flight))
        return line

    def offered(self, window_seconds: float) -> Offered:
        """Whether what was asked for was sent."""
        return Offered(
            asked=self._asked,
            sent=self._sent,
            asked_per_second=self._asked / window_seconds if window_seconds else 0.0,
            sent_per_second=self._sent / window_seconds if window_seconds else 0.0,
            lateness=self._lateness.data(),
        )

    @property
    def span(self) -> tuple[float, float] | None:
        """First sending and last end of measured requests; None without any."""
        return (self._first_sent, self._last_end) if self._last_end > self._first_sent else None

    @property
    def whole(self) -> WholeRun:
        """Everything that was sent, warm-up and drain too."""
        return self._whole

    @property
    def chunks(self) -> int:
        return self._chunks

    @property
    def rows(self) -> Iterable[list[Any]]:
        """Lines of requests.csv, in the order of ROW_FIELDS."""
        return self._rows

    def _count_whole(self, one: Observation) -> None:
        whole = self._whole
        whole.ok += one.outcome is Outcome.OK
        whole.failed += one.failed
        whole.abandoned += one.outcome is Outcome.ABANDONED
        whole.prompt_tokens += one.prompt_tokens
        whole.completion_tokens += one.completion_tokens
        whole.cached_tokens += one.cached_tokens or 0
        if one.ttft_seconds is not None:
            whole.ttft_sum_seconds += one.ttft_seconds
            whole.ttft_count += 1
        if one.outcome is Outcome.OK:
            whole.e2e_sum_seconds += one.e2e_seconds

    def _in_window(self, at: float) -> bool:
        return self.window_start <= at < self.window_end

    def _second(self, at: float) -> SecondTally:
        second = self._seconds.get(int(at))
        if second is None:
            second = self._seconds[int(at)] = SecondTally()
        return second

    def _tally(self, one: Observation) -> SeriesTally:
        return self._series.setdefault((one.scenario, one.model), SeriesTally())

    def _arrivals(self, one: Observation, counted: int) -> int:
        """Counts the tokens of the chunks from ``counted`` on; how many chunks are counted now."""
        known = min(len(one.chunk_times), len(one.chunk_tokens))
        if known - counted < FEW_CHUNKS:
            for index in range(counted, known):
                self._count_tokens(one, one.chunk_times[index], one.chunk_tokens[index])
            return known
        times = np.asarray(one.chunk_times[counted:known])
        tokens = np.asarray(one.chunk_tokens[counted:known])
        first = int(times[0])
        for offset, count in enumerate(np.bincount(times.astype(np.int64) - first, weights=tokens)):
            if count:
                self._second(first + offset).tokens += int(count)
        in_window = int(tokens[(times >= self.window_start) & (times < self.window_end)].sum())
        if in_window:
            self._tally(one).window_tokens += in_window
        return known

    def _count_tokens(self, one: Observation, at: float, tokens: int) -> None:
        self._second(at).tokens += tokens
        if self._in_window(at):
            self._tally(one).window_tokens += tokens

    def _within_limits(self, one: Observation) -> bool:
        if not self.limits:
            return True
        itl_tokens = sum(one.chunk_tokens[1:])
        mean_itl = (one.chunk_times[-1] - one.chunk_times[0]) / itl_tokens if itl_tokens else None
        measured = {
            "ttft": one.scheduled_ttft_seconds if self.by_schedule else one.ttft_seconds,
            "tpot": one.tpot_seconds,
            "itl": mean_itl,
            "e2e": one.scheduled_e2e_seconds if self.by_schedule else one.e2e_seconds,
        }
        for name, limit in self.limits.items():
            seconds = measured[name]
            if seconds is not None and seconds > limit:
                return False
        return True


def _row(one: Observation, *, measured: bool) -> list[Any]:
    return [
        one.scenario, one.model, one.session, one.turn, one.request_id, str(one.outcome), one.status, one.error,
        one.finish_reason, one.scheduled_at, one.sent_at, one.first_token_at, one.last_token_at, one.ended_at,
        one.ttft_seconds, one.tpot_seconds, one.prompt_tokens, one.completion_tokens, one.cached_tokens,
        len(one.chunk_times), int(measured),
    ]  # fmt: skip
