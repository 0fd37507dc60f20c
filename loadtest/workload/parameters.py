"""A scenario's values by name: what the command line and the web form may set."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import yaml

from loadtest.workload.amounts import Amount, plain
from loadtest.workload.sections import Endpoint
from vllmstack.deployment.model import Part

if TYPE_CHECKING:
    from loadtest.workload.scenario import Scenario

_NOT_OFFERED = frozenset({"name", "description", "endpoint", "tools", "response_format", "mix", "requests", "load"})
"""What makes the scenario what it is, and what options of a run decide."""
_OF_ANSWERS = {"completion_tokens", "ignore_eos", "text", "temperature", "top_p", "seeded"}


@dataclass(frozen=True)
class Parameter:
    """One value of a scenario that a run may change."""

    name: str
    """``prompt_tokens``, ``system_prompt.tokens``; of a mix's part ``chat.prompt_tokens``."""
    value: str
    """As it stands now, in the form in which it may be given; empty: not set."""
    description: str


def parameters(scenario: "Scenario") -> list[Parameter]:
    """All that :meth:`Scenario.with_parameters` takes for this scenario, in the order of its file."""
    if scenario.mix:
        return [
            Parameter(f"{part.scenario}.{one.name}", one.value, one.description)
            for part in scenario.mix
            if part.definition
            for one in parameters(part.definition)
        ]
    without = _NOT_OFFERED | (_OF_ANSWERS if scenario.endpoint is Endpoint.EMBEDDINGS else {"inputs_per_request"})
    return [
        one for one in _of(scenario, "") if one.name not in without and (one.name != "tool_choice" or scenario.tools)
    ]


def _of(part: Part, prefix: str) -> Iterator[Parameter]:
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        if isinstance(value, Part) and not isinstance(value, Amount) and name not in _NOT_OFFERED:
            yield from _of(value, f"{prefix}{name}.")
        # A section that was left out is not offered: one value does not make a conversation of a chat.
        elif not any(_is_section(member) for member in get_args(field.annotation)):
            yield Parameter(f"{prefix}{name}", _text(value), field.description or "")


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Part) and not issubclass(annotation, Amount)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return plain(value) if isinstance(value, int | float) else str(value)


def split_by_part(given: Mapping[str, Any], parts: Sequence[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """A mix's own values, and those of its parts under their names."""
    own: dict[str, Any] = {}
    of_parts: dict[str, dict[str, Any]] = {}
    for name, value in given.items():
        part = max((part for part in parts if name.startswith(f"{part}.")), key=len, default=None)
        if part is None:
            own[name] = value
        else:
            of_parts.setdefault(part, {})[name.removeprefix(f"{part}.")] = value
    return own, of_parts


def overlaid(data: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """``data`` with the given values in their places; what is wrong with them is found when it is validated."""
    result = dict(data)
    for name, value in given.items():
        if value == "":
            continue
        first, _, rest = name.partition(".")
        old = result.get(first)
        if rest:
            result[first] = overlaid(old if isinstance(old, Mapping) else {}, {rest: value})
        else:
            result[first] = _read(value)
    return result


def _read(value: Any) -> Any:
    """A text as YAML has it; what is no YAML stays a text."""
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value
