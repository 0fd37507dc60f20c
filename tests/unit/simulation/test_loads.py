"""Loads to simulate."""

from collections import Counter
from dataclasses import replace

import pytest

from vllmstack.simulation.loads import ChatLoad, conversations

LOAD = ChatLoad(conversations_per_second=10, seconds=100, tenants=5, system_tokens=(200, 400))


def test_the_same_seed_gives_the_same_load() -> None:
    assert conversations(LOAD, 1) == conversations(LOAD, 1)
    assert conversations(LOAD, 1) != conversations(LOAD, 2)


def test_conversations_come_at_the_rate_and_within_the_time() -> None:
    load = conversations(LOAD, 1)

    assert len(load) == pytest.approx(1000, rel=0.1)
    assert all(0 <= conversation.arrival_seconds < 100 for conversation in load)


def test_prompts_grow_by_answer_and_question() -> None:
    longest = max(conversations(LOAD, 1), key=lambda conversation: len(conversation.turns))
    first, second, *_ = longest.turns

    assert second.prompt[:-1] == (*first.prompt, first.answer)
    assert first.pause_seconds == 0.0 < second.pause_seconds


def test_customers_have_instructions_of_their_own_and_the_first_asks_most() -> None:
    systems = Counter(conversation.turns[0].prompt[0] for conversation in conversations(LOAD, 1))

    assert len(systems) == 5
    assert all(200 <= piece.end <= 400 for piece in systems)
    assert systems.most_common(1)[0][0].identity == 0


def test_every_other_piece_is_its_own() -> None:
    load = conversations(replace(LOAD, seconds=20), 1)

    own = [turn.answer.identity for conversation in load for turn in conversation.turns]

    assert len(own) == len(set(own))
