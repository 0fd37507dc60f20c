"""What the values of one scenario must be together; each value alone is the model's business."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from loadtest.workload.sections import Endpoint, SharedBy, Text
from vllmstack.deployment.wording import listed, perhaps, shown
from vllmstack.errors import Problem

if TYPE_CHECKING:
    from loadtest.workload.scenario import Scenario

_OF_A_MIX = ("name", "description", "mix", "requests", "load")
_TOOL_CHOICES = ("auto", "required", "none")


def rule_problems(scenario: "Scenario") -> Iterator[Problem]:
    """Everything that contradicts itself in one scenario; the file is for the caller to add."""
    yield from _load_problems(scenario)
    if scenario.mix:
        yield from _mix_problems(scenario)
        return
    yield from _length_problems(scenario)
    yield from _endpoint_problems(scenario)
    yield from _tool_problems(scenario)
    if scenario.system_prompt and scenario.system_prompt.shared_by is SharedBy.TENANT and not scenario.tenants:
        fact = "is tenant, but the scenario has no tenants"
        yield Problem(place="system_prompt/shared_by", fact=fact, hint="add `tenants:`, or write all")


def _load_problems(scenario: "Scenario") -> Iterator[Problem]:
    given = [name for name in ("concurrency", "requests_per_second") if getattr(scenario.load, name) is not None]
    if len(given) != 1:
        fact = "sets both concurrency and requests_per_second" if given else "sets no load"
        yield Problem(place="load", fact=fact, hint="give just one of concurrency and requests_per_second")


def _mix_problems(scenario: "Scenario") -> Iterator[Problem]:
    for name in type(scenario).model_fields:
        if name in scenario.model_fields_set and name not in _OF_A_MIX:
            hint = "set it in the scenarios that are mixed"
            yield Problem(place=name, fact="does not fit beside `mix`, which sends no requests of its own", hint=hint)
    names = [part.scenario for part in scenario.mix]
    for number, name in enumerate(names):
        if name in names[:number]:
            fact = f"{name} is in the mix already"
            yield Problem(place=f"mix/{number}/scenario", fact=fact, hint="add its weight to the first one's")


def _length_problems(scenario: "Scenario") -> Iterator[Problem]:
    if scenario.prompt_tokens is None:
        hint = "add it, e.g. `prompt_tokens: 50-250`, or `mix:` with other scenarios"
        yield Problem(place="prompt_tokens", fact="is missing", hint=hint)
    if scenario.endpoint is Endpoint.EMBEDDINGS:
        return
    if scenario.completion_tokens is None:
        yield Problem(
            place="completion_tokens",
            fact="is missing",
            hint="add it, e.g. `completion_tokens: 128`: the longest answer",
        )


def _endpoint_problems(scenario: "Scenario") -> Iterator[Problem]:
    endpoint = scenario.endpoint
    for name, endpoints in (
        ("completion_tokens", (Endpoint.CHAT, Endpoint.COMPLETIONS)),
        ("ignore_eos", (Endpoint.CHAT, Endpoint.COMPLETIONS)),
        ("system_prompt", (Endpoint.CHAT, Endpoint.COMPLETIONS)),
        ("documents", (Endpoint.CHAT, Endpoint.COMPLETIONS)),
        ("abandonment", (Endpoint.CHAT, Endpoint.COMPLETIONS)),
        ("conversation", (Endpoint.CHAT,)),
        ("tools", (Endpoint.CHAT,)),
        ("response_format", (Endpoint.CHAT, Endpoint.COMPLETIONS)),
    ):
        if getattr(scenario, name) and endpoint not in endpoints:
            hint = f"remove it, or write `endpoint: {endpoints[0]}`"
            yield Problem(place=name, fact=f"does not fit the endpoint {endpoint}", hint=hint)
    if scenario.inputs_per_request > 1 and endpoint is not Endpoint.EMBEDDINGS:
        hint = "remove it, or write `endpoint: embeddings`"
        yield Problem(place="inputs_per_request", fact=f"does not fit the endpoint {endpoint}", hint=hint)
    if scenario.text is Text.CODE:
        if endpoint is not Endpoint.COMPLETIONS:
            hint = "write `endpoint: completions`, or `text: words`"
            yield Problem(place="text", fact=f"code does not fit the endpoint {endpoint}", hint=hint)
        for name in ("system_prompt", "documents"):
            if getattr(scenario, name):
                yield Problem(place=name, fact="does not fit beside `text: code`", hint="remove one of the two")


def _tool_problems(scenario: "Scenario") -> Iterator[Problem]:
    functions: list[str] = []
    for number, tool in enumerate(scenario.tools):
        function = tool.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if tool.get("type") != "function" or not isinstance(name, str):
            hint = "write {type: function, function: {name: …, description: …, parameters: {…}}}"
            yield Problem(place=f"tools/{number}", fact="is no function, as OpenAI's API has them", hint=hint)
        else:
            functions.append(name)
    choice = scenario.tool_choice
    if choice is not None and not scenario.tools:
        yield Problem(place="tool_choice", fact="there are no tools", hint="add `tools:`, or remove it")
    elif choice is not None and choice not in _TOOL_CHOICES and choice not in functions and functions:
        near = perhaps(choice, [*_TOOL_CHOICES, *functions])
        hint = near or f"write {listed(_TOOL_CHOICES)} or the name of a tool"
        yield Problem(place="tool_choice", fact=f"{shown(choice)} is none of the tools", hint=hint)
    constrained = "response_format" if scenario.response_format else "tools" if scenario.tools else None
    if scenario.ignore_eos and constrained:
        fact = f"contradicts `{constrained}`: such an answer ends where its form ends"
        yield Problem(place="ignore_eos", fact=fact, hint="remove one of the two")
