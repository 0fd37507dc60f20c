"""``docs/reference/deployment.md``: every key of a deployment file, from the model's own descriptions."""

import json
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from vllmstack.deployment.model import (
    Admission,
    Deployment,
    Gateway,
    Gpu,
    Health,
    Mirror,
    Model,
    Monitoring,
    Part,
    Percentiles,
    Source,
    Split,
    Target,
    TargetLoad,
    Tls,
)
from vllmstack.deployment.options import option_list
from vllmstack.deployment.presets import PRESETS
from vllmstack.deployment.serve_checks import OWNED

SECTIONS: tuple[tuple[str, type[Part]], ...] = (
    ("The file", Deployment),
    ("models", Model),
    ("models/source", Source),
    ("models/admission", Admission),
    ("models/health", Health),
    ("models/targets", Target),
    ("models/targets/load", TargetLoad),
    ("models/targets/*_seconds", Percentiles),
    ("splits", Split),
    ("splits/mirror", Mirror),
    ("gateway", Gateway),
    ("gateway/tls", Tls),
    ("gpu", Gpu),
    ("monitoring", Monitoring),
)
EXAMPLE = "cpu-smoke.yaml"


def reference_text(deployments: Path) -> str:
    """The page, with the file ``cpu-smoke.yaml`` of ``deployments`` quoted in it."""
    parts = [_INTRODUCTION, f"## An example\n\n```yaml\n{(deployments / EXAMPLE).read_text('utf-8')}```\n"]
    parts += [_section(name, section) for name, section in SECTIONS]
    parts += [_serve(), _presets()]
    return "\n".join(parts)


_INTRODUCTION = """\
<!-- Made by scripts/deployment_reference.py; change the descriptions in vllmstack/deployment/model.py instead. -->
# Deployment files

One YAML file is one deployment. `vllmstack validate NAME` shows every mistake in it at once; the first line of each
file in `deployments/` points editors to the schema, so that they complete keys and vLLM's options. Paths are
relative to the deployment file.
"""


def _section(name: str, section: type[Part]) -> str:
    lines = [f"## {name}", ""]
    summary = (section.__doc__ or "").strip().splitlines()[0].replace("``", "`")
    lines += [summary, "", "| key | value | default | |", "| --- | --- | --- | --- |"]
    for key, field in section.model_fields.items():
        cells = (f"`{key}`", _type(field), _default(field), field.description or "")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or value is None or value in ((), {}, "") or isinstance(value, Part):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _type(field: FieldInfo) -> str:
    limits = {
        name: getattr(item, name) for item in field.metadata for name in ("ge", "gt", "le") if hasattr(item, name)
    }
    words = _words(field.annotation)
    if "ge" in limits and "le" in limits:
        return f"{words}, {limits['ge']:g} to {limits['le']:,}"
    signs = (("ge", "≥"), ("gt", ">"), ("le", "≤"))
    return words + "".join(f", {sign} {limits[name]:g}" for name, sign in signs if name in limits)


def _words(annotation: Any) -> str:  # noqa: PLR0911
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(_words(member) for member in arguments if member is not type(None))
    if origin is tuple:
        return f"list of {_plural(_words(arguments[0]))}"
    if origin is dict:
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return " or ".join(f"`{choice}`" for choice in annotation)
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return "section"
    return {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path"}[annotation]


def _plural(words: str) -> str:
    if words.startswith("list of"):
        return words.replace("list of", "lists of", 1)
    return words if words == "text" else f"{words}s"


def _serve() -> str:
    options = option_list()
    free = [option for name, option in options.options.items() if name not in OWNED]
    rows = "\n".join(f"| `{name}` | {hint} |" for name, hint in OWNED.items())
    return f"""\
## models/serve

Any option of `vllm serve`, under vLLM's own name, with underscores or dashes: {len(free)} options of vLLM
{options.release}, of which {sum(option.is_new for option in free)} are not in {options.older_release}. Options that \
take JSON are written as YAML below their name. The
list was taken from vLLM itself (`scripts/vllm_options.py`); types and choices are checked before anything starts.

`tensor_parallel_size` follows from `gpus`. Set parallel sizes only to split a replica's GPUs otherwise; their product
must be the number of its GPUs.

These options belong to the stack:

| option | instead |
| --- | --- |
{rows}
"""


def _presets() -> str:
    keys = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    lines = [
        "## models/sampling",
        "",
        "Presets are defaults: what a request sets itself counts. They are passed as vLLM's",
        "`override_generation_config`; `top_k: 0` is no limit. To write your own, leave `sampling` out and set",
        "it under `serve`.",
        "",
        f"| preset | {' | '.join(keys)} | for |",
        f"| --- |{' --- |' * len(keys)} --- |",
    ]
    for preset in PRESETS.values():
        values = " | ".join(str(preset.parameters.get(key, "")) for key in keys)
        lines.append(f"| `{preset.name}` | {values} | {preset.use} |")
    lines += ["", *(f"- `{preset.name}`: {preset.why}" for preset in PRESETS.values()), ""]
    return "\n".join(lines)
