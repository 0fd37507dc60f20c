"""The open loop: sessions start when the schedule says, whatever became of those before."""

from collections.abc import Callable, Sequence

import gevent
import gevent.pool

from loadtest.offered.arrival import Arrival

CHECK_SECONDS = 0.5
"""At most this long between two looks at whether the schedule was replaced or ended."""


class Dispatcher:
    """Starts a greenlet a session; never waits for one."""

    def __init__(
        self, *, arrivals: Sequence[tuple[int, Arrival]], perform: Callable[[int, Arrival], None],
        due: Callable[[float], None], now: Callable[[], float],
    ) -> None:  # fmt: skip
        self._arrivals = arrivals
        self._perform = perform
        self._due = due
        self._now = now
        self._ended = False
        self.sessions = gevent.pool.Group()

    def replace(self, arrivals: Sequence[tuple[int, Arrival]]) -> None:
        """From now on another schedule; what has started goes on."""
        self._arrivals = arrivals

    def end(self) -> None:
        """No further session starts."""
        self._ended = True

    def run(self) -> None:
        """Returns when the last session of the schedule has been started (not: has ended)."""
        schedule, position = self._arrivals, 0
        while not self._ended:
            if schedule is not self._arrivals:
                schedule, position = self._arrivals, 0
            if position == len(schedule):
                return
            index, arrival = schedule[position]
            wait = arrival.at - self._now()
            if wait > 0:
                gevent.sleep(min(wait, CHECK_SECONDS))
                continue
            position += 1
            self._due(arrival.at)
            self.sessions.start(gevent.Greenlet(self._perform, index, arrival))
            if position % 64 == 0:
                gevent.sleep(0)  # a burst must not keep those from sending that have just started
