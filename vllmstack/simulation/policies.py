"""Policies to compare with: how other routers choose. The gateway's own run as they are deployed (``deployed``)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from vllmstack.simulation.gateway import ReplicaView


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a policy may know of a request."""

    number: int
    """Counts from 0."""
    tokens: int
    """Of its prompt."""
    session: str
    prefix: str
    """Stands for the beginning of its prompt: equal for requests that may share cached blocks."""


class Policy(Protocol):
    """Chooses a replica for a request."""

    def choose(self, asked: Asked, replicas: Sequence[ReplicaView]) -> int:
        """The index of one of the replicas."""


class RoundRobin:
    """Each in turn."""

    def choose(self, asked: Asked, replicas: Sequence[ReplicaView]) -> int:
        """The next."""
        return asked.number % len(replicas)


class LeastRequests:
    """Where the fewest requests are in flight, the first of equals: the gateway's ``least-requests``."""

    def choose(self, asked: Asked, replicas: Sequence[ReplicaView]) -> int:
        """The least loaded."""
        chosen, least = 0, replicas[0].in_flight
        for index, replica in enumerate(replicas):
            if replica.in_flight < least:
                chosen, least = index, replica.in_flight
        return chosen


class SessionHashing:
    """Consistent hashing of sessions with bounded load (Mirrokni, Thorup, Zadimoghaddam 2016), by rendezvous."""

    def __init__(self, bound: float = 1.25) -> None:
        self._bound = bound
        self._orders: dict[str, list[int]] = {}

    def choose(self, asked: Asked, replicas: Sequence[ReplicaView]) -> int:
        """The first of the session's own order of replicas that has at most ``bound`` times the mean load."""
        in_flight = 1 + sum(replica.in_flight for replica in replicas)
        most = math.ceil(self._bound * in_flight / len(replicas))
        return next(index for index in self._order(asked.session, replicas) if replicas[index].in_flight < most)

    def _order(self, session: str, replicas: Sequence[ReplicaView]) -> list[int]:
        if session not in self._orders:
            hashes = [blake2b(f"{session} {replica.name}".encode(), digest_size=8).digest() for replica in replicas]
            self._orders[session] = sorted(range(len(replicas)), key=hashes.__getitem__)
        return self._orders[session]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheThresholds:
    """The cache-aware policy of SGLang's router, which vLLM's router took over.

    Source: the defaults of sglang-router 0.3.2, ``--cache-threshold``, ``--balance-abs-threshold`` and
    ``--balance-rel-threshold``. Its tree compares characters where this compares messages.
    """

    cache_threshold: float = 0.3
    balance_absolute: int = 64
    balance_relative: float = 1.5

    def choose(self, asked: Asked, replicas: Sequence[ReplicaView]) -> int:
        """The least loaded where loads differ much, else the longest match if it is long, else the smallest cache."""
        everyone = range(len(replicas))
        loads = [replica.in_flight for replica in replicas]
        if max(loads) - min(loads) > self.balance_absolute and max(loads) > self.balance_relative * min(loads):
            return min(everyone, key=loads.__getitem__)
        best = max(everyone, key=lambda index: replicas[index].matched_tokens)
        if replicas[best].matched_tokens > self.cache_threshold * asked.tokens:
            return best
        return min(everyone, key=lambda index: replicas[index].known_tokens)
