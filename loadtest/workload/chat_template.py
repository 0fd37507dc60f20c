"""A model's chat template, rendered as vLLM renders it: Jinja in a sandbox, with what transformers adds to it.

The functions, filters and options are those that transformers documents for chat templates:
https://huggingface.co/docs/transformers/chat_templating_writing
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.ext import loopcontrols as loop_controls
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from loadtest.errors import LoadTestError
from vllmstack.errors import Problem

Message = Mapping[str, Any]


class ChatTemplate:
    """One compiled template."""

    def __init__(self, source: str, *, variables: Mapping[str, Any], file: str) -> None:
        """``variables``: special tokens by name (``bos_token``) and the server's own chat_template_kwargs.

        Raises:
            LoadTestError: the template is no Jinja.
        """
        self._file = file
        self._variables = dict(variables)
        environment = _environment()
        try:
            self._template = environment.from_string(source)
            self._wants_parts = _goes_through_content(environment.parse(source))
        except TemplateError as error:
            raise LoadTestError(
                Problem(
                    file=file,
                    place="chat_template",
                    fact=f"is no Jinja template: {error}",
                    hint="take the model's own from its page on the hub",
                )
            ) from error

    def render(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None) -> str:
        """The prompt, up to where the assistant's answer begins.

        Raises:
            LoadTestError: the template refuses these messages, e.g. a system prompt.
        """
        if self._wants_parts:
            messages = [_in_parts(message) for message in messages]
        values = {
            "documents": None,
            **self._variables,
            "messages": messages,
            "tools": [_as_served(tool) for tool in tools] if tools else None,
            "add_generation_prompt": True,
        }
        try:
            return self._template.render(values)
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            raise LoadTestError(
                Problem(
                    file=self._file,
                    place="chat_template",
                    fact=f"refuses the messages: {error}",
                    hint="use a scenario without a system prompt or tools, or another chat template",
                )
            ) from error


class _Generation(Extension):
    """``{% generation %}`` marks what the assistant wrote, for training; here it is only its content."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own attribute

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loop_controls]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """Jinja's own filter escapes HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _as_served(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The tool as vLLM hands it to the template: its own order of keys, and those that were left out as None."""
    function = tool["function"]
    served = {"name": function["name"], "description": function.get("description")}
    served["parameters"] = function.get("parameters")
    if function.get("strict") is not None:
        served["strict"] = function["strict"]
    return {"type": "function", "function": served}


def _in_parts(message: Message) -> Message:
    content = message.get("content")
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message


def _goes_through_content(template: nodes.Template) -> bool:
    """Whether the template has a loop over a message's content; vLLM then gives it a list of parts, else a text."""
    return any(_is_content(loop.iter) for loop in template.find_all(nodes.For))


def _is_content(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Filter):
        return node.node is not None and _is_content(node.node)
    if isinstance(node, nodes.Getattr):
        return node.attr == "content"
    if isinstance(node, nodes.Getitem):
        return isinstance(node.arg, nodes.Const) and node.arg.value == "content"
    return isinstance(node, nodes.Name) and node.name == "content"
