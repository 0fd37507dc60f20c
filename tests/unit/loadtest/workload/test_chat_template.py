"""Chat templates are rendered as vLLM renders them."""

from typing import Any

import pytest

from loadtest.errors import LoadTestError
from loadtest.workload.chat_template import ChatTemplate

HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {
    "function": {"parameters": {"type": "object"}, "description": "It's <b>", "name": "look"},
    "type": "function",
}


def rendered(source: str, messages: list[dict[str, Any]] = HELLO, tools: object = None, **variables: object) -> str:
    template = ChatTemplate(source, variables=variables, file="tokenizer_config.json")
    return template.render(messages, tools)  # type: ignore[arg-type]


def test_blocks_take_their_line_ends_and_indentation_with_them() -> None:
    source = "{% for message in messages %}\n  {% if true %}\n{{ message.content }}\n  {% endif %}\n{% endfor %}"
    assert rendered(source) == "Hello\n"


def test_the_prompt_ends_where_the_answer_begins() -> None:
    assert rendered("{% if add_generation_prompt %}<assistant>{% endif %}") == "<assistant>"


def test_special_tokens_and_the_servers_own_arguments_are_variables() -> None:
    assert rendered("{{ bos_token }}{{ enable_thinking }}", bos_token="<s>", enable_thinking=False) == "<s>False"


def test_loops_may_be_left() -> None:
    assert rendered("{% for one in [1, 2, 3] %}{% if one == 2 %}{% break %}{% endif %}{{ one }}{% endfor %}") == "1"


def test_the_date_is_at_hand() -> None:
    assert len(rendered("{{ strftime_now('%d %b %Y') }}")) == len("21 Nov 2025")


def test_what_is_marked_for_training_is_only_its_content() -> None:
    assert rendered("{% generation %}{{ messages[0].content }}{% endgeneration %}") == "Hello"


def test_tools_come_in_vllms_order_and_json_is_not_escaped() -> None:
    assert rendered("{{ tools[0] | tojson }}", tools=[TOOL]) == (
        '{"type": "function", "function": {"name": "look", "description": "It\'s <b>", '
        '"parameters": {"type": "object"}}}'
    )


def test_a_tool_without_description_has_none_as_vllm_gives_it() -> None:
    tool = {"type": "function", "function": {"name": "look", "strict": True}}
    assert rendered("{{ tools[0].function | tojson }}", tools=[tool]) == (
        '{"name": "look", "description": null, "parameters": null, "strict": true}'
    )


def test_without_tools_the_template_sees_none() -> None:
    assert rendered("{{ tools is none }} {{ documents is none }}") == "True True"


@pytest.mark.parametrize(
    "loop", ["message['content']", "message.content", "(message.content | list)", "content"], ids=str
)
def test_a_template_that_goes_through_the_parts_of_a_content_gets_parts(loop: str) -> None:
    source = (
        "{% for message in messages %}{% set content = message.content %}"
        "{% for part in " + loop + " %}{{ part.type }}={{ part.text }};{% endfor %}{% endfor %}"
    )
    assert rendered(source) == "text=Hello;"


def test_the_word_content_alone_does_not_make_parts() -> None:
    assert rendered("{% for message in messages %}{{ message.content }}{% endfor %}") == "Hello"


def test_what_the_template_refuses_is_told_in_its_own_words() -> None:
    with pytest.raises(LoadTestError) as caught:
        rendered("{{ raise_exception('System role not supported') }}")
    (problem,) = caught.value.problems
    assert problem.fact == "refuses the messages: System role not supported"
    assert (problem.file, problem.place) == ("tokenizer_config.json", "chat_template")


def test_a_template_cannot_reach_beyond_its_sandbox() -> None:
    with pytest.raises(LoadTestError, match="refuses the messages"):
        rendered("{{ messages.__class__.__mro__[1].__subclasses__() }}")


def test_what_is_no_template_is_told() -> None:
    with pytest.raises(LoadTestError, match="is no Jinja template: "):
        rendered("{% for message in messages %}")
