"""Continuous batching, with step times that can be added up by hand."""

from dataclasses import dataclass, replace

import pytest

from tests.unit.simulation.turns import turn
from vllmstack.simulation.engine import Engine, EngineProfile
from vllmstack.simulation.requests import Turn
from vllmstack.simulation.step_times import LinearTimes
from vllmstack.simulation.timeline import Timeline

# A step takes 1 s and 0.01 s for each token of a prompt in it.
TIMES = LinearTimes(
    step_seconds=1.0,
    prefill_seconds=0.01,
    sequence_seconds=0.0,
    context_seconds=0.0,
)
PROFILE = EngineProfile(
    times=TIMES,
    blocks=1000,
    max_batched_tokens=200,
)


@dataclass
class Seen:
    """When the first token came, when the last, and what was cached."""

    timeline: Timeline
    first: float = -1.0
    end: float = -1.0
    cached: int = -1

    def first_token(self, at: float) -> None:
        self.first = at

    def ended(self, at: float, cached_tokens: int) -> None:
        self.end, self.cached = at, cached_tokens


def run(*arrivals: tuple[float, Turn], profile: EngineProfile = PROFILE) -> tuple[list[Seen], Engine]:
    """Each turn submitted at its time."""
    timeline = Timeline()
    engine = Engine(timeline, profile)
    seen = [Seen(timeline) for _ in arrivals]
    for (at, asked), watcher in zip(arrivals, seen, strict=True):
        timeline.at(at, lambda asked=asked, watcher=watcher: engine.submit(asked, watcher))  # type: ignore[misc]
    timeline.run()
    return seen, engine


def test_a_prompt_takes_one_step_and_each_further_token_another() -> None:
    [seen], engine = run((0.0, turn(100, answer=5)))

    assert seen.first == pytest.approx(2.0)  # 1 + 100 × 0.01
    assert seen.end == pytest.approx(6.0)  # four more
    assert engine.busy_seconds == pytest.approx(6.0)


def test_an_answer_of_one_token_ends_with_its_prompt() -> None:
    [seen], _ = run((0.0, turn(100, answer=1)))

    assert seen.first == seen.end == pytest.approx(2.0)


def test_a_long_prompt_is_computed_in_chunks() -> None:
    [seen], _ = run((0.0, turn(500, answer=1)))

    assert seen.first == pytest.approx(3 + 5.0)  # steps of 200, 200 and 100 tokens


def test_decoding_takes_its_share_of_a_step_before_prompts() -> None:
    [_, seen], _ = run((0.0, turn(100, answer=50, identities=(1,))), (2.5, turn(200, answer=1, identities=(2,))))

    # The step that runs ends at 3.0; 199 tokens fit into the next one and the last into the one after it.
    assert seen.first == pytest.approx(3.0 + 1 + 1.99 + 1 + 0.01)


def test_who_comes_during_decoding_waits_for_the_end_of_one_step_only() -> None:
    [busy, seen], _ = run((0.0, turn(100, answer=100, identities=(1,))), (10.3, turn(100, answer=1, identities=(2,))))

    assert seen.first == pytest.approx(11.0 + 2.0)
    assert busy.end == pytest.approx(2.0 + 99 + 1.0)  # one of its steps had 100 tokens of the other in it


def test_a_step_takes_longer_with_more_sequences_and_more_context() -> None:
    profile = replace(PROFILE, times=replace(TIMES, sequence_seconds=0.1, context_seconds=0.001))

    [seen], _ = run((0.0, turn(100, answer=2)), profile=profile)

    assert seen.end == pytest.approx(2.0 + 1 + 0.1 + 0.1)


def test_a_prompt_that_was_seen_before_is_cached_but_for_its_last_block() -> None:
    first, again = turn(160, answer=1), turn(160, answer=1)

    [_, seen], _ = run((0.0, first), (10.0, again))

    assert seen.cached == 144
    assert seen.first == pytest.approx(10 + 1 + 0.16)


def test_no_more_sequences_run_than_may() -> None:
    profile = replace(PROFILE, max_sequences=1)

    [first, second], _ = run(
        (0.0, turn(100, answer=3, identities=(1,))), (0.0, turn(100, answer=3, identities=(2,))), profile=profile
    )

    assert first.end == pytest.approx(4.0)
    assert second.first == pytest.approx(6.0)


def test_a_request_waits_for_blocks() -> None:
    profile = replace(PROFILE, blocks=10)

    [first, second], _ = run(
        (0.0, turn(96, answer=16, identities=(1,))), (0.0, turn(96, answer=16, identities=(2,))), profile=profile
    )

    assert second.first >= first.end + 1


def test_a_request_that_can_never_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="1010 tokens do not fit into 10 blocks"):
        run((0.0, turn(1000, answer=10)), profile=replace(PROFILE, blocks=10))
