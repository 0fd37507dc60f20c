"""The options of ``vllm serve`` in the pinned release, read from ``vllm_options.json`` (scripts/vllm_options.py)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any

PARALLEL_SIZES = (
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "prefill_context_parallel_size",
)
"""Their product is the number of GPUs that an engine takes."""


class Kind(StrEnum):
    """What an option's value is; a list option takes one or several of them."""

    FLAG = "flag"
    """``--NAME`` and ``--no-NAME``."""
    SWITCH = "switch"
    """``--NAME`` alone: there is no way to write false, which is the default."""
    INTEGER = "integer"
    SIZE = "size"
    """A whole number, also as ``16k`` (thousands) or ``16K`` (times 1,024)."""
    SIZE_OR_AUTO = "size_or_auto"
    NUMBER = "number"
    TEXT = "text"
    TEXT_OR_FLAG = "text_or_flag"
    TEXT_OR_JSON = "text_or_json"
    JSON = "json"


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of ``vllm serve``."""

    name: str
    """With underscores, as Python names it."""
    kind: Kind
    is_list: bool = False
    choices: tuple[str | int, ...] = ()
    """Empty where vLLM takes any value, or checks it only when it starts."""
    is_new: bool = False
    """Not in the older release that the stack also runs on."""


@dataclass(frozen=True, kw_only=True)
class OptionList:
    """All options of one release."""

    release: str
    older_release: str
    options: Mapping[str, Option]
    removed: tuple[str, ...]
    """What the older release had and this one has not."""


@cache
def option_list() -> OptionList:
    """The committed list; reading it costs 2 ms, once."""
    text = resources.files("vllmstack.deployment").joinpath("vllm_options.json").read_text("utf-8")
    document = json.loads(text)
    options = {
        name: Option(
            name=name,
            kind=Kind(entry["kind"]),
            is_list=bool(entry.get("list", False)),
            choices=tuple(entry.get("choices", ())),
            is_new="since" in entry,
        )
        for name, entry in document["options"].items()
    }
    return OptionList(
        release=document["release"],
        older_release=document["older_release"],
        options=options,
        removed=tuple(document["removed"]),
    )


def underscored(name: str) -> str:
    """``max-model-len`` and ``max_model_len`` are one option to vLLM."""
    return name.replace("-", "_")


def normalised(serve: Mapping[str, Any]) -> dict[str, Any]:
    """``serve`` with underscores in the names, and JSON texts of JSON options as what they hold."""
    known = option_list().options
    result = {}
    for written, value in serve.items():
        name = underscored(written)
        option = known.get(name)
        result[name] = value
        if option and option.kind in (Kind.JSON, Kind.TEXT_OR_JSON) and isinstance(value, str):
            result[name] = _json_or_text(value)
    return result


def _json_or_text(text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def release_notes(serve: Mapping[str, Any]) -> tuple[str, ...]:
    """One line for each option of a normalised ``serve`` that the older release lacks."""
    options = option_list()
    return tuple(
        f"serve/{name} is new: vLLM {options.release} has it, {options.older_release} does not"
        for name in serve
        if name in options.options and options.options[name].is_new
    )
