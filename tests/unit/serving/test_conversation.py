"""A conversation within its context."""

import doctest
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.attempts import attempts
from tests.unit.conftest import FakeGateway
from vllmstack import serving
from vllmstack.errors import InvalidInput, StackError
from vllmstack.serving import conversation
from vllmstack.serving.conversation import Conversation, Message, server_counter


def words(messages: Sequence[Message]) -> int:
    return sum(len(message["content"].split()) for message in messages)


def talk(**options: int) -> Conversation:
    made = Conversation(system="be brief", count=words, **options)
    for number in range(10):
        made.user(f"question {number} of ten")
        made.assistant(f"answer {number}")
    made.user("the last question")
    return made


def test_the_example_in_its_documentation_is_true() -> None:
    assert doctest.testmod(conversation).failed == 0


def test_without_a_context_all_of_it_is_sent() -> None:
    made = Conversation(system="be brief")
    made.user("hello")

    assert made.prompt() == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("room", "exchanges"), [(5, 0), (10, 0), (11, 1), (16, 1), (17, 2), (59, 9), (65, 10), (900, 10)]
)
def test_the_oldest_exchanges_are_left_out_and_the_system_prompt_never(room: int, exchanges: int) -> None:
    made = talk(context_tokens=room + 100, answer_tokens=100)

    prompt = made.prompt()

    assert prompt[0] == {"role": "system", "content": "be brief"}
    assert prompt[-1] == {"role": "user", "content": "the last question"}
    assert len(prompt) == 2 + 2 * exchanges
    assert words(prompt) <= room
    assert len(made.messages) == 21


def test_a_question_that_does_not_fit_is_told() -> None:
    with pytest.raises(InvalidInput, match="the last question alone has 5 tokens, and 4 fit"):
        talk(context_tokens=104, answer_tokens=100).prompt()


def test_it_counts_seldom() -> None:
    asked: list[int] = []

    def count(messages: Sequence[Message]) -> int:
        asked.append(len(messages))
        return len(messages)

    made = Conversation(context_tokens=500, answer_tokens=100, count=count)
    for _ in range(1000):
        made.user("q")
        made.assistant("a")
    made.user("q")

    assert len(made.prompt()) == 399
    assert len(asked) < 15


def test_what_tools_gave_goes_with_its_question() -> None:
    made = Conversation(context_tokens=104, answer_tokens=100, count=len)
    made.user("first")
    made.add({"role": "assistant", "content": "", "tool_calls": []})
    made.add({"role": "tool", "content": "7"})
    made.assistant("seven")
    made.user("second")

    assert [message["role"] for message in made.prompt()] == ["user"]


def test_what_was_said_before_the_first_question_is_the_oldest_exchange() -> None:
    made = Conversation(context_tokens=104, answer_tokens=100, count=len)
    made.assistant("Welcome!")
    made.user("first")
    made.assistant("one")
    made.user("second")

    assert [message["content"] for message in made.prompt()] == ["Welcome!", "first", "one", "second"]
    made.assistant("two")
    assert [message["content"] for message in made.prompt()] == ["first", "one", "second", "two"]


def test_a_system_prompt_among_the_messages_is_never_left_out() -> None:
    made = Conversation(system="be brief", context_tokens=105, answer_tokens=100, count=len)
    made.add({"role": "system", "content": "be kind"})
    for number in range(3):
        made.user(f"question {number}")
        made.assistant(f"answer {number}")
        made.add({"role": "system", "content": f"now be {number}"})
    made.user("last")

    kept = ["be brief", "be kind", "now be 0", "now be 1", "now be 2", "last"]
    with pytest.raises(InvalidInput, match="the last question alone has 6 tokens, and 5 fit"):
        made.prompt()
    made.context_tokens = 106
    assert [message["content"] for message in made.prompt()] == kept


def test_a_question_that_does_not_fit_is_counted_once() -> None:
    counted: list[int] = []

    def count(messages: Sequence[Message]) -> int:
        counted.append(len(messages))
        return 7

    made = Conversation(context_tokens=101, answer_tokens=100, count=count)
    made.user("hello")

    with pytest.raises(InvalidInput, match="has 7 tokens, and 1 fit"):
        made.prompt()

    assert counted == [1]


def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    made, file = talk(context_tokens=200, answer_tokens=50), tmp_path / "talk.json"

    made.save(file)
    again = Conversation.load(file, count=words)

    assert again.prompt() == made.prompt()
    assert [path.name for path in tmp_path.iterdir()] == ["talk.json"]


def test_what_was_saved_with_a_context_asks_for_a_way_to_count(tmp_path: Path) -> None:
    talk(context_tokens=200, answer_tokens=50).save(tmp_path / "talk.json")

    with pytest.raises(InvalidInput, match=r"within 200 tokens, and nothing counts them\n  hint: give `count="):
        Conversation.load(tmp_path / "talk.json")


def test_what_cannot_be_saved_leaves_what_was_there(tmp_path: Path) -> None:
    file, made = tmp_path / "talk.json", Conversation()
    made.save(file)
    before = file.read_text()
    made.add({"role": "tool", "content": b"bytes"})

    with pytest.raises(TypeError):
        made.save(file)

    assert file.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["talk.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"system": null, "messages": [{"role": "king"}]}'])
def test_what_is_no_conversation_is_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "talk.json"
    file.write_text(text)

    with pytest.raises(InvalidInput, match="holds no conversation"):
        Conversation.load(file)


def test_a_context_needs_a_way_to_count() -> None:
    with pytest.raises(ValueError, match="count=server_counter"):
        Conversation(context_tokens=100)


def test_an_answer_must_leave_room() -> None:
    with pytest.raises(ValueError, match="leaves nothing"):
        Conversation(context_tokens=100, answer_tokens=100, count=len)


def test_the_server_counts_by_its_own_template(gateway: FakeGateway) -> None:
    gateway.answer("/tokenize", json.dumps({"count": 17, "max_model_len": 2048, "tokens": []}))

    assert server_counter(f"{gateway.url}/v1", "smoke", "key")([{"role": "user", "content": "hi"}]) == 17
    ((path, headers, body),) = gateway.requests
    assert (path, headers["authorization"]) == ("/tokenize", "Bearer key")
    assert json.loads(body) == {"model": "smoke", "messages": [{"role": "user", "content": "hi"}]}


def test_a_server_that_refuses_is_told(gateway: FakeGateway) -> None:
    with pytest.raises(StackError, match=r"does not count: .*404"):
        server_counter(gateway.url, "smoke")([])


@pytest.mark.parametrize("package", ["vllmstack", "vllmstack.serving"])
def test_importing_it_brings_nothing_heavy_and_is_quick(package: str) -> None:
    script = (
        f"import sys, time; began = time.perf_counter(); import {package}; "
        "heavy = ('vllm', 'openai', 'torch', 'httpx2', 'pydantic', 'yaml', 'asyncio'); "
        "print(time.perf_counter() - began, [name for name in heavy if name in sys.modules])"
    )

    for attempt in attempts():
        said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        seconds, _, modules = said.partition(" ")
        assert modules == "[]\n"
        with attempt:
            assert float(seconds) < 0.3


def test_all_names_are_there_and_no_others() -> None:
    assert all(getattr(serving, name) for name in serving.__all__)
    assert dir(serving) == serving.__all__
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = serving.nonsense
