"""Counts and histograms of one scenario and model, and of one second: exact to merge."""

import numpy as np

from loadtest.clock.histogram import Histogram
from loadtest.clock.observation import Observation, Outcome
from loadtest.results import LATENCY_NAMES, Counts, Latencies, Second, Series, Tokens

ERROR_TEXTS = 50
"""Kept apart; more causes than a person reads are counted under one name."""
OTHER_ERRORS = "other errors"


class SeriesTally:
    """Requests that were due inside the window, of one scenario and model."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.tokens = Tokens()
        self.window_tokens = 0
        self.latencies = {name: Histogram() for name in LATENCY_NAMES}
        self.lengths_prompt = Histogram()
        self.lengths_completion = Histogram()

    def observe(self, one: Observation, *, good: bool) -> None:
        """Adds an ended request."""
        counts, tokens = self.counts, self.tokens
        counts.sent += 1
        counts.by_outcome[one.outcome] = counts.by_outcome.get(one.outcome, 0) + 1
        tokens.prompt += one.prompt_tokens
        tokens.completion += one.completion_tokens
        if one.cached_tokens is not None:
            tokens.cached = (tokens.cached or 0) + one.cached_tokens
        if one.outcome is Outcome.OK:
            counts.ok += 1
            counts.good += good
            counts.by_finish_reason[one.finish_reason] = counts.by_finish_reason.get(one.finish_reason, 0) + 1
            if one.expected_prompt_tokens is not None:
                tokens.expected_prompt += one.expected_prompt_tokens
                tokens.prompt_mismatches += one.expected_prompt_tokens != one.prompt_tokens
            self.lengths_prompt.record(one.prompt_tokens)
            self.lengths_completion.record(one.completion_tokens)
            self._latencies(one)
        elif one.failed:
            counts.failed += 1
            _count_text(counts.errors, f"{one.outcome}: {one.error}", 1)
        else:
            counts.abandoned += 1
            # Its first token came as everyone's did; when it ended was the client's doing.
            self._first_token(one)

    def _first_token(self, one: Observation) -> None:
        if one.ttft_seconds is not None and one.scheduled_ttft_seconds is not None:
            self.latencies["ttft"].record(one.ttft_seconds)
            self.latencies["ttft_scheduled"].record(one.scheduled_ttft_seconds)

    def _latencies(self, one: Observation) -> None:
        self._first_token(one)
        latencies = self.latencies
        latencies["e2e"].record(one.e2e_seconds)
        latencies["e2e_scheduled"].record(one.scheduled_e2e_seconds)
        if one.tpot_seconds is not None:
            latencies["tpot"].record(one.tpot_seconds)
        gaps = np.diff(np.asarray(one.chunk_times, dtype=np.float64))
        tokens = np.asarray(one.chunk_tokens[1:], dtype=np.int64)
        latencies["inter_chunk"].record_array(gaps)
        carrying = tokens > 0
        latencies["itl"].record_array(gaps[carrying] / tokens[carrying], tokens[carrying])

    def merge(self, other: Series) -> None:
        """Adds what another process counted."""
        mine, its = self.counts, other.counts
        for name in ("sent", "ok", "failed", "abandoned", "good"):
            setattr(mine, name, getattr(mine, name) + getattr(its, name))
        for name in ("by_outcome", "by_finish_reason", "errors"):
            for text, times in getattr(its, name).items():
                _count_text(getattr(mine, name), text, times)
        for name in ("prompt", "completion", "expected_prompt", "prompt_mismatches"):
            setattr(self.tokens, name, getattr(self.tokens, name) + getattr(other.tokens, name))
        if other.tokens.cached is not None:
            self.tokens.cached = (self.tokens.cached or 0) + other.tokens.cached
        self.window_tokens += other.window_tokens
        for name, histogram in self.latencies.items():
            histogram.merge(Histogram.of(getattr(other.latencies, name)))
        self.lengths_prompt.merge(Histogram.of(other.lengths_prompt))
        self.lengths_completion.merge(Histogram.of(other.lengths_completion))

    def series(self, scenario: str, model: str, window_seconds: float = 0.0) -> Series:
        """As it stands in a result; ``window_seconds`` is what rates are divided by."""
        return Series(
            scenario=scenario,
            model=model,
            counts=self.counts.model_copy(deep=True),
            tokens=self.tokens.model_copy(),
            window_tokens=self.window_tokens,
            window_seconds=window_seconds,
            latencies=Latencies(**{name: histogram.data() for name, histogram in self.latencies.items()}),
            lengths_prompt=self.lengths_prompt.data(),
            lengths_completion=self.lengths_completion.data(),
        )


class SecondTally:
    """One second of the run."""

    __slots__ = ("due", "ended", "failed", "good", "known", "ok", "sent", "tokens", "tpot", "ttft")

    COUNTERS = ("due", "sent", "ok", "failed", "good", "tokens", "ended")

    def __init__(self) -> None:
        self.due = self.sent = self.ok = self.failed = self.good = self.tokens = self.ended = 0
        self.ttft = Histogram()
        self.tpot = Histogram()
        self.known: tuple[tuple[int, ...], Second] | None = None

    def merge(self, other: "SecondTally") -> None:
        """Adds another process's second."""
        for name in self.COUNTERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.ttft.merge(other.ttft)
        self.tpot.merge(other.tpot)

    def second(self, at: int, in_flight: int) -> Second:
        """As it stands in a result. An hour has 3,600, and all but the newest are as they were a second ago."""
        state = (*(getattr(self, name) for name in self.COUNTERS), self.ttft.count, self.tpot.count, in_flight)
        if self.known is None or self.known[0] != state:
            self.known = (state, self._second(at, in_flight))
        return self.known[1]

    def _second(self, at: int, in_flight: int) -> Second:
        return Second(
            at=at,
            due=self.due,
            sent=self.sent,
            ok=self.ok,
            failed=self.failed,
            good=self.good,
            tokens=self.tokens,
            in_flight=in_flight,
            ttft=self.ttft.data(),
            tpot=self.tpot.data(),
        )


def _count_text(texts: dict[str, int], text: str, times: int) -> None:
    if text not in texts and len(texts) >= ERROR_TEXTS:
        text = OTHER_ERRORS
    texts[text] = texts.get(text, 0) + times
