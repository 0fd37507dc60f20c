"""Bodies are what vLLM's endpoints take, and nothing that the scenario does not ask for."""

import json
from typing import Any

from loadtest.workload import bodies
from loadtest.workload.plan import Turn
from loadtest.workload.scenario import Scenario

TURN = Turn(completion_tokens=64, sampling_seed=5)
MESSAGES = [{"role": "user", "content": "grüße"}]
STREAMED = {
    "stream": True,
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    "temperature": 0.0,
    "seed": 5,
}
TOOL = {"type": "function", "function": {"name": "look"}}


def scenario(**sections: object) -> Scenario:
    return Scenario.model_validate({"name": "one", "prompt_tokens": 9, "completion_tokens": 64, **sections})


def chat(user: str | None = None, **sections: object) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(bodies.chat(scenario(**sections), "smoke", MESSAGES, TURN, user))
    return body


def test_a_chat_has_the_newer_name_of_the_longest_answer() -> None:
    assert chat() == {"model": "smoke", "messages": MESSAGES, "max_completion_tokens": 64, **STREAMED}


def test_a_completion_has_the_older_one() -> None:
    body = json.loads(bodies.completion(scenario(endpoint="completions"), "smoke", "once", TURN, None))
    assert body == {"model": "smoke", "prompt": "once", "max_tokens": 64, **STREAMED}


def test_embeddings_are_not_streamed() -> None:
    assert json.loads(bodies.embeddings("e5", ["one", "two"], None)) == {"model": "e5", "input": ["one", "two"]}
    assert json.loads(bodies.embeddings("e5", ["one"], "me")) == {"model": "e5", "input": "one", "user": "me"}


def test_text_is_utf_8() -> None:
    assert "grüße".encode() in bodies.chat(scenario(), "smoke", MESSAGES, TURN, None)


def test_sampling_is_the_scenarios() -> None:
    body = chat(temperature=0.7, top_p=0.9, seeded=False, ignore_eos=True)
    assert (body["temperature"], body["top_p"], body["ignore_eos"]) == (0.7, 0.9, True)
    assert "seed" not in body
    assert {"top_p", "ignore_eos", "tools", "response_format", "user"} & set(chat()) == set()


def test_tools_come_with_their_choice() -> None:
    assert chat(tools=[TOOL])["tool_choice"] == "auto"
    assert chat(tools=[TOOL], tool_choice="required")["tool_choice"] == "required"
    named = chat(tools=[TOOL], tool_choice="look")
    assert named["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert named["tools"] == [TOOL]


def test_the_form_of_answers_and_the_user_are_passed_on() -> None:
    body = chat("tenant-001", response_format={"type": "json_object"})
    assert (body["response_format"], body["user"]) == ({"type": "json_object"}, "tenant-001")
