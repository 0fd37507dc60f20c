"""LoRA adapters of a model: what ``serve.lora_modules`` names, in any of the forms that vLLM takes.

vLLM's --lora-modules (LoRAParserAction in its cli_args.py): an item with ``=`` and no comma is ``NAME=PATH``, any other
is the JSON of a mapping. What is wrong with one it says only after the weights are loaded.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vllmstack.deployment.options import underscored
from vllmstack.deployment.wording import listed, perhaps, shown, wrong_kind
from vllmstack.errors import Problem
from vllmstack.hub.layout import ENGINE_HOME

OPTION = "lora_modules"
KEYS = ("name", "path", "base_model_name", "is_3d_lora_weight")
"""vLLM's LoRAModulePath."""

_CLIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_FORMS = "write NAME=PATH, or a mapping: {name: NAME, path: PATH}"


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """One adapter: clients reach it by its name, as if it were a model."""

    name: str
    path: str
    """A hub id, or a folder: as the file has it, absolute once the deployment is loaded."""
    place: str
    """Below ``serve``."""
    others: Mapping[str, Any] = field(default_factory=dict)
    """The keys that vLLM knows beside these two."""

    @property
    def folder(self) -> Path | None:
        """On the host, once the deployment is loaded; None: it is the hub's, pinned to a commit or not."""
        path = Path(self.path)
        return path if path.is_absolute() and not path.is_relative_to(ENGINE_HOME) else None

    @property
    def may_be_on_the_hub(self) -> bool:
        """Whether the path has the form ORGANISATION/NAME."""
        return bool(_HUB_ID.fullmatch(self.path))

    def at(self, path: str) -> dict[str, Any]:
        """The mapping that vLLM takes, with another path."""
        return {"name": self.name, "path": path, **self.others}


def adapters_of(serve: Mapping[Any, Any]) -> tuple[Adapter, ...]:
    """Those of a ``serve`` that are written rightly."""
    return tuple(adapter for adapter, _ in _read(serve) if adapter)


def adapter_problems(serve: Mapping[Any, Any]) -> list[Problem]:
    """Every mistake in a ``serve`` as it is written; what has no kind that fits is serve_problems'."""
    found = _read(serve)
    problems = [problem for _, wrong in found for problem in wrong]
    enabled = [value for name, value in serve.items() if isinstance(name, str) and underscored(name) == "enable_lora"]
    if found and (not enabled or enabled[0] is False):
        state = "is false" if enabled else "is missing"
        problems.append(
            Problem(
                place="enable_lora",
                fact=f"{state}, and vLLM then refuses the adapters of `{OPTION}`",
                hint="write `enable_lora: true`",
            )
        )
    return problems


def _read(serve: Mapping[Any, Any]) -> list[tuple[Adapter | None, list[Problem]]]:
    for written, value in serve.items():
        if isinstance(written, str) and underscored(written) == OPTION:
            items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
            places = [f"{written}/{number}" for number in range(len(items))] if items is value else [written]
            return [_item(place, item) for place, item in zip(places, items, strict=True)]
    return []


def _item(place: str, item: Any) -> tuple[Adapter | None, list[Problem]]:
    if isinstance(item, str) and "=" in item and "," not in item:
        name, _, path = item.partition("=")
        return _mapping(place, {"name": name, "path": path})
    value = _json(item) if isinstance(item, str) else item
    if isinstance(value, Mapping):
        return _mapping(place, value)
    if isinstance(item, str):
        return None, [Problem(place=place, fact=f"{shown(item)} names no adapter", hint=_FORMS)]
    if isinstance(item, int | float) and not isinstance(item, bool):
        return None, [Problem(place=place, fact=wrong_kind(item, "an adapter"), hint=_FORMS)]
    return None, []


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _mapping(place: str, value: Mapping[Any, Any]) -> tuple[Adapter | None, list[Problem]]:
    problems = [
        Problem(
            place=f"{place}/{key}",
            fact="there is no such key",
            hint=perhaps(str(key), KEYS) or f"the keys here are {listed(KEYS)}",
        )
        for key in value
        if key not in KEYS
    ]
    for key in ("name", "path"):
        given = value.get(key)
        if given in (None, ""):
            problems.append(Problem(place=place, fact=f"has no {key}", hint=_FORMS))
        elif not isinstance(given, str):
            problems.append(Problem(place=f"{place}/{key}", fact=wrong_kind(given, "text"), hint=_FORMS))
    name, path = value.get("name"), value.get("path")
    if isinstance(name, str) and name and not _CLIENT_NAME.fullmatch(name):
        problems.append(
            Problem(
                place=place,
                fact=f"{shown(name)} has characters or a form that do not fit here",
                hint="begin with a letter or digit, then letters, digits and . _ / : - (128 at most)",
            )
        )
    if problems or not isinstance(name, str) or not isinstance(path, str):
        return None, problems
    others = {key: value[key] for key in KEYS[2:] if key in value}
    return Adapter(name=name, path=path, place=place, others=others), []
