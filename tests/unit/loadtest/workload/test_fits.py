"""What a model cannot serve is said before the first request, all of it at once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from loadtest.errors import LoadTestError
from loadtest.stack import ServedModel
from loadtest.workload.scenario import Scenario
from loadtest.workload.tokenizer import Tokenizer
from loadtest.workload.workload import Workload

Make = Callable[..., Workload]
TOOL = {"type": "function", "function": {"name": "look"}}
REQUIRED = {"tools": [TOOL], "tool_choice": "required"}


def problem(workload: Make, **parameters: object) -> tuple[str, str, str]:
    with pytest.raises(LoadTestError) as caught:
        workload(**parameters)
    (one,) = caught.value.problems
    assert one.file == "scenario test"
    return one.place, one.fact, one.hint


def test_a_prompt_and_its_answer_must_fit_the_model(workload: Make) -> None:
    assert workload(prompt_tokens="50-480", max_model_len=512)
    assert problem(workload, prompt_tokens="50-481", max_model_len=512) == (
        "prompt_tokens",
        "prompt and answer take up to 513 tokens, more than the 512 that smoke takes (max_model_len)",
        "lower prompt_tokens (up to 481) or completion_tokens (up to 32), "
        "or serve the model with a larger max_model_len",
    )


def test_an_embeddings_input_must_fit_alone(workload: Make) -> None:
    assert workload(endpoint="embeddings", completion_tokens=None, prompt_tokens=512, max_model_len=512)
    _, fact, hint = problem(
        workload, endpoint="embeddings", completion_tokens=None, prompt_tokens=513, max_model_len=512
    )
    assert fact.startswith("prompts take up to 513 tokens")
    assert hint.startswith("lower prompt_tokens (up to 513), or")


def test_a_conversation_must_fit_with_all_its_turns(workload: Make) -> None:
    conversation = {"turns": "2-4", "message_tokens": 20, "think_seconds": 1}
    # 120 and an answer of 32, then three times an answer, a message and the ten tokens around the two of them.
    assert workload(conversation=conversation, max_model_len=338)
    _, fact, _ = problem(workload, conversation=conversation, max_model_len=337)
    assert fact.startswith("4 turns take up to 338 tokens, more than the 337")


def test_a_model_of_unknown_length_takes_all(workload: Make) -> None:
    assert workload(prompt_tokens=100_000, max_model_len=None)


def test_what_requests_share_leaves_room_for_a_word(workload: Make) -> None:
    assert problem(workload, prompt_tokens=60, system_prompt={"tokens": 60}) == (
        "prompt_tokens",
        "60 tokens are too few: the chat template and the system prompt take 73 with smoke",
        "ask for 74 or more, or shorten what requests share",
    )
    assert problem(workload, prompt_tokens=8)[1:] == (
        "8 tokens are too few: the chat template takes 8 with smoke",
        "ask for 9 or more",
    )


@pytest.mark.parametrize(
    ("choice", "options", "lacking"),
    [
        ("required", {}, "tool_call_parser"),
        ("look", {}, "tool_call_parser"),
        ("auto", {}, "tool_call_parser and enable_auto_tool_choice"),
        (None, {"tool_call_parser": "hermes"}, "enable_auto_tool_choice"),
    ],
)
def test_tools_need_a_parser(choice: str | None, options: dict[str, object], lacking: str, workload: Make) -> None:
    place, fact, hint = problem(workload, tools=[TOOL], tool_choice=choice, options=options)
    assert (place, fact) == ("tool_choice", f"{choice or 'auto'} needs {lacking}, which smoke is served without")
    assert hint == f"set {lacking} under `serve:` in the deployment, or run with tool_choice=none"


@pytest.mark.parametrize(
    ("choice", "options"),
    [
        ("none", {}),
        ("required", {"tool_call_parser": "hermes"}),
        ("auto", {"tool_call_parser": "hermes", "enable_auto_tool_choice": True}),
        ("required", {"tokenizer_mode": "mistral"}),
    ],
)
def test_tools_with_what_they_need_are_sent(choice: str, options: dict[str, object], workload: Make) -> None:
    assert workload(tools=[TOOL], tool_choice=choice, options=options)


def test_a_model_without_a_chat_template_takes_no_chats(smoke: Tokenizer) -> None:
    bare = Tokenizer(smoke.backend, {}, name="models/bare")
    chat = {"name": "test", "prompt_tokens": 60, "completion_tokens": 9}
    model = ServedModel(name="bare", max_model_len=512)
    with pytest.raises(LoadTestError, match="the model has no chat template"):
        Workload(Scenario.model_validate(chat), model=model, tokenizer=bare)
    assert Workload(Scenario.model_validate({**chat, "endpoint": "completions"}), model=model, tokenizer=bare)


def test_a_template_that_refuses_a_system_prompt_is_told(tokenizers: Callable[[str], Tokenizer]) -> None:
    scenario = Scenario.model_validate(
        {"name": "test", "prompt_tokens": 90, "completion_tokens": 9, "system_prompt": {"tokens": 30}}
    )
    with pytest.raises(LoadTestError) as caught:
        Workload(scenario, model=ServedModel(name="llama"), tokenizer=tokenizers("sentence-piece"))
    (one,) = caught.value.problems
    assert Path(one.file).name == "scenario test"
    assert one.fact == "refuses the messages: no system role"


def test_everything_is_told_at_once(workload: Make) -> None:
    with pytest.raises(LoadTestError) as caught:
        workload(prompt_tokens="5-600", max_model_len=512, **REQUIRED)
    assert [one.place for one in caught.value.problems] == ["tool_choice", "prompt_tokens", "prompt_tokens"]
