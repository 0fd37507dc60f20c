"""Plans depend on the scenario, the seed and the session's number."""

from collections import Counter

import pytest

from loadtest.offered.arrival import Arrival
from loadtest.workload.plan import Planner
from loadtest.workload.scenario import Scenario

CHAT = {"name": "chat", "prompt_tokens": "50-250", "completion_tokens": "16-128", "load": {"concurrency": 4}}


def planner(seed: int = 0, **sections: object) -> Planner:
    return Planner(Scenario.model_validate({**CHAT, **sections}), seed)


def test_a_session_is_planned_alike_in_any_order() -> None:
    forward = [planner().plan(index) for index in range(20)]
    one = planner()
    assert [one.plan(index) for index in reversed(range(20))] == forward[::-1]


def test_another_seed_is_another_plan() -> None:
    assert [planner(1).plan(index) for index in range(5)] != [planner(2).plan(index) for index in range(5)]


def test_lengths_are_those_of_the_scenario() -> None:
    plans = [planner().plan(index) for index in range(500)]
    assert {tokens for plan in plans for tokens in plan.prompt_tokens} <= set(range(50, 251))
    assert {turn.completion_tokens for plan in plans for turn in plan.turns} <= set(range(16, 129))
    assert all(len(plan.turns) == 1 for plan in plans)


def test_a_traces_lengths_come_first_and_an_answer_has_a_token_at_least() -> None:
    plan = planner().plan(3, Arrival(1.0, prompt_tokens=777, completion_tokens=0))
    assert (plan.prompt_tokens, plan.turns[0].completion_tokens, plan.from_trace) == ((777,), 1, True)
    without = planner().plan(3, Arrival(1.0))
    assert without == planner().plan(3)


def test_the_share_of_clients_that_leave_is_the_scenarios() -> None:
    one = planner(abandonment={"share": 0.3, "after_seconds": "1-2"})
    waits = [one.plan(index).turns[0].abandon_after_seconds for index in range(4000)]
    left = [wait for wait in waits if wait is not None]
    # Five standard errors.
    assert len(left) / 4000 == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / 4000) ** 0.5)
    assert all(1 <= wait <= 2 for wait in left)


def test_a_conversation_has_messages_and_pauses_after_its_first_turn() -> None:
    one = planner(conversation={"turns": "2-5", "message_tokens": "20-30", "think_seconds": "1-3"})
    plans = [one.plan(index) for index in range(200)]
    assert {len(plan.turns) for plan in plans} == {2, 3, 4, 5}
    for plan in plans:
        assert (plan.turns[0].message_tokens, plan.turns[0].think_seconds) == (0, 0)
        assert all(20 <= turn.message_tokens <= 30 and 1 <= turn.think_seconds <= 3 for turn in plan.turns[1:])


def test_tenants_and_document_sets_are_as_popular_as_the_scenario_says() -> None:
    one = planner(tenants={"count": 4, "popularity": 1}, documents={"tokens": 9, "sets": 3})
    plans = [one.plan(index) for index in range(4000)]
    tenants = Counter(plan.tenant for plan in plans)
    # 1/1 to 1/4 of their sum, 25/12.
    assert tenants[0] / 4000 == pytest.approx(12 / 25, abs=0.04)
    assert tenants[3] / 4000 == pytest.approx(3 / 25, abs=0.03)
    sets = Counter(plan.document_set for plan in plans)
    assert all(sets[number] / 4000 == pytest.approx(1 / 3, abs=0.04) for number in range(3))


def test_embeddings_have_a_length_for_each_input() -> None:
    one = planner(endpoint="embeddings", completion_tokens=None, inputs_per_request=8)
    assert len(one.plan(0).prompt_tokens) == 8
    assert len(set(one.plan(0).prompt_tokens)) > 1


def test_sampling_seeds_differ_from_session_to_session() -> None:
    assert len({planner().plan(index).turns[0].sampling_seed for index in range(100)}) == 100
