"""Runs of a simulated server, observed by the real recorder: what adds up in them adds up as it does in truth."""

import random
from collections.abc import Iterator

from loadtest.clock.observation import Observation, Outcome
from loadtest.clock.recorder import Recorder
from loadtest.results import Environment, Load, LoadKind, ModelFacts, RunResult

WARMUP_SECONDS = 2.0
WINDOW_SECONDS = 12.0
END = WARMUP_SECONDS + WINDOW_SECONDS
TPOT_SECONDS = 0.02


def closed(users: int, *, seed: int = 0, tokens: int = 20, abandoned: float = 0.0) -> RunResult:
    """``users`` who each send again as soon as they have an answer."""
    chance = random.Random(seed)

    def requests() -> Iterator[Observation]:
        for _ in range(users):
            at = 0.0
            while at < END:
                one = _observation(at, at, chance, tokens, abandoned)
                yield one
                at = one.ended_at + 1e-4

    return _result(requests(), Load(kind=LoadKind.CLOSED, concurrency=users), by_schedule=False)


def opened(
    rate: float, *, seed: int = 0, tokens: int = 20, arrivals: str = "poisson", late_seconds: float = 0.0005
) -> RunResult:
    """A schedule; every request is sent ``late_seconds`` after it was due."""
    chance = random.Random(seed)

    def requests() -> Iterator[Observation]:
        at = 0.0
        while at < END:
            yield _observation(at, at + late_seconds, chance, tokens, 0.0)
            at += chance.expovariate(rate) if arrivals == "poisson" else 1 / rate

    return _result(requests(), Load(kind=LoadKind.OPEN, rate=rate, arrivals=arrivals), by_schedule=True)


def _observation(due: float, sent: float, chance: random.Random, tokens: int, abandoned: float) -> Observation:
    times = [sent + 0.02 + chance.expovariate(20)]
    while len(times) < tokens:
        times.append(times[-1] + TPOT_SECONDS * chance.uniform(0.7, 1.3))
    leaves = chance.random() < abandoned
    if leaves:
        times = times[: max(1, tokens // 2)]
    return Observation(
        scenario="chat", model="m", scheduled_at=due, sent_at=sent, first_token_at=times[0], last_token_at=times[-1],
        ended_at=times[-1] + 0.001, outcome=Outcome.ABANDONED if leaves else Outcome.OK, status=200,
        prompt_tokens=100, expected_prompt_tokens=100, completion_tokens=len(times), chunk_times=times,
        chunk_tokens=[1] * len(times), finish_reason="" if leaves else "length",
    )  # fmt: skip


def _result(requests: Iterator[Observation], load: Load, *, by_schedule: bool) -> RunResult:
    recorder = Recorder(window_start=WARMUP_SECONDS, window_end=END, by_schedule=by_schedule)
    # What one second sees must not depend on the order in which a simulation makes its requests.
    for one in sorted(requests, key=lambda one: one.sent_at):
        recorder.due(one.scheduled_at)
        recorder.begin(one)
        recorder.end(one)
    total, series = recorder.series(WINDOW_SECONDS)
    return RunResult(
        id="simulated", started_at="2025-01-01T00:00:00Z", scenario="chat", load=load,
        scenario_text={"completion_tokens": {"distribution": "fixed", "value": 200}},
        warmup_seconds=WARMUP_SECONDS, duration_seconds=WINDOW_SECONDS,
        environment=Environment(models=[ModelFacts(name="m")]), total=total, series=series,
        timeline=recorder.timeline(), offered=recorder.offered(WINDOW_SECONDS), whole=recorder.whole,
    )  # fmt: skip
