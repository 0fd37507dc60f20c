"""The open loop starts sessions when they are due, whatever became of those before."""

import time

import gevent

from loadtest.offered.arrival import Arrival
from loadtest.offered.dispatcher import Dispatcher
from tests.attempts import attempts


class Recorded:
    """What a dispatcher did, on a clock that starts with it."""

    def __init__(self, *times: float, session_seconds: float = 0.0) -> None:
        self._zero = time.perf_counter()
        self.started: list[tuple[int, float]] = []
        self.due: list[float] = []
        self._session_seconds = session_seconds
        self.dispatcher = Dispatcher(
            arrivals=schedule(*times), perform=self._perform, due=self.due.append, now=self.now
        )

    def now(self) -> float:
        return time.perf_counter() - self._zero

    def _perform(self, index: int, arrival: Arrival) -> None:
        self.started.append((index, self.now()))
        gevent.sleep(self._session_seconds)


def schedule(*times: float, first: int = 0) -> list[tuple[int, Arrival]]:
    return list(enumerate((Arrival(at=at) for at in times), start=first))


def test_sessions_start_when_they_are_due_and_wait_for_no_other() -> None:
    times = (0.02, 0.05, 0.05, 0.09)
    for attempt in attempts():
        recorded = Recorded(*times, session_seconds=30)

        recorded.dispatcher.run()
        gevent.sleep(0)

        assert [index for index, _ in recorded.started] == [0, 1, 2, 3]
        assert len(recorded.dispatcher.sessions) == 4
        assert all(at >= due for (_, at), due in zip(recorded.started, times, strict=True))
        recorded.dispatcher.sessions.kill()
        with attempt:
            assert all(at < due + 0.05 for (_, at), due in zip(recorded.started, times, strict=True))


def test_what_is_late_is_sent_at_once_and_was_due_when_it_was_due() -> None:
    for attempt in attempts():
        recorded = Recorded(-3.0, -2.0, 0.0)

        recorded.dispatcher.run()
        gevent.sleep(0)

        assert recorded.due == [-3.0, -2.0, 0.0]
        assert len(recorded.started) == 3
        with attempt:
            assert all(at < 0.1 for _, at in recorded.started)


def test_an_end_leaves_the_rest_of_the_schedule_unsent() -> None:
    recorded = Recorded(0.0, 30.0)
    running = gevent.spawn(recorded.dispatcher.run)
    gevent.sleep(0.01)

    recorded.dispatcher.end()

    running.join(timeout=20)
    assert running.ready()
    assert recorded.due == [0.0]


def test_a_replaced_schedule_takes_over() -> None:
    recorded = Recorded(0.0, 30.0)
    running = gevent.spawn(recorded.dispatcher.run)
    gevent.sleep(0.01)

    recorded.dispatcher.replace(schedule(0.02, 0.03, first=100))
    running.join(timeout=20)
    gevent.sleep(0)

    assert running.ready()
    assert [index for index, _ in recorded.started] == [0, 100, 101]
