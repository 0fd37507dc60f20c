"""A paged KV cache with prefix caching, as vLLM's block pool keeps it."""

from collections.abc import Sequence


class BlockCache:
    """Blocks that requests hold, and blocks that nobody holds but whose contents may be wanted again.

    A request holds all blocks that it will ever need from its admission on: vLLM allocates those of the answer as they
    fill, and preempts where that fails. What is idle is taken least recently used first; of one request the end before
    the beginning, which more prompts share.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._holders: dict[int, int] = {}
        self._private = 0  # blocks that are never full and so have no number: the last of each request
        self._idle: dict[int, None] = {}  # in the order of being given up

    @property
    def held(self) -> int:
        """Blocks in use."""
        return len(self._holders) + self._private

    def matched(self, numbers: Sequence[int]) -> int:
        """How many of the first blocks are there."""
        for index, number in enumerate(numbers):
            if number not in self._holders and number not in self._idle:
                return index
        return len(numbers)

    def hold(self, numbers: Sequence[int]) -> bool:
        """Takes these blocks and one more, the part of a block at the end; False, and nothing, if they do not fit."""
        new = 1 + sum(number not in self._holders for number in numbers)
        if self.held + new > self.capacity:
            return False
        for number in numbers:
            self._holders[number] = self._holders.get(number, 0) + 1
            self._idle.pop(number, None)
        self._private += 1
        while self.held + len(self._idle) > self.capacity:
            del self._idle[next(iter(self._idle))]
        return True

    def release(self, numbers: Sequence[int]) -> None:
        """Gives back what ``hold`` took."""
        self._private -= 1
        for number in reversed(numbers):
            holders = self._holders.pop(number) - 1
            if holders:
                self._holders[number] = holders
            else:
                self._idle[number] = None
