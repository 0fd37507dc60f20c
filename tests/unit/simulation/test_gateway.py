"""What the gateway remembers of prefixes."""

import pytest

from tests.unit.simulation.turns import turn
from vllmstack.simulation.gateway import PrefixIndex, ReplicaView


@pytest.fixture
def replicas() -> list[ReplicaView]:
    """Two of them."""
    return [ReplicaView("engine-1"), ReplicaView("engine-2")]


def test_the_longest_prefix_that_a_replica_was_given_is_matched(replicas: list[ReplicaView]) -> None:
    index = PrefixIndex(replicas, 100)
    index.remember(turn(100, 150, answer=1, identities=(1, 2)).prompt, 0)
    index.remember(turn(100, 130, answer=1, identities=(1, 3)).prompt, 1)

    index.match(turn(100, 150, 180, answer=1, identities=(1, 2, 4)).prompt)

    assert [replica.matched_tokens for replica in replicas] == [150, 100]


def test_nothing_is_matched_after_an_unknown_piece(replicas: list[ReplicaView]) -> None:
    index = PrefixIndex(replicas, 100)
    index.remember(turn(100, 150, answer=1, identities=(1, 2)).prompt, 0)

    index.match(turn(90, 150, answer=1, identities=(9, 2)).prompt)

    assert [replica.matched_tokens for replica in replicas] == [0, 0]


def test_what_a_replica_was_given_counts_once(replicas: list[ReplicaView]) -> None:
    index = PrefixIndex(replicas, 100)
    index.remember(turn(100, 150, answer=1, identities=(1, 2)).prompt, 0)
    index.remember(turn(100, 130, answer=1, identities=(1, 3)).prompt, 0)

    assert [replica.known_tokens for replica in replicas] == [180, 0]


def test_what_was_used_longest_ago_is_forgotten(replicas: list[ReplicaView]) -> None:
    index = PrefixIndex(replicas, 2)
    for identity in (1, 2, 3):
        index.remember(turn(100, answer=1, identities=(identity,)).prompt, 1)

    index.match(turn(100, answer=1, identities=(1,)).prompt)

    assert [replica.matched_tokens for replica in replicas] == [0, 0]
    assert replicas[1].known_tokens == 200
