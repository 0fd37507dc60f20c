"""The part of the gateway's configuration that depends on the deployment; the rest is written in ``docker/gateway``.

nginx includes the files below ``gateway/`` from ``/etc/vllmstack/gateway`` (read-only):

    routes.json      names, splits, pools, replicas and their limits, for Lua
    upstreams.conf   one upstream a model
    limits.conf      body size, timeouts, zones (http level)
    listen.conf      port, TLS, connections of one address (server level)
    admission.conf   keys, requests a minute (every location of the API)
    mirror.conf      copies for a split's mirror (every location that an engine serves)
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vllmstack.deployment.adapters import adapters_of
from vllmstack.deployment.model import Gateway, Model, Split
from vllmstack.deployment.options import normalised
from vllmstack.planning.placement import Replica, replica_count, service_prefix
from vllmstack.planning.plan import Plan
from vllmstack.render.header import header

PLAIN_PORT = 8080
"""Where the gateway listens inside its container without TLS."""

TLS_PORT = 8443
"""Where it listens with TLS; the plain port is then closed."""

METRICS_PORT = 9113
"""Metrics and the container's health; not published."""

_CONNECT_MILLISECONDS = 2_000
_SEQUENCES = 256
"""vLLM's max_num_seqs where nothing else is said; its own default differs from GPU to GPU (128 to 1,024)."""


def render_gateway(plan: Plan) -> dict[str, str]:
    """Path → text. The same plan gives the same bytes."""
    gateway = plan.deployment.gateway
    settings = {
        "admission.conf": _admission(gateway),
        "limits.conf": _limits(gateway),
        "listen.conf": _listen(gateway),
        "mirror.conf": _mirror(plan.deployment.splits),
        "upstreams.conf": _upstreams(plan),
    }
    heading = header(plan.deployment)
    return {
        **{f"gateway/{name}": heading + "\n".join(lines) + "\n" for name, lines in settings.items()},
        "gateway/routes.json": _routes(plan),
    }


def listen_port(gateway: Gateway) -> int:
    """The port inside the container that is published."""
    return TLS_PORT if gateway.tls else PLAIN_PORT


def _replicas(plan: Plan, model: Model) -> list[Replica]:
    return [replica for replica in plan.replicas if replica.model.name == model.name]


def _routes(plan: Plan) -> str:
    models = plan.deployment.models
    index_of = {model.name: index for index, model in enumerate(models)}
    names = {
        name: index
        for index, model in enumerate(models)
        for name in (model.name, *model.aliases, *(adapter.name for adapter in adapters_of(model.serve)))
    }
    routes = {
        "api_keys": plan.deployment.gateway.api_keys_file is not None,
        "requests_per_minute": plan.deployment.gateway.requests_per_minute,
        "names": names,
        "listed": [*names, *(split.name for split in plan.deployment.splits)],
        "splits": {split.name: _split(split, index_of) for split in plan.deployment.splits},
        "models": [_model(plan, model) for model in models],
    }
    return json.dumps(routes, indent=2) + "\n"


def _split(split: Split, index_of: Mapping[str, int]) -> dict[str, Any]:
    """Models by their index in routes.json, with shares that add up to 1."""
    total = sum(split.weights.values())
    return {
        "weights": [[index_of[name], weight / total] for name, weight in split.weights.items()],
        "mirror": {"model": index_of[split.mirror.model], "ratio": split.mirror.ratio} if split.mirror else None,
    }


def _mirror(splits: Sequence[Split]) -> list[str]:
    # Only where a split has one: nginx makes a subrequest for every request, and a variable says whether it is sent.
    if not any(split.mirror for split in splits):
        return ["# No split has a mirror."]
    return ["mirror /-/mirror;"]


def _model(plan: Plan, model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "aliases": list(model.aliases),
        "adapters": [adapter.name for adapter in adapters_of(model.serve)],
        "pool": service_prefix(model),
        "replicas": [replica.service for replica in _replicas(plan, model)],
        "routes": [_route(replica) for replica in _replicas(plan, model)],
        "policy": model.routing,
        "max_in_flight": model.admission.max_in_flight or _sequences(model) * replica_count(model),
        "max_queue_seconds": model.admission.max_queue_seconds,
        "hold_seconds": model.admission.hold_seconds,
        "hung_seconds": model.health.hung_seconds,
        "slow_start_seconds": model.health.slow_start_seconds,
    }


def _sequences(model: Model) -> int:
    """How many requests one replica works on at a time: each of its data-parallel engines has a batch of its own."""
    serve = normalised(model.serve)
    return int(serve.get("max_num_seqs", _SEQUENCES)) * int(serve.get("data_parallel_size", 1))


def _route(replica: Replica) -> str:
    """The name that nginx has for a replica within its pool: services have up to 63 characters, routes at most 32."""
    return f"replica-{replica.number}"


def _upstreams(plan: Plan) -> list[str]:
    # sticky route: Lua chooses a replica and sets $peer to its route; without one, least_conn chooses.
    # max_fails=0: who is left out is for health.lua to say, which asks. A poisonous request that makes every replica
    # answer 500 would else take all of them out.
    # resolve: a name that does not exist (yet) is no error at start, and a replica's new address is followed.
    # keepalive_timeout: nginx must close idle connections before uvicorn does (60 s, docker/engine/service.yaml), or a
    # request meets a closed one.
    lines: list[str] = []
    for model in plan.deployment.models:
        pool = service_prefix(model)
        servers = [
            f"server {replica.address} resolve route={_route(replica)} max_fails=0;"
            for replica in _replicas(plan, model)
        ]
        lines += [
            "",
            f"upstream {pool} {{",
            f"    zone {pool} 256k;",
            "    least_conn;",
            "    sticky route $peer;",
            *(f"    {server}" for server in servers),
            "    keepalive 64;",
            "    keepalive_timeout 4s;",
            "}",
        ]
    return lines


def _limits(gateway: Gateway) -> list[str]:
    # The time for other tries ends before the read timeout: what takes too long at one replica is not tried at another,
    # which would only be busy with it as well. But just before: a replica may die, or be restarted because it hangs,
    # long after it was given a request, and one that has had no byte yet is then tried elsewhere.
    read_milliseconds = gateway.first_byte_seconds * 1000
    connect = min(_CONNECT_MILLISECONDS, read_milliseconds // 4)
    next_upstream = read_milliseconds * 9 // 10
    lines = [
        f"client_max_body_size {gateway.body_limit_mib}m;",
        f"proxy_connect_timeout {connect}ms;",
        f"proxy_read_timeout {gateway.first_byte_seconds}s;",
        "proxy_send_timeout 60s;",
        f"proxy_next_upstream_timeout {next_upstream}ms;",
        "proxy_next_upstream_tries 3;",
    ]
    if gateway.requests_per_minute:
        lines.append(f"limit_req_zone $limit_key zone=requests:4m rate={gateway.requests_per_minute}r/m;")
    if gateway.connections:
        lines.append("limit_conn_zone $binary_remote_addr zone=connections:4m;")
    return lines


def _listen(gateway: Gateway) -> list[str]:
    if gateway.tls:
        lines = [
            f"listen {TLS_PORT} ssl default_server;",
            "http2 on;",
            "ssl_certificate /run/secrets/tls_certificate;",
            "ssl_certificate_key /run/secrets/tls_key;",
            "ssl_protocols TLSv1.2 TLSv1.3;",
            "ssl_ciphers ECDHE+AESGCM:ECDHE+CHACHA20;",
            "ssl_session_cache shared:tls:2m;",
            "ssl_session_tickets off;",
        ]
    else:
        lines = [f"listen {PLAIN_PORT} default_server;"]
    if gateway.connections:
        lines.append(f"limit_conn connections {gateway.connections};")
    return lines


def _admission(gateway: Gateway) -> list[str]:
    lines = []
    if gateway.api_keys_file is not None:
        lines.append('rewrite_by_lua_block { require("gateway.keys").name() }')
    if gateway.requests_per_minute:
        # A bucket of a minute's requests that refills evenly: nobody waits inside nginx, what is too much gets a 429.
        burst = gateway.requests_per_minute - 1
        lines.append(f"limit_req zone=requests{f' burst={burst} nodelay' if burst else ''};")
    return lines or ["# No keys, and no limit of requests a minute."]
