"""pydantic's errors in our words: a fact about the value, and what to write instead."""

import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from vllmstack.deployment.model import Deployment, Part
from vllmstack.deployment.wording import kind, listed, perhaps, shown, wrong_kind
from vllmstack.errors import Problem

Location = tuple[int | str, ...]

_EXPECTED = {
    "bool": "true or false",
    "dict": "a mapping",
    "enum": "text",
    "float": "a number",
    "int": "a whole number",
    "mapping": "a mapping",
    "model": "a mapping",
    "path": "a path",
    "string": "text",
    "tuple": "a list",
}
_PATTERN_HINTS = {
    ("hub",): "write ORGANISATION/NAME, as the hub shows it, e.g. Qwen/Qwen3-0.6B",
    ("name",): "begin with a letter or digit, then letters, digits and . _ / : - (128 at most)",
    ("aliases",): "begin with a letter or digit, then letters, digits and . _ / : - (128 at most)",
    ("scenario",): "use lower case, digits, . and - (50 at most), with a letter or digit at both ends",
}
_DEPLOYMENT_NAME_HINT = "use lower case, digits, . and - (50 at most), with a letter or digit at both ends"


@dataclass(frozen=True)
class Shape:
    """What a file of this kind must look like."""

    root: type[Part]
    reference: str
    """Where its keys are described."""


DEPLOYMENT = Shape(Deployment, "docs/reference/deployment.md")


def locations(error: ValidationError) -> list[Location]:
    """Where the values stand that are wrong, each once."""
    return list(dict.fromkeys(_location(details["loc"]) for details in _errors(error)))


def problems(error: ValidationError, data: Mapping[Any, Any], file: str, shape: Shape = DEPLOYMENT) -> list[Problem]:
    """One Problem for each wrong value of ``data``, in pydantic's order, which is the model's.

    A validator that knows better than these words raises ``PydanticCustomError("problem", …, {"fact": …, "hint": …})``.
    """
    found: dict[Location, Problem] = {}
    for details in _errors(error):
        location = _location(details["loc"])
        if location not in found:
            fact, hint = _fact_and_hint(location, details, data, shape)
            found[location] = Problem(file=file, place="/".join(map(str, location)), fact=fact, hint=hint)
    return list(found.values())


def _errors(error: ValidationError) -> list[ErrorDetails]:
    """Without the short list that only follows from its items: pydantic does not count those that are wrong."""
    found = error.errors(include_url=False, include_context=True)
    return [details for details in found if details["type"] != "too_short" or not details["input"]]


def _location(loc: Sequence[int | str]) -> Location:
    """Pydantic's location without its own marks: of a union's members, and of a mapping's keys."""
    place = tuple(part for part in loc if part != "[key]")
    # Each member of the union `gpus` reports its own error below it.
    return place[:3] if len(place) > 3 and place[0] == "models" and place[2] == "gpus" else place


def _fact_and_hint(  # noqa: PLR0911, PLR0912
    location: Location, details: ErrorDetails, data: Mapping[Any, Any], shape: Shape
) -> tuple[str, str]:
    error, value = details["type"], details["input"]
    field = _field(location, shape)
    if error == "problem":
        return details["ctx"]["fact"], details["ctx"]["hint"]
    if location[2:3] == ("gpus",):
        return _gpus(_value(data, location))
    if error in ("extra_forbidden", "invalid_key"):
        keys = _keys(location[:-1], shape)
        near = perhaps(str(location[-1]), keys)
        return "there is no such key", near or f"the keys here are {listed(keys)}"
    if error == "missing":
        return "is missing", _about(location, field, "add it")
    if location[2:3] == ("environment",) and len(location) > 3:
        if not isinstance(location[3], str):
            return "the variable's name is not text", "write the name as text, e.g. VLLM_LOGGING_LEVEL"
        # The value may be a secret: it is not shown.
        return f"is {kind(value)}, where text belongs", 'put it in quotes: environment variables are text, e.g. "1"'
    if location[:1] == ("splits",) and location[2:3] == ("weights",) and len(location) > 3:
        return _weight(location[3], details)
    if error == "enum":
        choices = list(_choices(field))
        near = perhaps(value, choices) if isinstance(value, str) else None
        return f"{shown(value)} is not a choice here", near or f"write {' or '.join(choices)}"
    if error == "string_pattern_mismatch":
        return f"{shown(value)} has characters or a form that do not fit here", _pattern_hint(location, shape)
    if error == "too_short":
        return f"is an empty {'mapping' if value == {} else 'list'}", _about(location, field, "list at least one")
    if bounds := _bounds(error, details):
        return f"{shown(value)} {bounds}", _about(location, field, f"write {_range(field)}")
    if error == "finite_number":
        return f"{shown(value)} is not a finite number", _about(location, field, f"write {_range(field)}")
    for start, expected in _EXPECTED.items():
        if error.startswith(start):
            return wrong_kind(value, expected), _kind_hint(location, field, value, expected, shape)
    return f"{shown(value)} does not fit here", _about(location, field, f"see {shape.reference}")


def _gpus(value: Any) -> tuple[str, str]:
    hint = "write how many GPUs a replica gets (1 or more), or a list of ids for each replica, e.g. [[0, 1], [2, 3]]"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value} is less than 1", hint
    if not isinstance(value, list):
        return wrong_kind(value, "a count or a list of lists"), hint
    for item in value:
        if not isinstance(item, list):
            return f"{shown(item)} is {kind(item)}, where the list of a replica's GPU ids belongs", hint
        for gpu in item:
            if not isinstance(gpu, int) or isinstance(gpu, bool) or gpu < 0:
                return f"{shown(gpu)} is not a GPU id", "write ids as `nvidia-smi -L` shows them: 0, 1, 2 and so on"
    return f"{shown(value)} does not fit here", hint


def _weight(model: int | str, details: ErrorDetails) -> tuple[str, str]:
    if not isinstance(model, str):
        return "the model's name is not text", f'put it in quotes: "{model}"'
    value = details["input"]
    bounds = "is not a finite number" if details["type"] == "finite_number" else _bounds(details["type"], details)
    fact = f"{shown(value)} {bounds}" if bounds else wrong_kind(value, "a number")
    return fact, "write a number above 0 and at most 100000, e.g. 90; a share is the weight over the sum of all"


def _kind_hint(  # noqa: PLR0911
    location: Location, field: FieldInfo | None, value: Any, expected: str, shape: Shape
) -> str:
    if value is None:
        return _about(location, field, "give it a value, or leave the key out")
    if isinstance(value, str) and "number" in expected and re.fullmatch(r"-?\d+(\.\d+)?", value):
        return f"write it without quotes: {value}"
    if expected == "true or false":
        return "write true or false, without quotes"
    if expected in ("a whole number", "a number"):
        return _about(location, field, f"write {_range(field)}")
    if expected == "text" and not isinstance(value, dict | list):
        return f'put it in quotes: "{shown(value)}"'
    if expected == "a list":
        return "write a list: [a, b], or lines that begin with `- `"
    if expected == "a mapping":
        section = _section(location, shape)
        return (
            f"write its keys below it, indented: {listed(section.model_fields)}"
            if section
            else "write NAME: VALUE below it"
        )
    return _about(location, field, f"write {expected}")


def _pattern_hint(location: Location, shape: Shape) -> str:
    if location == ("name",):
        return _DEPLOYMENT_NAME_HINT
    names = [part for part in location if isinstance(part, str)]
    return _PATTERN_HINTS.get((names[-1],), f"see {shape.reference}")


def _about(location: Location, field: FieldInfo | None, advice: str) -> str:
    description = (field.description or "").rstrip(".") if field else ""
    name = next((part for part in reversed(location) if isinstance(part, str)), "")
    return f"{advice} (`{name}`: {description[:1].lower() + description[1:]})" if description else advice


def _bounds(error: str, details: ErrorDetails) -> str | None:
    context = details.get("ctx", {})
    words = {
        "greater_than": ("is not more than", "gt"),
        "greater_than_equal": ("is less than", "ge"),
        "less_than": ("is not less than", "lt"),
        "less_than_equal": ("is more than", "le"),
    }
    if error not in words:
        return None
    text, key = words[error]
    return f"{text} {context[key]:g}" if isinstance(context[key], float) else f"{text} {context[key]}"


def _range(field: FieldInfo | None) -> str:
    """``a whole number from 1 to 65535`` and the like, from the field's own limits."""
    limits: dict[str, float] = {}
    metadata = list(field.metadata) if field else []
    annotation = field.annotation if field else None
    for member in _members(annotation):
        metadata += _metadata(member)
    for item in metadata:
        for name in ("gt", "ge", "le"):
            if getattr(item, name, None) is not None:
                limits[name] = getattr(item, name)
    noun = "a whole number" if int in {_bare(member) for member in _members(annotation)} else "a number"
    if "ge" in limits and "le" in limits:
        return f"{noun} from {limits['ge']:g} to {limits['le']:g}" if limits["le"] < 100_000 else noun
    if "ge" in limits:
        return f"{noun}, {limits['ge']:g} or more"
    most = f" and at most {limits['le']:g}" if "le" in limits else ""
    return f"{noun} above {limits['gt']:g}{most}" if "gt" in limits else noun


def _choices(field: FieldInfo | None) -> list[str]:
    return [str(choice) for choice in field.annotation] if field and isinstance(field.annotation, type) else []


def _value(data: Any, location: Location) -> Any:
    for part in location:
        data = data[part]
    return data


def _metadata(annotation: Any) -> list[Any]:
    """The limits that an Annotated type carries, also inside a FieldInfo."""
    if get_origin(annotation) is not Annotated:
        return []
    inner, *items = get_args(annotation)
    limits = [limit for item in items for limit in (item.metadata if isinstance(item, FieldInfo) else [item])]
    return _metadata(inner) + limits


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _members(annotation: Any) -> list[Any]:
    """A union's members without None; any other type alone."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [member for member in get_args(annotation) if member is not type(None)]
    return [annotation]


def _section(location: Location, shape: Shape) -> type[Part] | None:
    """The section that stands at a location, or None for plain values."""
    section: type[Part] | None = shape.root
    for part in location:
        if isinstance(part, int):
            continue
        if section is None or part not in section.model_fields:
            return None
        section = _section_type(section.model_fields[part].annotation)
    return section


def _section_type(annotation: Any) -> type[Part] | None:
    for member in _members(annotation):
        inner = get_args(member)[0] if get_origin(member) is tuple else member
        if isinstance(inner, type) and issubclass(inner, Part):
            return inner
    return None


def _keys(location: Location, shape: Shape) -> list[str]:
    section = _section(location, shape)
    return list(section.model_fields) if section else []


def _field(location: Location, shape: Shape) -> FieldInfo | None:
    names = [position for position, part in enumerate(location) if isinstance(part, str)]
    if not names:
        return None
    section = _section(location[: names[-1]], shape)
    return section.model_fields.get(str(location[names[-1]])) if section else None
