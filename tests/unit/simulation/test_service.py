"""Many requests at replicas."""

import pytest

from vllmstack.simulation.engine import EngineProfile
from vllmstack.simulation.frontend import FrontendProfile
from vllmstack.simulation.policies import LeastRequests, RoundRobin
from vllmstack.simulation.service import Lengths, serve_arrivals, serve_users
from vllmstack.simulation.step_times import LinearTimes

TIMES = LinearTimes(step_seconds=0.01, prefill_seconds=1e-4, sequence_seconds=1e-3)
PROFILE = EngineProfile(times=TIMES, blocks=1000)


def test_users_ask_again_when_they_have_their_answer() -> None:
    outcome = serve_users([Lengths(100, 11)] * 6, 2, PROFILE)

    assert len(outcome.ttft) == 6
    assert sorted(outcome.asked_at)[:2] == [0.0, 0.0]
    assert outcome.seconds == pytest.approx(3 * (outcome.e2e[0]), rel=0.1)
    assert outcome.busy_ratio == pytest.approx(1.0)


def test_arrivals_do_not_wait_for_answers() -> None:
    outcome = serve_arrivals([(at / 100, Lengths(100, 100)) for at in range(50)], PROFILE)

    assert sorted(outcome.asked_at) == pytest.approx([at / 100 for at in range(50)])


def test_replicas_share_the_work() -> None:
    arrivals = [(at / 20, Lengths(200, 100)) for at in range(200)]

    one = serve_arrivals(arrivals, PROFILE)
    four = serve_arrivals(arrivals, PROFILE, replicas=4, policy=LeastRequests())

    assert sum(four.tpot) < 0.7 * sum(one.tpot)


def test_several_replicas_need_a_policy() -> None:
    with pytest.raises(ValueError, match="several replicas need a policy"):
        serve_arrivals([], PROFILE, replicas=2)


def test_nothing_asked_is_nothing_served() -> None:
    outcome = serve_arrivals([], PROFILE, replicas=2, policy=RoundRobin())

    assert (len(outcome.ttft), outcome.seconds, outcome.busy_ratio) == (0, 0.0, 0.0)


def test_a_shared_prefix_is_cached_for_those_who_come_later() -> None:
    arrivals = [(float(at), Lengths(1000, 2, 960)) for at in range(3)]

    outcome = serve_arrivals(arrivals, PROFILE)

    assert outcome.ttft[0] == pytest.approx(0.11)
    assert outcome.ttft[2] == pytest.approx(0.014)  # 40 tokens of its own


def test_a_frontend_that_passes_on_tokens_too_slowly_decides_the_rate() -> None:
    slow = EngineProfile(times=TIMES, blocks=1000, frontend=FrontendProfile(token_seconds=0.01))

    outcome = serve_users([Lengths(10, 101)] * 40, 10, slow)

    assert sum(outcome.completion_tokens) / outcome.seconds == pytest.approx(100, rel=0.03)


def test_a_frontend_that_is_behind_merges_what_waits_for_a_stream() -> None:
    """Ten streams, steps of 20 ms, 30 ms for an event of each: they are a round behind, and stay there.

    The first came a step before the others, and nine are left at the end.
    """
    slow = EngineProfile(times=TIMES, blocks=1000, frontend=FrontendProfile(chunk_seconds=0.003))

    alone = serve_users([Lengths(10, 101)] * 10, 10, EngineProfile(times=TIMES, blocks=1000))
    outcome = serve_users([Lengths(10, 101)] * 10, 10, slow)

    assert outcome.seconds == pytest.approx(alone.seconds + 0.027)


def test_a_frontend_that_keeps_up_sends_each_token_by_itself() -> None:
    quick = EngineProfile(
        times=TIMES, blocks=1000, frontend=FrontendProfile(token_seconds=0.0005, chunk_seconds=0.0005)
    )

    outcome = serve_users([Lengths(10, 11)], 1, quick)

    assert outcome.ttft[0] == pytest.approx(0.011 + 0.001)
    assert outcome.tpot[0] == pytest.approx(0.011)
