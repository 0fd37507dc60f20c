"""The engine, which leaps over steps that are alike, against one that takes each step and counts each block."""

import math
from dataclasses import dataclass, field
from random import Random

import pytest

from vllmstack.simulation.engine import Engine, EngineProfile
from vllmstack.simulation.service import Lengths
from vllmstack.simulation.step_times import LinearTimes
from vllmstack.simulation.timeline import Timeline

TIMES = LinearTimes(step_seconds=0.01, prefill_seconds=1e-4, sequence_seconds=1e-3, context_seconds=1e-6)


@dataclass
class Seen:
    """Times of one request."""

    first: float = -1.0
    end: float = -1.0

    def first_token(self, at: float) -> None:
        self.first = at

    def ended(self, at: float, cached_tokens: int) -> None:
        self.end = at


@dataclass(eq=False)
class Slow:
    """A request of the slow engine."""

    lengths: Lengths
    seen: Seen = field(default_factory=Seen)
    generated: int = 0
    computed: int = 0  # tokens in the KV cache
    target: int = 0  # tokens to compute before the next token of the answer
    held: int = 0


class SlowEngine:
    """vLLM's scheduler, step by step: decode first, preempt who came last, admit what fits."""

    def __init__(self, profile: EngineProfile) -> None:
        self.profile = profile
        self.preemptions = 0
        self.waiting: list[Slow] = []
        self.running: list[Slow] = []

    def run(self, arrivals: list[tuple[float, Lengths]]) -> list[Seen]:
        requests = [Slow(lengths, target=lengths.prompt_tokens) for _, lengths in arrivals]
        pending = [(at, one) for (at, _), one in zip(arrivals, requests, strict=True)]
        now = 0.0
        while pending or self.waiting or self.running:
            if not self.waiting and not self.running:
                now = max(now, pending[0][0])
            while pending and pending[0][0] <= now + 1e-12:
                self.waiting.append(pending.pop(0)[1])
            now = self.step(now)
        return [one.seen for one in requests]

    def step(self, now: float) -> float:
        """One step; its end."""
        preempted = self.make_room()
        decoding = [one for one in self.running if one.computed >= one.target]
        for one in decoding:
            one.held = self.blocks(one.computed + 1)
        context = sum(one.computed for one in decoding)
        prefilled = self.prefill(self.profile.max_batched_tokens - len(decoding), admits=not preempted)
        now += self.profile.times.seconds(
            decoding=len(decoding), context=context, prefill=sum(chunk for _, chunk in prefilled), prefill_context=0.0
        )
        for one, tokens in [*((one, 1) for one in decoding), *prefilled]:
            one.computed += tokens
            if one.computed >= one.target:
                one.generated += 1
                one.seen.first = now if one.seen.first < 0 else one.seen.first
        for one in [one for one in self.running if one.generated >= one.lengths.completion_tokens]:
            one.seen.end = now
            self.running.remove(one)
        return now

    def blocks(self, tokens: int) -> int:
        return -(-tokens // self.profile.block_tokens)

    def make_room(self) -> bool:
        """For a token more of each that decodes; whether someone lost their blocks for it."""
        before = self.preemptions
        while self.held_in_step() > self.profile.blocks:
            last = self.running.pop()
            last.held = last.computed = 0
            last.target = last.lengths.prompt_tokens + last.generated
            self.waiting.insert(0, last)
            self.preemptions += 1
        return self.preemptions > before

    def held_in_step(self) -> int:
        return sum(self.blocks(one.computed + 1) if one.computed >= one.target else one.held for one in self.running)

    def prefill(self, budget: int, *, admits: bool) -> list[tuple[Slow, int]]:
        """Chunks of prompts that fit into the step."""
        taken: list[tuple[Slow, int]] = []
        for one in [one for one in self.running if one.computed < one.target]:
            taken.append((one, min(budget, one.target - one.computed)))
            budget -= taken[-1][1]
        while budget > 0 and admits and self.waiting and len(self.running) < self.profile.max_sequences:
            one = self.waiting[0]
            if self.blocks(one.target) > self.profile.blocks - sum(other.held for other in self.running):
                break
            one.held = self.blocks(one.target)
            self.running.append(self.waiting.pop(0))
            taken.append((one, min(budget, one.target)))
            budget -= taken[-1][1]
        return taken


def fast_run(arrivals: list[tuple[float, Lengths]], profile: EngineProfile) -> tuple[list[Seen], Engine]:
    """The same on the engine itself."""
    timeline = Timeline()
    engine = Engine(timeline, profile)
    seen = [Seen() for _ in arrivals]
    for (at, lengths), watcher in zip(arrivals, seen, strict=True):
        timeline.at(at, lambda lengths=lengths, watcher=watcher: engine.submit(lengths, watcher))  # type: ignore[misc]
    timeline.run()
    return seen, engine


def drawn(seed: int, count: int, rate: float) -> list[tuple[float, Lengths]]:
    random = Random(seed)
    at, found = 0.0, []
    for _ in range(count):
        at += random.expovariate(rate)
        found.append((at, Lengths(random.randint(1, 300), random.randint(1, 120))))
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("blocks", "sequences", "batched"), [(10_000, 256, 2048), (10_000, 4, 64), (60, 256, 256), (40, 8, 128)]
)
def test_leaps_come_to_the_same_as_single_steps(seed: int, blocks: int, sequences: int, batched: int) -> None:
    profile = EngineProfile(times=TIMES, blocks=blocks, max_sequences=sequences, max_batched_tokens=batched)
    arrivals = drawn(seed, 60, rate=8.0)

    steps = SlowEngine(profile)
    slow = steps.run(arrivals)
    fast, engine = fast_run(arrivals, profile)

    assert engine.preemptions == steps.preemptions
    for one, other in zip(fast, slow, strict=True):
        assert one.first == pytest.approx(other.first, abs=1e-6)
        assert one.end == pytest.approx(other.end, abs=1e-6)


def test_a_small_cache_preempts_and_still_answers_everyone() -> None:
    profile = EngineProfile(times=TIMES, blocks=30)

    seen, engine = fast_run([(0.0, Lengths(100, 200)), (0.0, Lengths(100, 200)), (0.0, Lengths(100, 200))], profile)

    assert engine.preemptions > 0
    assert all(one.end > one.first > 0 for one in seen)
    assert engine.most_held <= 30


def test_paged_allocation_wastes_less_than_four_percent() -> None:
    # "PagedAttention" (arXiv 2309.06180), section 1: near-zero waste, under 4 %, with blocks of 16 tokens.
    random = Random(1)
    load = [(0.0, Lengths(random.randint(100, 1500), random.randint(50, 500))) for _ in range(300)]

    _, engine = fast_run(load, EngineProfile(times=TIMES, blocks=5_000))

    assert engine.held_ratio > 0.95
    assert 0 < engine.wasted_ratio < 0.04


def test_speculation_brings_more_tokens_a_step() -> None:
    # 2.5 tokens a step: 100 tokens after the first take 40 steps.
    [seen], _ = fast_run([(0.0, Lengths(10, 101))], EngineProfile(times=TIMES, blocks=100, tokens_per_step=2.5))
    [plain], _ = fast_run([(0.0, Lengths(10, 101))], EngineProfile(times=TIMES, blocks=100))

    assert (seen.end - seen.first) / (plain.end - plain.first) == pytest.approx(0.4, rel=0.01)


def test_who_comes_while_a_step_runs_is_in_the_one_after_the_next_where_steps_are_made_up_ahead() -> None:
    arrivals = [(0.0, Lengths(10, 500)), (1.0, Lengths(10, 1))]

    [_, plain], _ = fast_run(arrivals, EngineProfile(times=TIMES, blocks=100))
    [_, ahead], _ = fast_run(arrivals, EngineProfile(times=TIMES, blocks=100, scheduled_ahead=True))

    step = TIMES.step_seconds + TIMES.sequence_seconds
    assert ahead.first - plain.first == pytest.approx(step, rel=0.02)


def test_times_grow_with_the_context_inside_a_leap() -> None:
    [seen], _ = fast_run([(0.0, Lengths(100, 1001))], EngineProfile(times=TIMES, blocks=100))

    steps = sum(TIMES.seconds(decoding=1, context=100 + index, prefill=0, prefill_context=0) for index in range(1000))
    assert seen.end - seen.first == pytest.approx(steps)
    assert math.isfinite(seen.end)
