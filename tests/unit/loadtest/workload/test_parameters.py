"""What the web form offers to change."""

from loadtest.workload.parameters import parameters
from loadtest.workload.scenario import Scenario

CHAT = {"name": "chat", "prompt_tokens": "50-250", "completion_tokens": 128, "load": {"concurrency": 4}}


def offered(**sections: object) -> dict[str, str]:
    return {one.name: one.value for one in parameters(Scenario.model_validate({**CHAT, **sections}))}


def test_plain_values_are_offered_as_they_may_be_given() -> None:
    assert offered(temperature=0.7) == {
        "prompt_tokens": "50-250",
        "completion_tokens": "128",
        "ignore_eos": "false",
        "text": "words",
        "temperature": "0.7",
        "top_p": "",
        "seeded": "true",
    }


def test_values_of_sections_have_dots() -> None:
    names = offered(system_prompt={"tokens": 30}, abandonment={"share": 0.2, "after_seconds": "1-2"})
    assert names["system_prompt.tokens"] == "30"
    assert names["system_prompt.shared_by"] == "all"
    assert names["abandonment.after_seconds"] == "1-2"
    assert not [name for name in names if name.startswith("conversation")]


def test_embeddings_have_no_answers_to_change() -> None:
    assert offered(endpoint="embeddings", completion_tokens=None, inputs_per_request=8) == {
        "prompt_tokens": "50-250",
        "inputs_per_request": "8",
    }


def test_a_choice_of_tools_is_offered_where_there_are_tools() -> None:
    tool = {"type": "function", "function": {"name": "look"}}
    assert offered(tools=[tool], tool_choice="look")["tool_choice"] == "look"
    assert "tool_choice" not in offered()


def test_a_mix_offers_what_its_parts_do() -> None:
    mix = Scenario.model_validate({"name": "mix", "mix": [{"scenario": "chat", "definition": CHAT}]})
    assert {one.name for one in parameters(mix)} == {f"chat.{name}" for name in offered()}


def test_every_offered_value_may_be_given_back() -> None:
    scenario = Scenario.model_validate(
        {
            **CHAT,
            "documents": {"tokens": 100, "popularity": 0.5},
            "conversation": {"turns": "2-4", "message_tokens": 9, "think_seconds": "exponential:mean=3:max=9"},
            "tenants": {"count": 7},
        }
    )
    again = scenario.with_parameters({one.name: one.value for one in parameters(scenario)})
    assert again == scenario


def test_every_parameter_says_what_it_is() -> None:
    scenario = Scenario.model_validate({**CHAT, "tenants": {"count": 7}})
    assert all(len(one.description) > 10 for one in parameters(scenario))
