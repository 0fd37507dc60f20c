"""Texts that requests share are the same whenever they are written."""

import pytest

from loadtest.workload import texts
from loadtest.workload.plan import Plan, Planner
from loadtest.workload.prompts import Prompts
from loadtest.workload.scenario import Scenario
from loadtest.workload.texts import SharedTexts

SCENARIO = Scenario.model_validate(
    {
        "name": "test",
        "prompt_tokens": 300,
        "completion_tokens": 9,
        "system_prompt": {"tokens": 40, "shared_by": "tenant"},
        "tenants": {"count": 20, "popularity": 0},
        "documents": {"tokens": 30, "per_request": 2, "sets": 20},
    }
)


def shared(prompts: Prompts, *, seed: int = 0, salt: str = "") -> SharedTexts:
    return SharedTexts(SCENARIO, prompts, seed=seed, salt=salt)


def plans(count: int) -> list[Plan]:
    return [Planner(SCENARIO, 0).plan(index) for index in range(count)]


def test_a_text_that_was_forgotten_is_written_again_as_it_was(
    prompts: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_kept = shared(prompts)
    wanted = [(all_kept.system_prompt(plan), all_kept.documents(plan)) for plan in plans(60)]
    monkeypatch.setattr(texts, "KEPT_TEXTS", 2)
    few_kept = shared(prompts)
    assert [(few_kept.system_prompt(plan), few_kept.documents(plan)) for plan in plans(60)] == wanted
    assert len(set(wanted)) > 40


def test_seeds_and_salts_have_texts_of_their_own(prompts: Prompts) -> None:
    (plan,) = plans(1)
    written = {
        shared(prompts, seed=seed, salt=salt).system_prompt(plan) for seed, salt in ((0, ""), (1, ""), (0, "run"))
    }
    assert len(written) == 3


def test_each_piece_has_its_length_and_each_passage_its_heading(prompts: Prompts) -> None:
    (plan,) = plans(1)
    tokenizer, made = prompts.tokenizer, shared(prompts)
    assert len(tokenizer.encode(made.system_prompt(plan) or "", special=False)) == 40
    headings = made.documents(plan).split("\n\n")
    assert [one.split(":\n")[0] for one in headings[:-1]] == ["Document 1", "Document 2"]
    assert [len(tokenizer.encode(one.split(":\n")[1], special=False)) for one in headings[:-1]] == [30, 30]


def test_a_piece_of_a_trace_is_the_same_for_the_same_number(prompts: Prompts) -> None:
    made, again = shared(prompts), shared(prompts)
    assert made.block(7, 64) == again.block(7, 64)
    assert made.block(7, 64) != made.block(8, 64)
    assert len(made.block(7, 64)) == 64
