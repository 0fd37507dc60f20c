"""Scenarios know what they share, and take other values by name."""

from pathlib import Path

import pytest

from loadtest.errors import LoadTestError
from loadtest.workload.scenario import Scenario, load_scenario

CHAT = {"name": "chat", "prompt_tokens": "50-250", "completion_tokens": 128, "load": {"concurrency": 4}}
TOOL = {"type": "function", "function": {"name": "look"}}


@pytest.fixture
def chat() -> Scenario:
    """A plain chat."""
    return Scenario.model_validate(CHAT)


@pytest.fixture
def mix(tmp_path: Path) -> Scenario:
    """Of two scenarios, one with a dot in its name."""
    for name in ("chat", "chat.long"):
        (tmp_path / f"{name}.yaml").write_text("prompt_tokens: 50-250\ncompletion_tokens: 128\n")
    (tmp_path / "both.yaml").write_text("mix: [{scenario: chat, weight: 3}, {scenario: chat.long}]\n")
    return load_scenario("both", folder=tmp_path)


@pytest.mark.parametrize(
    ("section", "shares"),
    [
        ({}, False),
        ({"system_prompt": {"tokens": 30}}, True),
        ({"system_prompt": {"tokens": 30, "shared_by": "tenant"}, "tenants": {"count": 3}}, True),
        ({"system_prompt": {"tokens": 30, "shared_by": "nobody"}}, False),
        ({"documents": {"tokens": 30}}, True),
        ({"conversation": {"turns": 2, "message_tokens": 9, "think_seconds": 0}}, True),
        ({"tools": [TOOL]}, True),
        ({"tenants": {"count": 3}}, False),
        ({"response_format": {"type": "json_object"}}, False),
        ({"mix": [{"scenario": "part", "definition": {**CHAT, "documents": {"tokens": 30}}}]}, True),
        ({"mix": [{"scenario": "part", "definition": CHAT}]}, False),
    ],
)
def test_prefix_hits_are_expected_just_where_requests_begin_alike(section: dict[str, object], shares: bool) -> None:
    assert Scenario.model_validate({**CHAT, **section}).expects_prefix_hits is shares


def test_values_are_replaced_by_name(chat: Scenario) -> None:
    changed = chat.with_parameters({"prompt_tokens": 512, "temperature": "0.7", "ignore_eos": "true"})
    assert changed.prompt_tokens is not None
    assert (changed.prompt_tokens.fewest, changed.prompt_tokens.most) == (512, 512)
    assert (changed.temperature, changed.ignore_eos) == (0.7, True)
    assert changed.completion_tokens == chat.completion_tokens
    assert chat.temperature == 0


def test_a_part_of_a_value_is_replaced_by_its_path(chat: Scenario) -> None:
    changed = chat.with_parameters({"prompt_tokens.max": "300", "system_prompt.tokens": 20})
    assert str(changed.prompt_tokens) == "50-300"
    assert changed.system_prompt is not None
    assert changed.system_prompt.tokens == 20


def test_empty_values_change_nothing(chat: Scenario) -> None:
    assert chat.with_parameters({"top_p": "", "prompt_tokens": ""}) == chat


def test_a_mixs_values_go_to_its_parts(mix: Scenario) -> None:
    changed = mix.with_parameters({"chat.prompt_tokens": "9", "chat.long.prompt_tokens": "8000-9000"})
    lengths = [str(part.definition.prompt_tokens) for part in changed.mix if part.definition]
    assert lengths == ["9", "8000-9000"]
    assert [part.weight for part in changed.mix] == [3, 1]


def test_every_wrong_parameter_is_told_with_its_hint(chat: Scenario) -> None:
    with pytest.raises(LoadTestError) as caught:
        chat.with_parameters({"promt_tokens": "9", "temperature": "hot", "system_prompt.tokens": "0"})
    assert [str(problem) for problem in caught.value.problems] == [
        "parameters of chat: temperature: \"hot\" is text, where a number belongs\n  hint: write a number from 0 to 2 "
        "(`temperature`: sampling temperature; 0 takes the likeliest token each time)",
        "parameters of chat: system_prompt/tokens: 0 is less than 1\n  hint: write a whole number, 1 or more "
        "(`tokens`: its length; a part of prompt_tokens)",
        "parameters of chat: promt_tokens: there is no such key\n  hint: Perhaps you meant `prompt_tokens`?",
    ]  # fmt: skip


def test_parameters_are_held_to_the_rules_of_files(chat: Scenario) -> None:
    with pytest.raises(LoadTestError, match="parameters of chat: conversation: does not fit the endpoint completions"):
        chat.with_parameters({
            "endpoint": "completions", "conversation.turns": 2, "conversation.message_tokens": 9,
            "conversation.think_seconds": 1,
        })  # fmt: skip


def test_wrong_parameters_of_a_mix_are_told_with_the_part_they_are_for(mix: Scenario) -> None:
    with pytest.raises(LoadTestError) as caught:
        mix.with_parameters({"chat.prompt_tokens": "long", "chat.long.temperature": "9", "chatt.temperature": "1"})
    places = [(problem.file, problem.place) for problem in caught.value.problems]
    assert places == [
        ("parameters of both", "chatt"),
        ("parameters of chat", "prompt_tokens"),
        ("parameters of chat.long", "temperature"),
    ]
