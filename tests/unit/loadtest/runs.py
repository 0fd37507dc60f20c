"""Results of runs as a real measurement leaves them, made of seeded samples."""

import math
import random
from dataclasses import dataclass
from typing import Any

from loadtest.clock.histogram import Histogram
from loadtest.results import (
    ClientHealth,
    Counts,
    Environment,
    Latencies,
    Load,
    LoadKind,
    ModelFacts,
    Offered,
    RunResult,
    Second,
    Series,
    Tokens,
)

PROMPT_TOKENS = 200
COMPLETION_TOKENS = 100
WARMUP_SECONDS = 5
LATENESS_SECONDS = 0.0005
CHUNK_GROUPS = 11
"""Distinct inter-token latencies of a request: each stands for 9 of its 99 tokens after the first."""


@dataclass(frozen=True)
class Sample:
    """One request; seconds since the run's start."""

    due: float
    first_token: float
    tpot: float
    failed: bool

    @property
    def sent(self) -> float:
        return self.due + LATENESS_SECONDS

    @property
    def ended(self) -> float:
        return self.first_token + self.tpot * (COMPLETION_TOKENS - 1)


def make_run(
    *,
    concurrency: int | None = None,
    rate: float | None = None,
    ttft: float = 0.05,
    tpot: float = 0.005,
    requests: int = 200,
    failed: int = 0,
    duration: float = 30,
    model: str = "smoke",
    scenario: str = "chat",
    seed: int = 0,
    **changes: Any,
) -> RunResult:
    """One run: closed loop at ``concurrency`` (4 if nothing is said), or open loop at ``rate`` a second.

    ``ttft`` and ``tpot`` are medians in seconds; ``failed`` of the ``requests`` end without a token; every other answer
    has 100 tokens. ``changes`` replace fields of the result.
    """
    chance = random.Random(seed)
    broken = set(chance.sample(range(requests), failed))
    samples = []
    for index in range(requests):
        due = WARMUP_SECONDS + duration * index / max(requests, 1)
        first = due + LATENESS_SECONDS + ttft * math.exp(chance.gauss(0, 0.25))
        samples.append(Sample(due, first, tpot * math.exp(chance.gauss(0, 0.1)), index in broken))
    timeline = _timeline(samples, duration)
    whole = _series(samples, timeline, duration, chance)
    fields: dict[str, Any] = {
        "id": f"{scenario}-{'c' + str(concurrency or 4) if rate is None else 'r' + format(rate, 'g')}-{seed}",
        "started_at": f"2025-01-01T00:{seed % 60:02d}:00Z",
        "scenario": scenario,
        "scenario_text": {"name": scenario, "prompt_tokens": PROMPT_TOKENS, "completion_tokens": COMPLETION_TOKENS},
        "load": Load(kind=LoadKind.CLOSED, concurrency=concurrency or 4)
        if rate is None
        else Load(kind=LoadKind.OPEN, rate=rate, arrivals="poisson"),
        "seed": seed,
        "warmup_seconds": WARMUP_SECONDS,
        "duration_seconds": duration,
        "drain_seconds": max(0.0, max((sample.ended for sample in samples), default=0.0) - WARMUP_SECONDS - duration),
        "environment": Environment(
            deployment="smoke",
            url="http://127.0.0.1:8000",
            versions={"vllmstack": "1.0.0", "vllm": "0.32.0", "locust": "2.47.0", "python": "3.11.2"},
            git="0123456789abcdef",
            host={"cpu": "A processor", "cores": "8", "memory": "32 GiB", "kernel": "6.1.0"},
            models=[ModelFacts(name=model)],
        ),
        "total": whole,
        "series": [whole.model_copy(update={"scenario": scenario, "model": model})],
        "timeline": timeline,
        "offered": _offered(samples, duration),
        "client": ClientHealth(
            chunks=whole.tokens.completion,
            microseconds_a_chunk=15.0,
            cpu_ratio=0.2,
            loop_lag_p50_seconds=0.0002,
            loop_lag_p99_seconds=0.001,
            loop_lag_max_seconds=0.004,
        ),
    }
    return RunResult(**{**fields, **changes})


def _series(samples: list[Sample], timeline: list[Second], duration: float, chance: random.Random) -> Series:
    answered = [sample for sample in samples if not sample.failed]
    names = ("ttft", "ttft_scheduled", "tpot", "itl", "inter_chunk", "e2e", "e2e_scheduled")
    histograms = {name: Histogram() for name in names}
    lengths = {PROMPT_TOKENS: Histogram(), COMPLETION_TOKENS: Histogram()}
    for sample in answered:
        histograms["ttft"].record(sample.first_token - sample.sent)
        histograms["ttft_scheduled"].record(sample.first_token - sample.due)
        histograms["tpot"].record(sample.tpot)
        histograms["e2e"].record(sample.ended - sample.sent)
        histograms["e2e_scheduled"].record(sample.ended - sample.due)
        for _ in range(CHUNK_GROUPS):
            gap, tokens = sample.tpot * math.exp(chance.gauss(0, 0.15)), (COMPLETION_TOKENS - 1) // CHUNK_GROUPS
            histograms["itl"].record(gap, tokens)
            histograms["inter_chunk"].record(gap, tokens)
        for tokens, histogram in lengths.items():
            histogram.record(tokens)
    failures = len(samples) - len(answered)
    return Series(
        counts=Counts(
            sent=len(samples),
            ok=len(answered),
            failed=failures,
            good=len(answered),
            by_outcome={name: count for name, count in (("ok", len(answered)), ("timed_out", failures)) if count},
            by_finish_reason={"length": len(answered)} if answered else {},
            errors={"no answer within 60 s": failures} if failures else {},
        ),
        tokens=Tokens(
            prompt=PROMPT_TOKENS * len(answered),
            completion=COMPLETION_TOKENS * len(answered),
            expected_prompt=PROMPT_TOKENS * len(samples),
        ),
        window_tokens=sum(
            second.tokens for second in timeline if WARMUP_SECONDS <= second.at < WARMUP_SECONDS + duration
        ),
        window_seconds=duration,
        latencies=Latencies(**{name: histogram.data() for name, histogram in histograms.items()}),
        lengths_prompt=lengths[PROMPT_TOKENS].data(),
        lengths_completion=lengths[COMPLETION_TOKENS].data(),
    )


def _timeline(samples: list[Sample], duration: float) -> list[Second]:
    last = max([sample.ended for sample in samples] + [WARMUP_SECONDS + duration - 1])
    seconds = [Second(at=at) for at in range(int(last) + 1)]
    ttfts, tpots = [Histogram() for _ in seconds], [Histogram() for _ in seconds]
    tokens = [0] * len(seconds)
    for sample in samples:
        seconds[int(sample.due)].due += 1
        seconds[int(sample.sent)].sent += 1
        end = seconds[int(sample.ended)]
        if sample.failed:
            end.failed += 1
        else:
            end.ok += 1
            end.good += 1
            ttfts[int(sample.first_token)].record(sample.first_token - sample.sent)
            tpots[end.at].record(sample.tpot)
            for token in range(COMPLETION_TOKENS):
                tokens[int(sample.first_token + token * sample.tpot)] += 1
        for at in range(int(sample.sent), end.at):
            seconds[at].in_flight += 1
    for second, first, decode, arrived in zip(seconds, ttfts, tpots, tokens, strict=True):
        second.ttft, second.tpot, second.tokens = first.data(), decode.data(), arrived
    return seconds


def _offered(samples: list[Sample], duration: float) -> Offered:
    lateness = Histogram()
    for sample in samples:
        lateness.record(sample.sent - sample.due)
    sent = sum(sample.sent < WARMUP_SECONDS + duration for sample in samples)
    return Offered(
        asked=len(samples),
        sent=sent,
        asked_per_second=len(samples) / duration,
        sent_per_second=sent / duration,
        lateness=lateness.data(),
    )
