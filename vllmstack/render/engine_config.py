"""``engines/MODEL.yaml``: vLLM's own ``--config`` file for one model; all its replicas read the same one.

How vLLM reads it (vllm/utils/argparse_utils.py, load_config_file) decides what is written here:
- `true` becomes ``--name``. `false` becomes ``--no-name`` in 0.32.0 and is dropped in 0.26.0, so that an option that is
  on by default would stay on: it is written as ``no-name: true``, which both understand.
- A list becomes several arguments, each through ``str()``: what is not plain is written as JSON text.
- A mapping is passed as JSON.
- Names may carry dashes or underscores; dashes are what vLLM's documentation shows.
"""

import json
from typing import Any

import yaml

from vllmstack.deployment.model import Model
from vllmstack.deployment.options import PARALLEL_SIZES, Kind, normalised, option_list
from vllmstack.deployment.presets import PRESETS
from vllmstack.planning.placement import ENGINE_PORT, gpus_per_replica, service_prefix


def model_directory(model: Model) -> str:
    """Where a local model lies inside the engine's container, mounted read-only."""
    return "/models/" + service_prefix(model).removeprefix("engine-")


def render_engine_config(replica_model: Model) -> str:
    """The text of vLLM's ``--config`` file; the same model always gives the same bytes."""
    model = replica_model
    entries: dict[str, Any] = {"model": model.source.hub or model_directory(model)}
    if model.source.revision:
        entries["revision"] = model.source.revision
    entries["served-model-name"] = [model.name, *model.aliases]
    # On the engines' internal network; only the gateway reaches it.
    entries["host"] = "0.0.0.0"  # noqa: S104
    entries["port"] = ENGINE_PORT
    entries["shutdown-timeout"] = model.drain_seconds
    if gpus_per_replica(model) > 1 and not any(name in model.serve for name in PARALLEL_SIZES):
        entries["tensor-parallel-size"] = gpus_per_replica(model)
    if model.sampling:
        entries["override-generation-config"] = dict(PRESETS[model.sampling].parameters)
    for name, value in sorted(normalised(model.serve).items()):
        entries |= _entry(name, value)
    return yaml.dump(
        entries, Dumper=_Readable, sort_keys=False, default_flow_style=False, allow_unicode=True, width=120
    )


class _Readable(yaml.SafeDumper):
    """Text of several lines, such as a chat template, as a block: people read these files too."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _text)


def _entry(name: str, value: Any) -> dict[str, Any]:
    option = option_list().options.get(name)
    dashed = name.replace("_", "-")
    if value is False:
        # A switch is off unless it is named.
        return {f"no-{dashed}": True} if option and option.kind is Kind.FLAG else {}
    if isinstance(value, list | tuple):
        if option and option.kind is Kind.JSON and not option.is_list:
            return {dashed: json.dumps(list(value))}
        return {dashed: [item if isinstance(item, str | int | float) else json.dumps(item) for item in value]}
    return {dashed: value}
