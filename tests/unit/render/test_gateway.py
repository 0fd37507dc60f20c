"""What nginx is given for a deployment: exact text, and what each setting changes."""

import json
import re
from typing import Any

import pytest

from vllmstack.deployment.model import MOST_REPLICAS, Deployment
from vllmstack.planning.placement import place
from vllmstack.planning.plan import Plan
from vllmstack.render.gateway import listen_port, render_gateway

HEADING = """\
# Rendered by vllmstack from the deployment two-models: change its file and run `vllmstack up`.
# What is edited here is lost.
"""

TWO_MODELS = {
    "gateway/admission.conf": f"{HEADING}# No keys, and no limit of requests a minute.\n",
    "gateway/limits.conf": f"""\
{HEADING}client_max_body_size 32m;
proxy_connect_timeout 2000ms;
proxy_read_timeout 600s;
proxy_send_timeout 60s;
proxy_next_upstream_timeout 540000ms;
proxy_next_upstream_tries 3;
""",
    "gateway/listen.conf": f"{HEADING}listen 8080 default_server;\n",
    "gateway/mirror.conf": f"{HEADING}# No split has a mirror.\n",
    "gateway/routes.json": """\
{
  "api_keys": false,
  "requests_per_minute": null,
  "names": {
    "RedHatAI/Llama-3.2-1B": 0,
    "llama": 0,
    "smoke": 1
  },
  "listed": [
    "RedHatAI/Llama-3.2-1B",
    "llama",
    "smoke"
  ],
  "splits": {},
  "models": [
    {
      "name": "RedHatAI/Llama-3.2-1B",
      "aliases": [
        "llama"
      ],
      "adapters": [],
      "pool": "engine-redhatai-llama-3-2-1b",
      "replicas": [
        "engine-redhatai-llama-3-2-1b-1",
        "engine-redhatai-llama-3-2-1b-2"
      ],
      "routes": [
        "replica-1",
        "replica-2"
      ],
      "policy": "lmetric",
      "max_in_flight": 512,
      "max_queue_seconds": 5,
      "hold_seconds": 60,
      "hung_seconds": 20,
      "slow_start_seconds": 10
    },
    {
      "name": "smoke",
      "aliases": [],
      "adapters": [],
      "pool": "engine-smoke",
      "replicas": [
        "engine-smoke-1"
      ],
      "routes": [
        "replica-1"
      ],
      "policy": "lmetric",
      "max_in_flight": 256,
      "max_queue_seconds": 5,
      "hold_seconds": 60,
      "hung_seconds": 20,
      "slow_start_seconds": 10
    }
  ]
}
""",
    "gateway/upstreams.conf": f"""\
{HEADING}
upstream engine-redhatai-llama-3-2-1b {{
    zone engine-redhatai-llama-3-2-1b 256k;
    least_conn;
    sticky route $peer;
    server engine-redhatai-llama-3-2-1b-1:8000 resolve route=replica-1 max_fails=0;
    server engine-redhatai-llama-3-2-1b-2:8000 resolve route=replica-2 max_fails=0;
    keepalive 64;
    keepalive_timeout 4s;
}}

upstream engine-smoke {{
    zone engine-smoke 256k;
    least_conn;
    sticky route $peer;
    server engine-smoke-1:8000 resolve route=replica-1 max_fails=0;
    keepalive 64;
    keepalive_timeout 4s;
}}
""",
}


def plan(**gateway: Any) -> Plan:
    llama = {
        "name": "RedHatAI/Llama-3.2-1B",
        "aliases": ["llama"],
        "source": {"hub": "RedHatAI/Llama-3.2-1B"},
        "replicas": 2,
    }
    smoke = {"name": "smoke", "source": {"directory": "models/smoke"}, "engine": "vllm-cpu"}
    deployment = Deployment.model_validate({"name": "two-models", "models": [llama, smoke], "gateway": gateway})
    return Plan(deployment=deployment, replicas=place(deployment.models, core_ids=[0, 1]))


def changes(**gateway: Any) -> dict[str, tuple[list[str], list[str]]]:
    """Lines that a setting takes away and adds, by file."""
    found = {}
    for path, text in render_gateway(plan(**gateway)).items():
        before, after = TWO_MODELS[path].splitlines(), text.splitlines()
        if before != after:
            found[path] = ([x for x in before if x not in after], [x for x in after if x not in before])
    return found


def test_two_models_give_this_text_and_the_same_text_again() -> None:
    assert render_gateway(plan()) == TWO_MODELS
    assert render_gateway(plan()) == render_gateway(plan())


def test_keys_change_only_whether_they_are_asked_for() -> None:
    assert changes(api_keys_file="keys.json") == {
        "gateway/admission.conf": (
            ["# No keys, and no limit of requests a minute."],
            ['rewrite_by_lua_block { require("gateway.keys").name() }'],
        ),
        "gateway/routes.json": (['  "api_keys": false,'], ['  "api_keys": true,']),
    }


def test_where_the_gateway_is_published_is_not_its_own_business() -> None:
    assert changes(address="192.0.2.7", port=9000, api_keys_file="keys.txt") == changes(api_keys_file="keys.txt")


def test_tls_replaces_the_plain_port() -> None:
    settings = plan(tls={"certificate": "c.pem", "key": "k.pem"})
    text = render_gateway(settings)["gateway/listen.conf"]
    assert "listen 8443 ssl default_server;\nhttp2 on;\n" in text
    assert "8080" not in text
    assert "c.pem" not in text
    assert (listen_port(plan().deployment.gateway), listen_port(settings.deployment.gateway)) == (8080, 8443)


def test_requests_a_minute_are_counted_by_key_and_told_to_the_error_page() -> None:
    assert changes(requests_per_minute=60) == {
        "gateway/admission.conf": (
            ["# No keys, and no limit of requests a minute."],
            ["limit_req zone=requests burst=59 nodelay;"],
        ),
        "gateway/limits.conf": ([], ["limit_req_zone $limit_key zone=requests:4m rate=60r/m;"]),
        "gateway/routes.json": (['  "requests_per_minute": null,'], ['  "requests_per_minute": 60,']),
    }


def test_one_request_a_minute_has_no_burst() -> None:
    text = render_gateway(plan(requests_per_minute=1))["gateway/admission.conf"]
    assert text.endswith("\nlimit_req zone=requests;\n")


def test_connections_are_counted_by_address() -> None:
    assert changes(connections=20) == {
        "gateway/limits.conf": ([], ["limit_conn_zone $binary_remote_addr zone=connections:4m;"]),
        "gateway/listen.conf": ([], ["limit_conn connections 20;"]),
    }


def test_the_body_limit_is_in_mebibytes() -> None:
    assert changes(body_limit_mib=100) == {
        "gateway/limits.conf": (["client_max_body_size 32m;"], ["client_max_body_size 100m;"])
    }


@pytest.mark.parametrize(("seconds", "connect", "other_tries"), [(1, 250, 900), (8, 2000, 7200), (600, 2000, 540_000)])
def test_other_replicas_are_tried_for_nearly_as_long_as_one_may_take(
    seconds: int, connect: int, other_tries: int
) -> None:
    text = render_gateway(plan(first_byte_seconds=seconds))["gateway/limits.conf"]
    assert f"proxy_connect_timeout {connect}ms;" in text
    assert f"proxy_read_timeout {seconds}s;" in text
    assert f"proxy_next_upstream_timeout {other_tries}ms;" in text
    assert other_tries < seconds * 1000


LLAMA = {"name": "llama", "source": {"hub": "org/llama"}}
AWQ = {"name": "llama-awq", "source": {"hub": "org/llama-awq"}}


def routes(*models: dict[str, Any], **changes: Any) -> dict[str, Any]:
    deployment = Deployment.model_validate({"name": "test", "models": models} | changes)
    made = Plan(deployment=deployment, replicas=place(deployment.models, core_ids=[0]))
    parsed: dict[str, Any] = json.loads(render_gateway(made)["gateway/routes.json"])
    return parsed


def test_a_split_names_models_by_index_with_shares_that_add_up_to_one() -> None:
    splits = [
        {"name": "chat", "weights": {"llama-awq": 10, "llama": 90}, "mirror": {"model": "llama-awq", "ratio": 0.05}},
        {"name": "even", "weights": {"llama": 1, "llama-awq": 1}},
    ]

    assert routes(LLAMA, AWQ, splits=splits)["splits"] == {
        "chat": {"weights": [[1, 0.1], [0, 0.9]], "mirror": {"model": 1, "ratio": 0.05}},
        "even": {"weights": [[0, 0.5], [1, 0.5]], "mirror": None},
    }


def test_requests_are_copied_only_where_a_split_has_a_mirror() -> None:
    split = {"name": "chat", "weights": {"llama": 1}, "mirror": {"model": "llama-awq", "ratio": 0.05}}
    deployment = Deployment.model_validate({"name": "test", "models": [LLAMA, AWQ], "splits": [split]})
    made = Plan(deployment=deployment, replicas=place(deployment.models, core_ids=[0]))

    assert render_gateway(made)["gateway/mirror.conf"].endswith("\nmirror /-/mirror;\n")


def test_an_adapter_is_a_name_of_its_model_and_no_alias() -> None:
    adapters = {"enable_lora": True, "lora-modules": ["sql=org/sql", {"name": "tone", "path": "/tone"}]}

    made = routes(AWQ, LLAMA | {"aliases": ["l"], "serve": adapters})

    assert made["names"] == {"llama-awq": 0, "llama": 1, "l": 1, "sql": 1, "tone": 1}
    assert (made["models"][1]["aliases"], made["models"][1]["adapters"]) == (["l"], ["sql", "tone"])


def test_what_a_model_sets_is_told_to_lua() -> None:
    (model,) = routes(
        LLAMA
        | {"routing": "least-requests", "admission": {"max_in_flight": 7, "max_queue_seconds": 0.5, "hold_seconds": 0}}
        | {"health": {"hung_seconds": 30, "slow_start_seconds": 0}}
    )["models"]

    assert {key: model[key] for key in list(model)[6:]} == {
        "policy": "least-requests",
        "max_in_flight": 7,
        "max_queue_seconds": 0.5,
        "hold_seconds": 0,
        "hung_seconds": 30,
        "slow_start_seconds": 0,
    }


@pytest.mark.parametrize(
    ("changes", "most"),
    [
        ({}, 256),
        ({"replicas": 3}, 768),
        ({"replicas": 3, "serve": {"max-num-seqs": 16}}, 48),
        ({"gpus": [[0], [1]], "serve": {"max_num_seqs": 16}}, 32),
        ({"gpus": 2, "serve": {"max_num_seqs": 16, "data_parallel_size": 2}}, 32),
        ({"replicas": 3, "serve": {"max_num_seqs": 16}, "admission": {"max_in_flight": 100}}, 100),
    ],
)
def test_as_many_requests_are_let_in_as_the_replicas_have_room_for(changes: dict[str, Any], most: int) -> None:
    (model,) = routes(LLAMA | changes)["models"]

    assert model["max_in_flight"] == most


def test_every_replica_can_be_chosen_by_its_name_however_long_that_is() -> None:
    names = [letter * 53 for letter in "ab"]
    models = [{"name": name, "source": {"hub": "org/one"}, "replicas": MOST_REPLICAS} for name in names]
    deployment = Deployment.model_validate({"name": "test", "models": models})
    replicas = place(deployment.models, core_ids=[0])

    files = render_gateway(Plan(deployment=deployment, replicas=replicas))

    models = json.loads(files["gateway/routes.json"])["models"]
    told = [pair for model in models for pair in zip(model["replicas"], model["routes"], strict=True)]
    pattern = r"^    server (\S+):8000 resolve route=(\S+) max_fails=0;$"
    assert told == re.findall(pattern, files["gateway/upstreams.conf"], re.MULTILINE)
    assert [name for name, _ in told] == [replica.service for replica in replicas]
    assert all(len(set(model["routes"])) == MOST_REPLICAS for model in models)
    # What nginx takes: "route is longer than 32".
    assert max(len(route) for _, route in told) <= 32


def test_every_name_in_routes_points_to_its_model_and_the_pool_that_upstreams_define() -> None:
    files = render_gateway(plan())
    routes = json.loads(files["gateway/routes.json"])
    for name, index in routes["names"].items():
        model = routes["models"][index]
        assert name in [model["name"], *model["aliases"]]
        assert f"upstream {model['pool']} {{" in files["gateway/upstreams.conf"]
