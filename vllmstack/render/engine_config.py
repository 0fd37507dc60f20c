"""``engines/MODEL-DIGEST.yaml``: vLLM's own ``--config`` file for one model; all its replicas read the same one.

How vLLM reads it (vllm/utils/argparse_utils.py, load_config_file) decides what is written here:
- `true` becomes ``--name``. `false` becomes ``--no-name`` in 0.32.0 and is dropped in 0.26.0, so that an option that is
  on by default would stay on: it is written as ``no-name: true``, which both understand.
- A list becomes several arguments, each through ``str()``: what is not plain is written as JSON text.
- A mapping is passed as JSON.
- Names may carry dashes or underscores; dashes are what vLLM's documentation shows.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import yaml

from vllmstack.deployment.adapters import OPTION as LORA_MODULES
from vllmstack.deployment.adapters import adapters_of
from vllmstack.deployment.model import Deployment, Model, Split
from vllmstack.deployment.options import PARALLEL_SIZES, Kind, normalised, option_list
from vllmstack.deployment.presets import PRESETS
from vllmstack.planning.placement import ENGINE_PORT, gpus_per_replica, model_slug

_TELLING_USAGE = {"enable_force_include_usage": True}
"""Where keys are asked for (a deployment may still set it): the gateway settles a key's tokens by the usage that vLLM
tells, which a stream has without this only if its client asks. In 0.26.0 and 0.32.0 alike (should_include_usage) it
stands for both of ``stream_options``, include_usage and continuous_usage_stats: every chunk carries a usage, and one
more at the end nothing else. The gateway keeps from clients what they have not asked for. Without keys nobody needs it,
and it costs engine and gateway a few µs a chunk. Models that generate nothing ignore it."""

_LOGGING_REQUESTS = {"enable_log_requests": True}
"""A line with the id of each request that an engine takes, by which `vllmstack logs --request` finds it, and no more:
docker/engine/logging.json leaves out the line with the request's parameters."""

_LOGGING_OPTIONS = ("log_config_file", "log_level", "logging_config")


def uses_own_logging(model: Model) -> bool:
    """Whether the deployment configures the engine's logging itself.

    Then docker/engine/logging.json is not used, and requests are not logged unless it says so: vLLM's own log tells
    their parameters, and prompts where its level is DEBUG.
    """
    variables = any(name.startswith("VLLM_LOGGING_") or name == "VLLM_CONFIGURE_LOGGING" for name in model.environment)
    return variables or any(name in normalised(model.serve) for name in _LOGGING_OPTIONS)


def model_directory(model: Model) -> str:
    """Where a local model lies inside the engine's container, mounted read-only."""
    return "/models/" + model_slug(model)


def config_path(model: Model, deployment: Deployment) -> str:
    """The file's path, relative to ``.vllmstack/NAME/``.

    Its name changes with its text: an engine that Docker starts again reads what it was made with, whatever has been
    rendered since.
    """
    digest = hashlib.sha256(render_engine_config(model, deployment).encode()).hexdigest()[:8]
    return f"engines/{model_slug(model)}-{digest}.yaml"


def adapter_directory(number: int) -> str:
    """Where a model's LoRA adapter from a folder lies inside the container, mounted read-only; counts from 1."""
    return f"/adapters/{number}"


def render_engine_config(model: Model, deployment: Deployment) -> str:
    """The text of vLLM's ``--config`` file; the same model always gives the same bytes.

    A request for one of the deployment's splits arrives with its name, which the engine must know.
    """
    entries: dict[str, Any] = {"model": model.source.hub or model_directory(model)}
    if model.source.revision:
        entries["revision"] = model.source.revision
    entries["served-model-name"] = [model.name, *model.aliases, *_split_names(model, deployment.splits)]
    # On the engines' internal network; only the gateway reaches it.
    entries["host"] = "0.0.0.0"  # noqa: S104
    entries["port"] = ENGINE_PORT
    entries["shutdown-timeout"] = model.drain_seconds
    if gpus_per_replica(model) > 1 and not any(name in model.serve for name in PARALLEL_SIZES):
        entries["tensor-parallel-size"] = gpus_per_replica(model)
    if model.sampling:
        entries["override-generation-config"] = dict(PRESETS[model.sampling].parameters)
    serve = normalised(model.serve)
    if adapters := adapters_of(serve):
        serve[LORA_MODULES] = [
            adapter.at(adapter_directory(number) if adapter.folder else adapter.path)
            for number, adapter in enumerate(adapters, start=1)
        ]
    telling = _TELLING_USAGE if deployment.gateway.api_keys_file else {}
    logging = {} if uses_own_logging(model) else _LOGGING_REQUESTS
    for name, value in sorted((telling | logging | serve).items()):
        entries |= config_entry(name, value)
    return yaml.dump(
        entries, Dumper=_Readable, sort_keys=False, default_flow_style=False, allow_unicode=True, width=120
    )


def _split_names(model: Model, splits: Sequence[Split]) -> list[str]:
    return [
        split.name
        for split in splits
        if model.name in split.weights or (split.mirror and split.mirror.model == model.name)
    ]


class _Readable(yaml.SafeDumper):
    """Text of several lines, such as a chat template, as a block: people read these files too."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _text)


def config_entry(name: str, value: Any) -> dict[str, Any]:
    """An option as the file has it: under its dashed name, or under ``no-NAME``; nothing for a switch that is off."""
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
