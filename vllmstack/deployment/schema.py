"""``schema/deployment.schema.json``: what editors check and complete a deployment file with."""

import json
from typing import Any

from vllmstack.deployment.model import Deployment
from vllmstack.deployment.options import Kind, Option, option_list
from vllmstack.deployment.presets import PRESETS
from vllmstack.deployment.serve_checks import OWNED

_TYPES: dict[Kind, list[str]] = {
    Kind.FLAG: ["boolean"],
    Kind.SWITCH: ["boolean"],
    Kind.INTEGER: ["integer"],
    Kind.SIZE: ["integer", "string"],
    Kind.SIZE_OR_AUTO: ["integer", "string"],
    Kind.NUMBER: ["number"],
    Kind.TEXT: ["string", "number"],
    Kind.TEXT_OR_FLAG: ["string", "boolean"],
    Kind.TEXT_OR_JSON: ["string", "object"],
    Kind.JSON: ["object", "array", "string"],
}


def schema_text() -> str:
    """The schema as it is committed: JSON Schema 2020-12, two spaces, a newline at the end."""
    generated = _without_titles(Deployment.model_json_schema())
    model = generated["$defs"]["Model"]["properties"]
    model["serve"] |= _serve()
    model["sampling"] = {
        "description": model["sampling"]["description"],
        "default": None,
        "anyOf": [
            {"const": preset.name, "description": f"For {preset.use}. {preset.why}"} for preset in PRESETS.values()
        ]
        + [{"type": "null"}],
    }
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "vllmstack deployment",
        "description": "A file under deployments/: the models to serve, where they run, and what they must show.",
    } | {key: value for key, value in generated.items() if key != "description"}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _serve() -> dict[str, Any]:
    options = option_list()
    return {
        "properties": {name: _option(option) for name, option in options.options.items() if name not in OWNED},
        # vLLM takes dashes for underscores; the loader checks those names.
        "patternProperties": {"^[a-z0-9]+-[a-z0-9-]+$": {}},
        "additionalProperties": False,
    }


def _option(option: Option) -> dict[str, Any]:
    options = option_list()
    item: dict[str, Any] = {"enum": list(option.choices)} if option.choices else {"type": _TYPES[option.kind]}
    if option.name == "lora_modules":
        item = {"type": ["string", "object"]}
    schema: dict[str, Any] = {"anyOf": [item, {"type": "array", "items": item}]} if option.is_list else item
    if option.is_new:
        schema |= {"description": f"vLLM {options.release}; {options.older_release} does not have it."}
    return schema


def _without_titles(schema: Any) -> Any:
    """Pydantic titles each property with its own name, which editors would show instead of the description."""
    if isinstance(schema, dict):
        named = schema.get("properties")
        kept = {key: _without_titles(value) for key, value in schema.items() if key not in ("title", "properties")}
        if isinstance(named, dict):
            kept["properties"] = {key: _without_titles(value) for key, value in named.items()}
        return kept
    return [_without_titles(item) for item in schema] if isinstance(schema, list) else schema
