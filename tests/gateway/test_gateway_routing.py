"""Which requests pass, where they go, and what the gateway itself answers."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.gateway.containers import GatewayContainer, Replica, eventually
from tests.standstill import running_seconds

CHAT = "/v1/chat/completions"


def assert_openai_error(reply: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The shape that OpenAI's clients read."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    error: dict[str, Any] = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    return error


@pytest.mark.parametrize("name", ["smoke", "tiny", "org/tiny"])
def test_a_name_and_its_aliases_reach_the_models_replicas(gateway: GatewayContainer, name: str) -> None:
    reply = gateway.client().post(CHAT, json={"model": name})
    assert reply.status_code == 200
    assert reply.json()["served_by"].startswith("engine-smoke-")


def test_each_model_has_its_own_replicas(gateway: GatewayContainer) -> None:
    reply = gateway.client().post("/v1/completions", json={"model": "org/Other:1", "prompt": "x"})
    assert reply.json()["served_by"] == "engine-org-other-1-1"


@pytest.mark.parametrize(
    "path",
    [CHAT, "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/rerank", "/v1/score", "/tokenize", "/detokenize"],
)
def test_an_allowed_path_reaches_the_engine_as_it_is_and_without_the_query(
    gateway: GatewayContainer, replicas: dict[str, Replica], path: str
) -> None:
    assert gateway.client().post(f"{path}?a=b", json={"model": "org/Other:1"}).status_code == 200
    assert [request["path"] for request in replicas["engine-org-other-1-1"].seen()["requests"]] == [path]


@pytest.mark.parametrize(
    "path",
    ["/", "/invocations", "/pause", "/metrics", "/v1/load_lora_adapter", "/docs", f"{CHAT}/", "/V1/chat/completions",
     "/_completions", "/_error", "/v1/messages", "/v1/chat/completions/../../../metrics", "/-/replica/engine-smoke-1"],
)  # fmt: skip
def test_any_other_path_is_a_404_and_reaches_no_engine(
    gateway: GatewayContainer, replicas: dict[str, Replica], path: str
) -> None:
    with gateway.client() as client:
        request = client.build_request("POST", "/", json={"model": "smoke"})
        request.url = request.url.copy_with(raw_path=path.encode())
        assert_openai_error(client.send(request), 404, "unknown_url")
    assert all(not replica.seen()["requests"] for replica in replicas.values())


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", CHAT, "POST"), ("DELETE", CHAT, "POST"), ("PUT", "/tokenize", "POST"), ("POST", "/v1/models", "GET"),
     ("DELETE", "/v1/models/smoke", "GET"), ("GET", "/generate", "POST"), ("POST", "/model_info", "GET")],
)  # fmt: skip
def test_the_wrong_method_is_a_405_that_names_the_right_one(
    gateway: GatewayContainer, method: str, path: str, allowed: str
) -> None:
    reply = gateway.client().request(method, path, content=b"{}" if method != "GET" else None)
    assert_openai_error(reply, 405, "method_not_allowed")
    assert reply.headers["allow"] == allowed


@pytest.mark.parametrize("name", ["smok", "SMOKE", "constructor", "__proto__", "toString", "", " smoke", "x" * 9999])
def test_an_unknown_model_is_a_404_that_lists_the_names(gateway: GatewayContainer, name: str) -> None:
    error = assert_openai_error(gateway.client().post(CHAT, json={"model": name}), 404, "model_not_found")
    assert error["message"].endswith("There are: smoke, tiny, org/tiny, org/Other:1, absent.")
    assert error["param"] == "model"
    assert len(error["message"]) < 300


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"not json", "invalid_json"),
        (b'{"model":"smoke"', "invalid_json"),
        (b'{"model":"smoke"} x', "invalid_json"),
        (b"{'model':'smoke'}", "invalid_json"),
        (b'{"model":"smoke",}', "invalid_json"),
        (b'{"model":NaN}', "invalid_json"),
        (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "invalid_json"),
        (b"\xff\xfe\xfd", "invalid_json"),
        (b"[" * 100_000, "request_too_complex"),
        (b'[{"model":"smoke"}]', "invalid_json"),
        (b'"smoke"', "invalid_json"),
        (b"null", "invalid_json"),
        (b"{}", "missing_model"),
        (b'{"model":null}', "missing_model"),
        (b'{"model":["smoke"]}', "missing_model"),
        (b'{"model":1e999}', "missing_model"),
        (b'{"options":{"model":"smoke"}}', "missing_model"),
        (b'{"a":' * 1000 + b'{"model":"smoke"}' + b"}" * 1000, "request_too_complex"),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else value,
)
def test_a_body_without_a_model_is_a_400(
    gateway: GatewayContainer, replicas: dict[str, Replica], body: bytes, code: str
) -> None:
    assert_openai_error(gateway.client().post(CHAT, content=body), 400, code)
    assert all(not replica.seen()["requests"] for replica in replicas.values())


def test_the_last_of_two_models_counts_as_it_does_for_the_engine(gateway: GatewayContainer) -> None:
    reply = gateway.client().post(CHAT, content=b'{"model":"smoke","model":"org/Other:1"}')
    assert reply.json()["served_by"] == "engine-org-other-1-1"


@pytest.mark.parametrize("levels", [31, 40, 400])
@pytest.mark.parametrize("order", ["first", "last"])
def test_a_tool_schema_may_be_nested_deeply(gateway: GatewayContainer, levels: int, order: str) -> None:
    text = '"model": "org\\/Other:1"'
    nested = '"tools": ' + '{"model":["a\\"}{", ' * levels + "1" + "]}" * levels
    body = f"{{{text}, {nested}}}" if order == "first" else f"{{{nested}, {text}}}"
    assert json.loads(body)["model"] == "org/Other:1"
    assert gateway.client().post(CHAT, content=body).json()["served_by"] == "engine-org-other-1-1"


@pytest.mark.parametrize("size", [100, 200_000, 5_000_000])
def test_a_body_arrives_whole_whether_from_memory_or_from_a_file(
    gateway: GatewayContainer, replicas: dict[str, Replica], size: int
) -> None:
    body = json.dumps({"model": "org/Other:1", "prompt": "é" * (size // 6)}).encode()
    reply = gateway.client().post("/v1/completions", content=iter([body[: size // 2], body[size // 2 :]]))
    assert reply.status_code == 200
    seen = replicas["engine-org-other-1-1"].seen()["requests"]
    assert [request["bytes"] for request in seen] == [len(body)]


def test_the_engine_sees_no_key_no_cookie_and_no_address_that_the_client_made_up(
    gateway: GatewayContainer, replicas: dict[str, Replica]
) -> None:
    headers = {
        "Authorization": "Bearer something",
        "Cookie": "a=b",
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Host": "evil",
        "Forwarded": "for=6.6.6.6",
        "X-Real-IP": "6.6.6.6",
        "X-Request-Id": "mine.1",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    gateway.client().post(CHAT, json={"model": "org/Other:1"}, headers=headers)
    seen = dict(replicas["engine-org-other-1-1"].seen()["requests"][0]["headers"])
    assert seen.pop("x-forwarded-for") not in ("", "6.6.6.6")
    assert seen.pop("traceparent") == headers["traceparent"]
    assert seen.pop("x-request-id") == "mine.1"
    assert set(seen) == {"host", "content-type", "content-length", "accept", "x-forwarded-proto"}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b"abc-1_2.3:4", True),
        (b"a" * 128, True),
        (b"a" * 129, False),
        (b'a"b', False),
        (b"a b", False),
        (b"\xc3\xa9", False),
        (b"", False),
    ],
)
def test_a_request_id_is_kept_if_it_is_harmless_and_made_otherwise(
    gateway: GatewayContainer, sent: bytes, kept: bool
) -> None:
    reply = gateway.client().post(CHAT, json={"model": "none"}, headers={b"X-Request-Id": sent})
    returned = reply.headers.get_list("x-request-id")
    assert len(returned) == 1
    assert (returned[0].encode() == sent) is kept
    assert kept or len(returned[0]) == 32


def test_answers_carry_security_headers_and_no_version(gateway: GatewayContainer) -> None:
    for reply in (gateway.client().get("/health"), gateway.client().post(CHAT, json={"model": "smoke"})):
        assert reply.headers["server"] == "nginx"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"


def test_models_lists_every_name_with_the_length_that_a_replica_knows(gateway: GatewayContainer) -> None:
    reply = gateway.client().get("/v1/models").json()
    assert reply["object"] == "list"
    lengths = {model["id"]: model["max_model_len"] for model in reply["data"]}
    assert lengths == {"smoke": 2048, "tiny": 2048, "org/tiny": 2048, "org/Other:1": 2048, "absent": None}
    assert {model["id"]: model["root"] for model in reply["data"]}["org/tiny"] == "smoke"


def test_a_replica_that_hangs_delays_the_list_by_half_a_second_at_most(
    start_gateway: Callable[..., GatewayContainer], replicas: dict[str, Replica]
) -> None:
    gateway = start_gateway()
    hung = [replicas["engine-smoke-1"].container, replicas["engine-org-other-1-1"].container]
    for container in hung:
        container.pause()
    try:
        began = running_seconds()
        reply = gateway.client().get("/v1/models")
        seconds = running_seconds() - began
    finally:
        for container in hung:
            container.unpause()
    assert {model["id"]: model["max_model_len"] for model in reply.json()["data"]}["tiny"] == 2048
    assert reply.elapsed.total_seconds() > 0.4
    assert seconds < 0.9


@pytest.mark.parametrize("name", ["smoke", "org/Other:1", "org%2FOther:1"])
def test_one_model_is_shown_though_its_name_has_a_slash(gateway: GatewayContainer, name: str) -> None:
    assert gateway.client().get(f"/v1/models/{name}").json()["id"] in ("smoke", "org/Other:1")


def test_names_are_told_as_people_write_them(gateway: GatewayContainer) -> None:
    with gateway.client() as client:
        replies = [client.get(path) for path in ("/v1/models", "/v1/models/org/Other:1", "/ready", "/model_info")]
        replies.append(client.post(CHAT, json={"model": "none"}))
    assert [reply.url.path for reply in replies if "org/Other:1" not in reply.text] == []


def test_an_unknown_model_is_not_shown(gateway: GatewayContainer) -> None:
    assert_openai_error(gateway.client().get("/v1/models/none"), 404, "model_not_found")


def test_ready_says_which_model_has_no_replica_that_answers(gateway: GatewayContainer) -> None:
    reply = gateway.client().get("/ready")
    assert reply.status_code == 503
    assert {model["model"]: model["ready"] for model in reply.json()["models"]} == {
        "smoke": True,
        "org/Other:1": True,
        "absent": False,
    }
    assert reply.json()["models"][2]["replicas"] == [
        {"replica": "engine-absent-1", "answers": False, "detail": "no answer"}
    ]


def test_ready_notices_a_replica_whose_health_fails(gateway: GatewayContainer, replicas: dict[str, Replica]) -> None:
    def detail() -> str:
        return str(gateway.client().get("/ready").json()["models"][1]["replicas"][0]["detail"])

    replicas["engine-org-other-1-1"].control(health=500)
    eventually(lambda: detail() == "HTTP 500")
    replicas["engine-org-other-1-1"].control(health=200)
    eventually(lambda: detail() == "HTTP 200")


def test_health_is_alive_whatever_the_engines_do(gateway: GatewayContainer) -> None:
    assert gateway.client().get("/health").json() == {"status": "alive"}


def test_a_missing_grafana_is_said_in_plain_words(gateway: GatewayContainer) -> None:
    assert gateway.client().get("/grafana").headers["location"] == "/grafana/"
    reply = gateway.client().get("/grafana/d/1?x=y")
    assert reply.status_code == 503
    assert reply.text.startswith("Grafana does not answer.")


def test_generate_answers_as_older_servers_do(gateway: GatewayContainer, replicas: dict[str, Replica]) -> None:
    reply = gateway.client().post("/generate", json={"model": "org/Other:1", "prompt": "a", "n": 2, "max_tokens": 4})
    usage = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
    assert reply.json() == {"text": ["a text 0", "a text 1"], "model": "org/Other:1", "usage": usage}
    assert [request["path"] for request in replicas["engine-org-other-1-1"].seen()["requests"]] == ["/v1/completions"]


def test_batch_generate_keeps_the_prompts_order(gateway: GatewayContainer) -> None:
    reply = gateway.client().post("/batch_generate", json={"model": "org/Other:1", "prompts": ["a", "b"], "n": 2})
    assert reply.json()["results"] == [{"text": ["a text 0", "a text 1"]}, {"text": ["b text 2", "b text 3"]}]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/generate", {"model": "smoke"}, 400, "missing_prompt"),
        ("/generate", {"prompt": "a"}, 400, "missing_model"),
        ("/generate", {"prompt": "a", "model": "none"}, 404, "model_not_found"),
        ("/generate", {"prompt": "a", "model": "smoke", "stream": True}, 400, "unsupported_parameter"),
        ("/generate", {"prompt": "a", "model": "absent"}, 503, "no_replica_available"),
        ("/generate", [], 400, "invalid_json"),
        ("/batch_generate", {"model": "smoke", "prompts": []}, 400, "missing_prompts"),
        ("/batch_generate", {"model": "smoke", "prompts": ["a", 1]}, 400, "missing_prompts"),
    ],
)
def test_what_the_native_api_cannot_do_is_an_error_like_any_other(
    gateway: GatewayContainer, path: str, body: object, status: int, code: str
) -> None:
    assert_openai_error(gateway.client().post(path, json=body), status, code)


def test_model_info_tells_length_and_replicas(gateway: GatewayContainer) -> None:
    models = {model["model"]: model for model in gateway.client().get("/model_info").json()["models"]}
    assert models["smoke"]["max_model_len"] == 2048
    assert [replica["replica"] for replica in models["smoke"]["replicas"]] == ["engine-smoke-1", "engine-smoke-2"]
    assert models["absent"]["ready"] is False
