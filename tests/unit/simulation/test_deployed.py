"""The gateway's own choice, run by LuaJIT."""

from pathlib import Path

import pytest

from vllmstack.simulation.deployed import DeployedPolicy
from vllmstack.simulation.gateway import ReplicaView
from vllmstack.simulation.policies import Asked

CHOICE = Path(__file__).parents[3] / "docker/gateway/lua/choice.lua"


def asked(number: int = 0, session: str = "s", prefix: str = "p") -> Asked:
    return Asked(number=number, tokens=1000, session=session, prefix=prefix)


def test_round_robin_is_the_gateways() -> None:
    views = [ReplicaView("engine-1"), ReplicaView("engine-2"), ReplicaView("engine-3")]
    policy = DeployedPolicy("round-robin", CHOICE)

    assert [policy.choose(asked(number), views) for number in range(4)] == [0, 1, 2, 0]


def test_least_requests_sees_what_is_in_flight() -> None:
    policy = DeployedPolicy("least-requests", CHOICE)

    assert policy.choose(asked(), [ReplicaView("engine-1", in_flight=3), ReplicaView("engine-2", in_flight=2)]) == 1


def test_lmetric_sees_matches_and_pending_tokens() -> None:
    warm = ReplicaView("engine-1", in_flight=1, matched_tokens=900)
    policy = DeployedPolicy("lmetric", CHOICE)

    assert policy.choose(asked(), [warm, ReplicaView("engine-2", in_flight=1)]) == 0
    warm.pending_tokens = 50_000
    assert policy.choose(asked(), [warm, ReplicaView("engine-2", in_flight=1)]) == 1


@pytest.mark.parametrize("policy", ["session", "lmetric"])
def test_keys_have_replicas_of_their_own_and_all_replicas_get_some(policy: str) -> None:
    """Rendezvous: who is taken away changes the place of its own keys only."""
    chooser = DeployedPolicy(policy, CHOICE)
    views = [ReplicaView(f"engine-{number}") for number in range(8)]
    keys = [f"key {number}" for number in range(4000)]

    places = [chooser.choose(asked(session=key, prefix=key), views) for key in keys]
    fewer = [chooser.choose(asked(session=key, prefix=key), views[:7]) for key in keys]

    counts = [places.count(number) for number in range(8)]
    assert min(counts) > 0.8 * 500, counts
    assert max(counts) < 1.2 * 500, counts
    assert [after for before, after in zip(places, fewer, strict=True) if before < 7] == [
        before for before in places if before < 7
    ]


def test_a_session_whose_replica_is_busy_takes_the_next_in_its_order() -> None:
    policy = DeployedPolicy("session", CHOICE)
    views = [ReplicaView(f"engine-{number}") for number in range(4)]
    first = policy.choose(asked(), views)
    views[first].in_flight = 9

    second = policy.choose(asked(), views)

    assert second != first
    assert {policy.choose(asked(), views) for _ in range(10)} == {second}
