"""Policies to compare with."""

from collections import Counter

from vllmstack.simulation.gateway import ReplicaView
from vllmstack.simulation.policies import Asked, CacheThresholds, LeastRequests, RoundRobin, SessionHashing


def asked(number: int = 0, *, tokens: int = 1000, session: str = "s") -> Asked:
    return Asked(number=number, tokens=tokens, session=session, prefix="p")


def replicas(*in_flight: int, matched: tuple[int, ...] = (), known: tuple[int, ...] = ()) -> list[ReplicaView]:
    """With these loads, matches and sizes of what was sent."""
    views = [ReplicaView(f"engine-{number}", in_flight=count) for number, count in enumerate(in_flight, 1)]
    for view, tokens in zip(views, matched, strict=False):
        view.matched_tokens = tokens
    for view, tokens in zip(views, known, strict=False):
        view.known_tokens = tokens
    return views


def test_round_robin_takes_turns() -> None:
    assert [RoundRobin().choose(asked(number), replicas(9, 0, 0)) for number in range(4)] == [0, 1, 2, 0]


def test_a_session_stays_where_it_is() -> None:
    policy = SessionHashing()

    assert len({policy.choose(asked(number), replicas(3, 3, 3, 3)) for number in range(20)}) == 1


def test_sessions_spread_evenly() -> None:
    policy = SessionHashing()

    chosen = Counter(policy.choose(asked(session=f"s{number}"), replicas(0, 0, 0, 0)) for number in range(4000))

    assert all(900 < count < 1100 for count in chosen.values())


def test_a_session_leaves_a_replica_that_is_over_the_bound() -> None:
    policy, views = SessionHashing(), replicas(4, 4, 4, 4)
    home = policy.choose(asked(), views)
    views[home].in_flight = 10

    assert policy.choose(asked(), views) != home


def test_a_long_match_is_followed() -> None:
    assert CacheThresholds().choose(asked(), replicas(20, 0, matched=(301, 0))) == 0


def test_a_short_match_goes_to_the_smallest_cache() -> None:
    assert CacheThresholds().choose(asked(), replicas(0, 20, matched=(300, 0), known=(50, 40))) == 1


def test_loads_that_differ_much_are_levelled() -> None:
    assert CacheThresholds().choose(asked(), replicas(66, 1, 30, matched=(900, 0, 0))) == 1


def test_loads_must_differ_by_factor_too() -> None:
    assert CacheThresholds().choose(asked(), replicas(266, 201, matched=(900, 0))) == 0


def test_the_fewest_requests_in_flight_are_the_least() -> None:
    views = [ReplicaView("a", in_flight=3), ReplicaView("b", in_flight=1), ReplicaView("c", in_flight=1)]

    assert LeastRequests().choose(Asked(number=0, tokens=10, session="", prefix=""), views) == 1
