"""Replicas behind a policy."""

from collections.abc import Sequence

from tests.unit.simulation.turns import single, turn
from vllmstack.simulation.engine import EngineProfile
from vllmstack.simulation.fleet import simulate
from vllmstack.simulation.gateway import ReplicaView
from vllmstack.simulation.loads import ChatLoad, conversations
from vllmstack.simulation.policies import Asked, RoundRobin
from vllmstack.simulation.requests import Conversation
from vllmstack.simulation.step_times import LinearTimes

PROFILE = EngineProfile(
    times=LinearTimes(step_seconds=0.01, prefill_seconds=1e-4, sequence_seconds=1e-4, context_seconds=0.0),
    blocks=1000,
)


class Noting:
    """Takes the first replica, and notes what the gateway knew of it."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, int]] = []

    def choose(self, asked: Asked, replicas: Sequence[ReplicaView]) -> int:
        view = replicas[0]
        self.seen.append((view.in_flight, view.pending_tokens, view.matched_tokens))
        return 0


def test_every_request_is_served_once_and_the_same_load_gives_the_same_result() -> None:
    load = conversations(
        ChatLoad(conversations_per_second=5, seconds=20, tenants=3, system_tokens=(100, 200), pause_seconds=1), seed=1
    )

    served = simulate(load, RoundRobin(), PROFILE, replicas=3)

    assert len(served) == sum(len(conversation.turns) for conversation in load)
    assert served == simulate(load, RoundRobin(), PROFILE, replicas=3)
    assert all(0 < one.ttft_seconds <= one.seconds for one in served)


def test_a_turn_is_asked_a_pause_after_the_answer_before() -> None:
    turns = [turn(100, answer=10), turn(100, 110, 150, answer=10, identities=(1, 1001, 2), pause_seconds=5.0)]

    first, second = simulate(
        [Conversation(key="s", arrival_seconds=1.0, turns=turns)], RoundRobin(), PROFILE, replicas=1
    )

    assert first.asked_at == 1.0
    assert second.asked_at == first.asked_at + first.seconds + 5.0
    assert second.cached_tokens == 96  # what the first turn had filled: six blocks


def test_the_gateway_counts_what_is_in_flight_and_what_has_no_first_token() -> None:
    policy = Noting()
    load = [
        single(1, 0.0, turn(100, answer=100, identities=(1,))),
        single(2, 0.001, turn(100, 150, answer=2, identities=(1, 2))),
        single(3, 0.5, turn(100, answer=2, identities=(3,))),
        single(4, 9.0, turn(100, answer=2, identities=(4,))),
    ]

    simulate(load, policy, PROFILE, replicas=2)

    # Of the second, 100 tokens are known to be there, so 50 are new; by the third, both have their first tokens.
    assert policy.seen == [(0, 0, 0), (1, 100, 100), (1, 0, 0), (0, 0, 0)]
