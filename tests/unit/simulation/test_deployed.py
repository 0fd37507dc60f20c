"""The gateway's own choice, run by Node.js."""

import shutil
from pathlib import Path

import pytest

from vllmstack.errors import HostError
from vllmstack.simulation.deployed import deployed_policy
from vllmstack.simulation.gateway import ReplicaView
from vllmstack.simulation.policies import Asked

CHOICE = Path(__file__).parents[3] / "docker/gateway/njs/choice.js"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node.js here")


def asked(number: int = 0) -> Asked:
    return Asked(number=number, tokens=1000, session="s", prefix="p")


@needs_node
def test_round_robin_is_the_gateways() -> None:
    views = [ReplicaView("engine-1"), ReplicaView("engine-2"), ReplicaView("engine-3")]

    with deployed_policy("round-robin", CHOICE) as policy:
        assert [policy.choose(asked(number), views) for number in range(4)] == [0, 1, 2, 0]


@needs_node
def test_least_requests_sees_what_is_in_flight() -> None:
    with deployed_policy("least-requests", CHOICE) as policy:
        assert policy.choose(asked(), [ReplicaView("engine-1", in_flight=3), ReplicaView("engine-2", in_flight=2)]) == 1


@needs_node
def test_lmetric_sees_matches_and_pending_tokens() -> None:
    warm = ReplicaView("engine-1", in_flight=1, matched_tokens=900)
    with deployed_policy("lmetric", CHOICE) as policy:
        assert policy.choose(asked(), [warm, ReplicaView("engine-2", in_flight=1)]) == 0
        warm.pending_tokens = 50_000
        assert policy.choose(asked(), [warm, ReplicaView("engine-2", in_flight=1)]) == 1


def test_without_node_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(HostError, match=r"there is no Node\.js") as raised, deployed_policy("lmetric", CHOICE):
        pass

    assert raised.value.problems[0].hint == "install it: apt-get install nodejs"
