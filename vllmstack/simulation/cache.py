"""A paged KV cache with prefix caching, as vLLM's block pool keeps it."""

from collections.abc import Sequence
from itertools import islice


class BlockCache:
    """Blocks that requests hold, and blocks that nobody holds but whose contents may be wanted again.

    Shared blocks have numbers, equal for equal text from the beginning; private ones are only counted. What is idle is
    taken least recently used first; of one request the end before the beginning, which more prompts share.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._holders: dict[int, int] = {}
        self._private = 0
        self._idle: dict[int, None] = {}  # in the order of being given up

    @property
    def held(self) -> int:
        """Blocks in use."""
        return len(self._holders) + self._private

    @property
    def free(self) -> int:
        """Blocks that nobody holds, whatever is in them."""
        return self.capacity - len(self._holders) - self._private

    def matched(self, numbers: Sequence[int]) -> int:
        """How many of the first blocks are there."""
        for index, number in enumerate(numbers):
            if number not in self._holders and number not in self._idle:
                return index
        return len(numbers)

    def hold(self, numbers: Sequence[int], private: int) -> bool:
        """Takes these blocks and so many without a number; False, and nothing, if they do not fit."""
        new = private + sum(number not in self._holders for number in numbers) if numbers else private
        if new > self.free:
            return False
        for number in numbers:
            self._holders[number] = self._holders.get(number, 0) + 1
            self._idle.pop(number, None)
        self.grow(private)
        return True

    def grow(self, private: int) -> None:
        """Takes so many blocks more, which must be free; what was idle in them is lost."""
        self._private += private
        if self._idle:
            surplus = self.held + len(self._idle) - self.capacity
            for number in list(islice(self._idle, max(0, surplus))):
                del self._idle[number]

    def release(self, numbers: Sequence[int], private: int, filled: Sequence[int] = ()) -> None:
        """Gives back what ``hold`` and ``grow`` took; ``filled`` are the numbers that private blocks have become."""
        self._private -= private
        for number in reversed(filled):
            if number not in self._holders:
                self._idle.pop(number, None)
                self._idle[number] = None
        for number in reversed(numbers):
            holders = self._holders.pop(number) - 1
            if holders:
                self._holders[number] = holders
            else:
                self._idle[number] = None
