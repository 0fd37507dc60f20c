"""A timer that asyncio's own resolution does not bound."""

import asyncio
from collections.abc import Callable
from time import perf_counter

import pytest

from loadtest.trust.precise_timer import PreciseTimer
from tests.attempts import attempts


def fire_times(plan: Callable[[PreciseTimer, float], None], *, wait_seconds: float = 0.1) -> list[float]:
    """When a timer fires that ``plan`` sets; seconds since then."""
    fired: list[float] = []

    async def run() -> None:
        timer = PreciseTimer(asyncio.get_running_loop(), lambda: fired.append(perf_counter()))
        start = perf_counter()
        plan(timer, start)
        await asyncio.sleep(wait_seconds)
        timer.close()
        fired[:] = [at - start for at in fired]

    asyncio.run(run())
    return fired


@pytest.fixture(params=["timerfd", "loop"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As on Linux, and as where there is no timerfd."""
    if request.param == "loop":
        monkeypatch.setattr("loadtest.trust.precise_timer.sys.platform", "darwin")
    return str(request.param)


def test_it_fires_once_and_not_before_its_time(kind: str) -> None:
    for attempt in attempts():
        [at] = fire_times(lambda timer, start: timer.set(start + 0.0204))
        assert at >= 0.0204
        with attempt:
            assert at < 0.09


def test_the_time_set_last_counts(kind: str) -> None:
    def plan(timer: PreciseTimer, start: float) -> None:
        timer.set(start + 0.05)
        timer.set(start + 0.01)
        timer.set(start + 0.03)

    for attempt in attempts():
        [at] = fire_times(plan)
        assert at >= 0.03
        with attempt:
            assert at < 0.09


def test_a_past_time_fires_at_once(kind: str) -> None:
    for attempt in attempts():
        [at] = fire_times(lambda timer, start: timer.set(start - 5))
        with attempt:
            assert at < 0.05
    assert len(fire_times(lambda timer, _: timer.set(0.0))) == 1


def test_a_closed_timer_fires_no_more(kind: str) -> None:
    def plan(timer: PreciseTimer, start: float) -> None:
        timer.set(start + 0.01)
        timer.close()

    assert fire_times(plan, wait_seconds=0.03) == []
