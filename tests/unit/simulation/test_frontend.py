"""The API server: requests in, tokens out."""

import pytest

from vllmstack.simulation.frontend import SLICE, TURNS, Frontend, FrontendProfile
from vllmstack.simulation.timeline import Timeline


class Serving:
    """A frontend, requests at their times, and when they entered."""

    def __init__(self, **seconds: float) -> None:
        self.timeline = Timeline()
        self.frontend = Frontend(FrontendProfile(**seconds), self.timeline)
        self.entered: list[float] = []

    def ask(self, at: float, prompt_tokens: int = 10) -> None:
        self.timeline.at(at, lambda: self.frontend.accept(prompt_tokens, self._enter))

    def follow(self, at: float, tokens: int, step_seconds: float) -> None:
        self.timeline.at(at, lambda: self.frontend.follow(tokens, step_seconds))

    def _enter(self) -> None:
        self.entered.append(self.timeline.now)

    def run(self) -> list[float]:
        self.timeline.run()
        return self.entered


def test_a_frontend_that_takes_no_time_lets_all_in_at_once() -> None:
    serving = Serving(token_seconds=0.1)
    serving.ask(1.0)

    assert serving.run() == [1.0]


def test_requests_that_come_together_share_the_thread_and_enter_together() -> None:
    serving = Serving(request_seconds=0.5, latency_seconds=0.1)
    for _ in range(4):
        serving.ask(0.0)

    assert serving.run() == pytest.approx([2.1] * 4)


def test_who_comes_later_shares_what_is_left() -> None:
    """The first is half done at 0.5 s; both go on at half the rate, and the second has the thread from 1.5 s on."""
    serving = Serving(request_seconds=1.0)
    serving.ask(0.0)
    serving.ask(0.5)

    assert serving.run() == pytest.approx([1.5, 2.0])


def test_prompts_are_tokenised_one_after_the_other_beside_the_thread() -> None:
    serving = Serving(request_seconds=0.01, prompt_token_seconds=0.01)
    for _ in range(3):
        serving.ask(0.0)

    assert serving.run() == pytest.approx([0.1, 0.2, 0.3])


def test_who_enters_has_what_tokens_leave_of_the_thread() -> None:
    """Ten events of 50 ms each second are half of it."""
    serving = Serving(request_seconds=2.0, chunk_seconds=0.05)
    serving.follow(0.0, 10, 1.0)
    serving.ask(0.0)

    # Not even all its turns waiting for a round of half a second each are as slow.
    assert 2.0 + TURNS * 0.5 > 4.0
    assert serving.run() == pytest.approx([4.0])


def test_who_enters_has_its_turns_where_tokens_take_all_of_the_thread() -> None:
    """In each round over the streams, one."""
    serving = Serving(request_seconds=0.2, chunk_seconds=0.05)
    serving.follow(0.0, 10, 0.1)
    serving.ask(0.0)

    assert serving.run() == pytest.approx([0.2 + TURNS * 0.5])


def test_steps_that_end_let_those_who_enter_go_on_faster() -> None:
    serving = Serving(request_seconds=2.0, chunk_seconds=0.05)
    serving.follow(0.0, 10, 1.0)
    serving.ask(0.0)
    serving.follow(2.0, 0, 1.0)

    assert serving.run() == pytest.approx([3.0])


def test_turns_end_however_late_it_is() -> None:
    """Seconds since the beginning have few digits left for a turn's, which must not be waited for without end."""
    serving = Serving(request_seconds=0.00142, chunk_seconds=0.0000356)
    day = 86_400.0
    for index in range(300):
        serving.ask(day + index * 0.0015)
        serving.follow(day + index * 0.000317, index % 90, 0.0071)

    assert len(serving.run()) == 300


def passed_on(streams: int, steps: int, **seconds: float) -> float:
    """When the last token of so many steps of 10 ms has been."""
    timeline, ends = Timeline(), [0.0]
    frontend = Frontend(FrontendProfile(**seconds), timeline)
    for step in range(steps):
        timeline.at(0.01 * (step + 1), lambda: ends.append(frontend.passes(streams, streams, 0.01)))
    timeline.run()
    return ends[-1]


def test_being_behind_with_steps_of_one_slice_does_not_add_up() -> None:
    """A round over 100 streams takes 20 ms, twice a step."""
    assert passed_on(100, 1000, chunk_seconds=0.0002) == pytest.approx(10.0 + 0.02)
    assert passed_on(100, 1000, chunk_seconds=0.0002, token_seconds=0.00005) == pytest.approx(10.0 + 0.04, abs=0.01)


def test_being_behind_with_larger_steps_adds_up() -> None:
    streams = SLICE + 72

    assert passed_on(streams, 1000, chunk_seconds=0.0002) == pytest.approx(1000 * streams * 0.0002 + 0.01)


def test_requests_that_come_while_it_is_behind_keep_tokens_waiting() -> None:
    frontend = Frontend(FrontendProfile(request_seconds=0.5, chunk_seconds=0.001), Timeline())
    behind = frontend.passes(200, 200, 0.01)
    frontend.accept(10, lambda: None)

    assert frontend.passes(200, 200, 0.01) == pytest.approx(behind + 0.5 + 0.2)
