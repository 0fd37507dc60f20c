"""Simulated time: what happens, in order."""

import heapq
from collections.abc import Callable


class Timeline:
    """Calls back at times that were asked for; of equal times, in the order of asking."""

    def __init__(self) -> None:
        self.now = 0.0
        self._asked = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, seconds: float, callback: Callable[[], None]) -> None:
        """Calls back at ``seconds``, which must not have passed."""
        self._asked += 1
        heapq.heappush(self._heap, (seconds, self._asked, callback))

    def run(self) -> None:
        """Until nothing is left to happen."""
        heap, pop = self._heap, heapq.heappop
        while heap:
            self.now, _, callback = pop(heap)
            callback()
