"""What the gateway knows of its replicas when it chooses one: its own counts, and its guess at their caches."""

from collections.abc import Sequence
from dataclasses import dataclass

from vllmstack.simulation.requests import Piece


@dataclass(slots=True)
class ReplicaView:
    """One replica, as the gateway sees it (docker/gateway/lua/choice.lua)."""

    name: str
    in_flight: int = 0
    pending_tokens: int = 0
    """Prompt tokens that were new to it, of requests that have no first token yet."""
    matched_tokens: int = 0
    """Of the request at hand: tokens of its prompt that it was most likely given before."""
    known_tokens: int = 0
    """Of all prompts that the gateway remembers to have sent it, what they share counted once."""


class PrefixIndex:
    """Which replica was given which prefix: a bit mask a prefix, as docker/gateway/lua/affinity.lua keeps it."""

    def __init__(self, replicas: Sequence[ReplicaView], capacity: int) -> None:
        self._replicas = replicas
        self._capacity = capacity
        self._masks: dict[int, tuple[int, int]] = {}  # identity → mask and tokens, the longest unused first

    def match(self, prompt: Sequence[Piece]) -> None:
        """Sets ``matched_tokens`` of every replica."""
        for replica in self._replicas:
            replica.matched_tokens = 0
        for piece in prompt:
            found = self._masks.get(piece.identity)
            if found is None:
                return
            for index, replica in enumerate(self._replicas):
                if found[0] >> index & 1:
                    replica.matched_tokens = piece.end

    def remember(self, prompt: Sequence[Piece], index: int) -> None:
        """A replica has all of the prompt from now on; what was used longest ago is forgotten for it."""
        start = 0
        for piece in prompt:
            mask, _ = self._masks.pop(piece.identity, (0, 0))
            tokens = piece.end - start
            if not mask >> index & 1:
                self._replicas[index].known_tokens += tokens
            self._masks[piece.identity] = (mask | 1 << index, tokens)
            start = piece.end
        while len(self._masks) > self._capacity:
            mask, tokens = self._masks.pop(next(iter(self._masks)))
            for number, replica in enumerate(self._replicas):
                if mask >> number & 1:
                    replica.known_tokens -= tokens
