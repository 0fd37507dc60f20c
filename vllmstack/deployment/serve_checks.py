"""What can be wrong under ``serve:``, checked against the option list of the pinned vLLM."""

import re
from collections.abc import Mapping
from typing import Any

from vllmstack.deployment.options import Kind, Option, normalised, option_list, underscored
from vllmstack.deployment.wording import kind, listed, perhaps, shown, wrong_kind
from vllmstack.errors import Problem

_ONE_HOST = "leave it out: a replica is one engine on this host; `replicas` starts more of them"
_NO_TLS = "leave it out: engines are reached by the gateway only; `gateway/tls` names its certificate"

OWNED: Mapping[str, str] = {
    "model": "leave it out: `source` says where the weights are",
    "revision": "use `source/revision`",
    "served_model_name": "use `name` and `aliases`",
    "host": "leave it out: `gateway/address` is where clients connect",
    "port": "leave it out: `gateway/port` is where clients connect",
    "uds": "leave it out: the gateway reaches engines over their network",
    "root_path": "leave it out: the gateway serves paths as they are",
    "grpc": "leave it out: the gateway and the health check speak HTTP",
    "grpc_port": "leave it out: only the gateway is published",
    "api_key": "use `gateway/api_keys_file`: vLLM's own key leaves some paths open",
    "hf_token": "set `source/gated: true` and put the token into secrets/hub_token",
    "config": "write its options here, under `serve`",
    "shutdown_timeout": "use `drain_seconds`",
    "download_dir": "leave it out: weights are kept in the volume hub-cache",
    "device_ids": "use `gpus`",
    "disable_log_stats": "leave it out: dashboards and alerts read these statistics",
    "ssl_keyfile": _NO_TLS,
    "ssl_certfile": _NO_TLS,
    "ssl_ca_certs": _NO_TLS,
    "ssl_cert_reqs": _NO_TLS,
    "ssl_ciphers": _NO_TLS,
    "enable_ssl_refresh": _NO_TLS,
    "headless": _ONE_HOST,
    "nnodes": _ONE_HOST,
    "node_rank": _ONE_HOST,
    "master_addr": _ONE_HOST,
    "master_port": _ONE_HOST,
    "data_parallel_address": _ONE_HOST,
    "data_parallel_external_lb": _ONE_HOST,
    "data_parallel_hybrid_lb": _ONE_HOST,
    "data_parallel_multi_port_external_lb": _ONE_HOST,
    "data_parallel_rank": _ONE_HOST,
    "data_parallel_rpc_port": _ONE_HOST,
    "data_parallel_size_local": _ONE_HOST,
    "data_parallel_start_rank": _ONE_HOST,
    "data_parallel_supervisor_port": _ONE_HOST,
}
"""Options that the stack sets, or that would break what it promises: what to write instead."""

_JSON_LISTS = ("allowed_headers", "allowed_methods", "allowed_origins")
_AT_LEAST_ONE = (
    "block_size",
    "data_parallel_size",
    "max_loras",
    "max_num_batched_tokens",
    "max_num_seqs",
    "pipeline_parallel_size",
    "prefill_context_parallel_size",
    "tensor_parallel_size",
)
_SIZE = re.compile(r"\d+|\d+(\.\d+)?[kmgt]|\d+[KMGT]")


def serve_problems(serve: Mapping[Any, Any]) -> list[Problem]:
    """Every mistake in ``serve`` as it is written; places are option names."""
    problems: list[Problem] = []
    written: dict[str, str] = {}
    for key, value in serve.items():
        if not isinstance(key, str):
            problems.append(
                Problem(
                    place=str(key), fact=f"{shown(key)} is {kind(key)}, not an option's name", hint=_where_options_are()
                )
            )
            continue
        name = underscored(key)
        if name in written:
            problems.append(
                Problem(
                    place=key,
                    fact=f"`{written[name]}` and `{key}` are the same option to vLLM",
                    hint="keep one of the two",
                )
            )
            continue
        written[name] = key
        problem = _name_problem(key, name) or _value_problem(key, name, value)
        if problem:
            problems.append(problem)
    return problems


def _where_options_are() -> str:
    release = option_list().release
    return f"write an option of `vllm serve` {release}; the editor's schema and `vllm serve --help=all` list them"


def _name_problem(key: str, name: str) -> Problem | None:
    known = option_list()
    if name in OWNED:
        return Problem(place=key, fact="vllmstack sets this option itself", hint=OWNED[name])
    if name in known.options:
        return None
    if name in known.removed:
        return Problem(
            place=key,
            fact=f"vLLM {known.release} has no such option; {known.older_release} had it",
            hint="leave it out",
        )
    positive = name.removeprefix("no_")
    if positive != name and positive in known.options:
        return Problem(place=key, fact="is the command line's way to say no", hint=f"write `{positive}: false`")
    head, dot, rest = name.partition(".")
    if dot and head in known.options:
        nested = ": {".join(rest.split(".")) + ": …" + "}" * rest.count(".")
        return Problem(place=key, fact="is the command line's way to nest", hint=f"write `{head}: {{{nested}}}`")
    candidates = [candidate for candidate in known.options if candidate not in OWNED]
    return Problem(
        place=key,
        fact=f"vLLM {known.release} has no such option",
        hint=perhaps(name, candidates) or _where_options_are(),
    )


def _value_problem(key: str, name: str, value: Any) -> Problem | None:
    option = option_list().options[name]
    value = normalised({name: value})[name]
    if option.is_list and isinstance(value, list):
        if not value:
            return Problem(
                place=key, fact="is an empty list, which vLLM would not see", hint="name one or leave it out"
            )
        for number, item in enumerate(value):
            if problem := _item_problem(f"{key}/{number}", option, item):
                return problem
        return None
    return _item_problem(key, option, value)


def _item_problem(place: str, option: Option, value: Any) -> Problem | None:
    if not _is_kind(option, value):
        return Problem(place=place, fact=wrong_kind(value, _expected(option)), hint=_kind_hint(option, value))
    if option.choices and value not in option.choices:
        fact = f"{shown(value)} is none of the values that vLLM {option_list().release} takes"
        near = perhaps(str(value), map(str, option.choices)) if isinstance(value, str) else None
        hint = f"write one of {', '.join(map(str, option.choices))}"
        return Problem(place=place, fact=fact, hint=near or hint)
    return _range_problem(place, option, value) or _dash_problem(place, value)


def _range_problem(place: str, option: Option, value: Any) -> Problem | None:
    if option.name in _AT_LEAST_ONE and isinstance(value, int) and value < 1:
        return Problem(place=place, fact=f"{value} is less than 1", hint="write a whole number, 1 or more")
    if option.name == "max_model_len" and isinstance(value, int) and value < 1 and value != -1:
        return Problem(
            place=place, fact=f"{value} is no number of tokens", hint="write 1 or more, or `auto` for as many as fit"
        )
    if option.name == "gpu_memory_utilization" and not 0 < value <= 1:
        return Problem(
            place=place,
            fact=f"{shown(value)} is not a part of the GPU's memory",
            hint="write more than 0 and at most 1, e.g. 0.9",
        )
    return None


def _dash_problem(place: str, value: Any) -> Problem | None:
    """What argparse would take for an option's name; whole negative numbers pass."""
    text = str(value) if isinstance(value, str | int | float) else ""
    if not text.startswith("-") or re.fullmatch(r"-\d+", text):
        return None
    return Problem(
        place=place,
        fact=f"{shown(value)} begins with a dash, and vLLM would take it for an option",
        hint="write a value without a leading dash",
    )


def _is_kind(option: Option, value: Any) -> bool:  # noqa: PLR0911
    is_true_or_false = isinstance(value, bool)
    is_whole = isinstance(value, int) and not is_true_or_false
    match option.kind:
        case Kind.FLAG | Kind.SWITCH:
            return is_true_or_false
        case Kind.INTEGER:
            return is_whole
        case Kind.SIZE | Kind.SIZE_OR_AUTO:
            is_size = isinstance(value, str) and bool(_SIZE.fullmatch(value))
            return is_whole or is_size or (option.kind is Kind.SIZE_OR_AUTO and value == "auto")
        case Kind.NUMBER:
            return is_whole or isinstance(value, float)
        case Kind.JSON:
            return isinstance(value, list if option.name in _JSON_LISTS else dict)
        case Kind.TEXT_OR_JSON:
            return isinstance(value, str | dict)
        case Kind.TEXT_OR_FLAG:
            return isinstance(value, str | bool)
        case Kind.TEXT:
            # lora_modules takes mappings, as JSON text.
            is_json_item = option.name == "lora_modules" and isinstance(value, dict)
            return isinstance(value, str | float) or is_whole or is_json_item


def _expected(option: Option) -> str:
    if option.kind is Kind.JSON and option.name in _JSON_LISTS:
        return "a list"
    return {
        Kind.FLAG: "true or false",
        Kind.SWITCH: "true or false",
        Kind.INTEGER: "a whole number",
        Kind.SIZE: "a whole number",
        Kind.SIZE_OR_AUTO: "a whole number or `auto`",
        Kind.NUMBER: "a number",
        Kind.TEXT: "text",
        Kind.TEXT_OR_FLAG: "text",
        Kind.TEXT_OR_JSON: "text or a mapping",
        Kind.JSON: "a mapping",
    }[option.kind]


def _kind_hint(option: Option, value: Any) -> str:
    if value is None:
        return "give it a value, or leave it out for vLLM's default"
    if option.choices:
        return f"write one of {listed(map(str, option.choices))}"
    if isinstance(value, list):
        return "write a single value"
    if option.kind in (Kind.SIZE, Kind.SIZE_OR_AUTO) and isinstance(value, str):
        return "write it like 16384, 16k (16,000) or 16K (16,384)"
    if isinstance(value, str) and option.kind in (Kind.INTEGER, Kind.NUMBER) and re.fullmatch(r"-?\d+(\.\d+)?", value):
        return f"write it without quotes: {value}"
    examples = {
        Kind.FLAG: "write true or false, without quotes",
        Kind.SWITCH: "write true or false, without quotes",
        Kind.INTEGER: "write a whole number, e.g. 8",
        Kind.SIZE: "write it like 16384, 16k (16,000) or 16K (16,384)",
        Kind.SIZE_OR_AUTO: "write it like 16384, 16k (16,000), 16K (16,384) or auto",
        Kind.NUMBER: "write a number, e.g. 0.9",
        Kind.JSON: 'write a list, e.g. ["*"]' if option.name in _JSON_LISTS else "write its keys below it, indented",
        Kind.TEXT_OR_JSON: "write text, or its keys below it, indented",
    }
    return examples.get(option.kind, "write text")
