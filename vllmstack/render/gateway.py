"""The part of the gateway's configuration that depends on the deployment; the rest is written in ``docker/gateway``.

nginx includes the files below ``gateway/`` from ``/etc/vllmstack/gateway`` (read-only):

    routes.json      names, pools and replicas for njs (``js_preload_object``)
    upstreams.conf   one upstream a model
    limits.conf      body size, timeouts, zones (http level)
    listen.conf      port, TLS, connections of one address (server level)
    admission.conf   requests a minute (every location of the API)
"""

import json

from vllmstack.deployment.model import Gateway, Model
from vllmstack.planning.placement import Replica, service_prefix
from vllmstack.planning.plan import Plan
from vllmstack.render.header import header

PLAIN_PORT = 8080
"""Where the gateway listens inside its container without TLS."""

TLS_PORT = 8443
"""Where it listens with TLS; the plain port is then closed."""

METRICS_PORT = 9113
"""Metrics and the container's health; not published."""

_CONNECT_MILLISECONDS = 2_000
_NEXT_UPSTREAM_MILLISECONDS = 10_000


def render_gateway(plan: Plan) -> dict[str, str]:
    """Path → text. The same plan gives the same bytes."""
    gateway = plan.deployment.gateway
    settings = {
        "admission.conf": _admission(gateway),
        "limits.conf": _limits(gateway),
        "listen.conf": _listen(gateway),
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
    names = {name: index for index, model in enumerate(models) for name in (model.name, *model.aliases)}
    routes = {
        "api_keys": plan.deployment.gateway.api_keys_file is not None,
        "requests_per_minute": plan.deployment.gateway.requests_per_minute,
        "names": names,
        "models": [
            {
                "name": model.name,
                "aliases": list(model.aliases),
                "pool": service_prefix(model),
                "replicas": [replica.service for replica in _replicas(plan, model)],
            }
            for model in models
        ],
    }
    return json.dumps(routes, indent=2) + "\n"


def _upstreams(plan: Plan) -> list[str]:
    # keepalive_timeout: uvicorn closes idle connections after 5 s; nginx must be first, or a request meets a closed
    # one.
    # resolve: a name that does not exist (yet) is no error at start, and a replica's new address is followed.
    lines: list[str] = []
    for model in plan.deployment.models:
        pool = service_prefix(model)
        servers = [
            f"server {replica.address} resolve max_fails=2 fail_timeout=5s;" for replica in _replicas(plan, model)
        ]
        lines += [
            "",
            f"upstream {pool} {{",
            f"    zone {pool} 256k;",
            "    least_conn;",
            *(f"    {server}" for server in servers),
            "    keepalive 64;",
            "    keepalive_timeout 4s;",
            "}",
        ]
    return lines


def _limits(gateway: Gateway) -> list[str]:
    # The time for other tries ends well before the read timeout: a replica that is only slow is never asked twice.
    read_milliseconds = gateway.first_byte_seconds * 1000
    connect = min(_CONNECT_MILLISECONDS, read_milliseconds // 4)
    next_upstream = min(_NEXT_UPSTREAM_MILLISECONDS, read_milliseconds // 2)
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
    if not gateway.requests_per_minute:
        return ["# No limit of requests a minute."]
    # A bucket of a minute's requests that refills evenly: nobody waits inside nginx, what is too much gets a 429.
    burst = gateway.requests_per_minute - 1
    return [f"limit_req zone=requests{f' burst={burst} nodelay' if burst else ''};"]
