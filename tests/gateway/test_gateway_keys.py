"""API keys at the gateway: who passes, for which models, how much, and how fast a change counts."""

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docker
import httpx2
import pytest
from docker.models.networks import Network

from tests.attempts import attempts
from tests.gateway.conftest import StartGateway
from tests.gateway.containers import GatewayContainer, Replica, deployment, eventually
from vllmstack.deployment.api_keys import ApiKey, gateway_text, make_key

CHAT = "/v1/chat/completions"
ALICE, BOB, OWN = "sk-alice-0123456789", "sk-bob-0123456789", "sk-own-0123456789"
EFFECTIVE_SECONDS = 2
"""From a changed file to its effect."""
USAGE = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}


def keys_file(*keys: ApiKey) -> dict[str, str]:
    return {"api_keys": gateway_text(keys, OWN)}


def alice(**limits: Any) -> ApiKey:
    return make_key("alice", ALICE, **limits)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def ask(client: httpx2.Client, key: str = ALICE, model: str = "smoke", **more: Any) -> httpx2.Response:
    return client.post(CHAT, json={"model": model, "messages": [], **more}, headers=bearer(key))


def change(gateway: GatewayContainer, text: str) -> None:
    """In place, as `vllmstack keys` does it: the container has the file mounted, not its name."""
    file = gateway.folder / "api_keys"
    file.chmod(0o644)
    with file.open("r+") as stream:
        stream.truncate()
        stream.write(text)


@pytest.fixture(scope="module")
def keyed(
    engine: docker.DockerClient, network: Network, fleet: dict[str, Replica], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayContainer]:
    broken: dict[str, Any] = {"name": "broken", "sha256": "broken"}
    limitless = {"name": "limitless", "sha256": "0" * 64, "requests_per_minute": "many"}
    written = json.loads(gateway_text([alice(), make_key("bob", BOB, models=("smoke",))], OWN))
    secrets = {"api_keys": json.dumps({"keys": [broken, limitless, *written["keys"]]})}
    described = deployment(api_keys_file="keys.json")
    gateway = GatewayContainer(engine, network, tmp_path_factory.mktemp("keyed"), described, secrets)
    try:
        yield gateway.start()
    finally:
        gateway.container.remove(force=True)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("sk-wrong-0"),
        bearer(f"{ALICE}x"),
        bearer(f"{ALICE} {BOB}"),
        bearer("alice"),
        bearer("loaded"),
        bearer("stamp"),
        bearer("broken"),
        {"Authorization": "Bearer"},
        {"Authorization": ALICE},
        {"Authorization": f"Basic {ALICE}"},
        {"X-Api-Key": ALICE},
    ],
)
def test_nobody_without_a_known_key_passes(keyed: GatewayContainer, headers: dict[str, str]) -> None:
    with keyed.client(headers=headers) as client:
        replies = [
            client.post(CHAT, json={"model": "smoke"}),
            client.get("/v1/models"),
            client.get("/v1/models/smoke"),
            client.post("/generate", json={"model": "smoke", "prompt": "x"}),
            client.post("/batch_generate", json={"model": "smoke", "prompts": ["x"]}),
            client.get("/model_info"),
            client.post("/tokenize", json={"model": "smoke"}),
        ]
        assert client.get("/health").status_code == 200
        assert client.get("/ready").status_code == 503
    for reply in replies:
        assert reply.status_code == 401, reply.url
        assert reply.json()["error"]["code"] == "invalid_api_key"
        assert reply.headers["www-authenticate"] == "Bearer"
        assert "sk-" not in reply.text


def test_a_known_key_passes_is_not_forwarded_and_only_its_name_is_logged(
    keyed: GatewayContainer, replicas: dict[str, Replica]
) -> None:
    prompt = "a very private prompt"
    replies = [
        keyed.client().post(
            f"{CHAT}?q=private-query", json={"model": "org/Other:1", "prompt": prompt}, headers=bearer(key)
        )
        for key in (ALICE, OWN)
    ]
    assert [reply.status_code for reply in replies] == [200, 200]
    headers = [request["headers"] for request in replicas["engine-org-other-1-1"].seen()["requests"]]
    assert "authorization" not in {name for request in headers for name, _ in request}
    assert [line["key"] for line in keyed.logged(*replies)] == ["alice", "vllmstack"]
    for secret in (ALICE, OWN, prompt, "private-query"):
        assert secret not in keyed.logs()


def test_the_scheme_may_be_written_in_any_case(keyed: GatewayContainer) -> None:
    for header in (f"bearer {ALICE}", f"BEARER   {ALICE}"):
        assert keyed.client().get("/v1/models", headers={"Authorization": header}).status_code == 200


def test_an_entry_that_is_wrong_lets_nobody_in_and_the_others_count(keyed: GatewayContainer) -> None:
    for number in (0, 1):
        assert f"keys/{number} is left out: " in keyed.logs()
    assert keyed.client().get("/v1/models", headers=bearer(ALICE)).status_code == 200


def test_a_key_uses_the_models_it_may_and_sees_no_others(keyed: GatewayContainer, replicas: dict[str, Replica]) -> None:
    with keyed.client() as client:
        listed = {key: client.get("/v1/models", headers=bearer(key)).json()["data"] for key in (ALICE, BOB)}
        allowed = [ask(client, BOB, name).status_code for name in ("smoke", "tiny", "org/tiny")]
        refused = ask(client, BOB, "org/Other:1")
        shown = client.get("/v1/models/org/Other:1", headers=bearer(BOB))
        prompt = client.post("/generate", json={"model": "org/Other:1", "prompt": "x"}, headers=bearer(BOB))

    # A model's own name includes its aliases.
    assert [one["id"] for one in listed[BOB]] == ["smoke", "tiny", "org/tiny"]
    assert {one["id"] for one in listed[ALICE]} == {"smoke", "tiny", "org/tiny", "org/Other:1", "absent"}
    assert allowed == [200] * 3
    assert (refused.status_code, prompt.status_code, shown.status_code) == (403, 403, 404)
    assert refused.json()["error"]["code"] == "model_not_permitted"
    assert not replicas["engine-org-other-1-1"].seen()["requests"]


def status(gateway: GatewayContainer, key: str) -> int:
    return gateway.client().get("/v1/models/smoke", headers=bearer(key)).status_code


def effective(gateway: GatewayContainer, keys: Sequence[str], statuses: Sequence[int]) -> None:
    eventually(lambda: [status(gateway, key) for key in keys] == list(statuses), seconds=EFFECTIVE_SECONDS)


def test_keys_come_and_go_without_a_restart(start_gateway: StartGateway) -> None:
    gateway = start_gateway(api_keys_file="keys", secrets=keys_file(alice()))
    keys = (ALICE, BOB, OWN)
    assert [status(gateway, key) for key in keys] == [200, 401, 200]

    change(gateway, gateway_text([alice(), make_key("bob", BOB)], OWN))
    effective(gateway, keys, [200, 200, 200])

    change(gateway, gateway_text([make_key("bob", BOB)], OWN))
    effective(gateway, keys, [401, 200, 200])

    # A key that was made anew has its name's length and date: the file looks the same from outside.
    change(gateway, gateway_text([make_key("bob", ALICE)], OWN))
    effective(gateway, keys, [200, 401, 200])

    # Also after it was left alone for so long that its time alone is looked at.
    time.sleep(4)
    change(gateway, gateway_text([make_key("bob", BOB)], OWN))
    effective(gateway, keys, [401, 200, 200])


def test_a_changed_limit_counts_without_a_restart(start_gateway: StartGateway) -> None:
    gateway = start_gateway(api_keys_file="keys", secrets=keys_file(alice()))
    with gateway.client() as client:
        assert "x-ratelimit-limit-requests" not in ask(client).headers

        change(gateway, gateway_text([alice(requests_per_minute=7)], OWN))

        eventually(lambda: ask(client).headers.get("x-ratelimit-limit-requests") == "7", seconds=EFFECTIVE_SECONDS)


def test_a_file_that_cannot_be_used_changes_nothing(start_gateway: StartGateway) -> None:
    gateway = start_gateway(api_keys_file="keys", secrets=keys_file(alice()))

    def complaints() -> int:
        return gateway.logs().count("/run/secrets/api_keys cannot be used: ")

    for number, text in enumerate(('{"keys": [', f"alice {ALICE}\n", '{"keys": 3}')):
        change(gateway, text)
        eventually(lambda least=number: complaints() > least)  # type: ignore[misc]
        assert [status(gateway, key) for key in (ALICE, BOB)] == [200, 401]

    # Said once each, not every second.
    said = complaints()
    time.sleep(2.5)
    assert complaints() == said
    assert ALICE not in gateway.logs()
    change(gateway, gateway_text([make_key("bob", BOB)], OWN))
    effective(gateway, (ALICE, BOB), [401, 200])


def test_keys_stay_known_over_a_reload(start_gateway: StartGateway) -> None:
    gateway = start_gateway(api_keys_file="keys", secrets=keys_file(alice()))
    gateway.reload()
    assert [status(gateway, ALICE) for _ in range(20)] == [200] * 20


def test_without_a_file_nobody_passes(start_gateway: StartGateway) -> None:
    gateway = start_gateway(api_keys_file="keys")
    assert status(gateway, ALICE) == 401
    assert "/run/secrets/api_keys cannot be used" in gateway.logs()


def test_thousands_of_keys_fit(start_gateway: StartGateway) -> None:
    keys = [make_key(f"user-{number}", f"sk-{number}", models=("smoke",)) for number in range(5000)]
    gateway = start_gateway(api_keys_file="keys", secrets=keys_file(*keys))
    assert [status(gateway, f"sk-{number}") for number in (0, 2500, 4999, 5000)] == [200, 200, 200, 401]


def test_each_key_has_its_own_requests_a_minute(start_gateway: StartGateway) -> None:
    secrets = keys_file(alice(), make_key("bob", BOB))
    gateway = start_gateway(api_keys_file="keys", requests_per_minute=5, secrets=secrets)
    with gateway.client() as client:
        for key in (ALICE, BOB):
            replies = [ask(client, key) for _ in range(8)]
            assert [reply.status_code for reply in replies] == [200] * 5 + [429] * 3
            assert replies[-1].json()["error"]["code"] == "rate_limit_exceeded"
            assert replies[-1].headers["retry-after"] == "12"
        # Those who show no key are counted by address: guessing is limited too.
        assert [client.get("/v1/models").status_code for _ in range(7)] == [401] * 5 + [429] * 2
        # The stack's own key measures what there is.
        assert [ask(client, OWN).status_code for _ in range(8)] == [200] * 8
        assert client.get("/health").status_code == 200


def test_requests_beyond_a_keys_own_are_a_429_with_openais_headers(start_gateway: StartGateway) -> None:
    gateway = start_gateway(api_keys_file="keys", secrets=keys_file(alice(requests_per_minute=3)))
    with gateway.client() as client:
        replies = [ask(client) for _ in range(5)]
    assert [reply.status_code for reply in replies] == [200] * 3 + [429] * 2
    left = [reply.headers["x-ratelimit-remaining-requests"] for reply in replies]
    assert left == ["2", "1", "0", "0", "0"]
    assert {reply.headers["x-ratelimit-limit-requests"] for reply in replies} == {"3"}
    assert all(reply.headers["x-ratelimit-reset-requests"].endswith("s") for reply in replies)
    assert "x-ratelimit-limit-tokens" not in replies[0].headers
    error = replies[-1].json()["error"]
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    # Until the next minute, and a third of that one: the share of this minute's three that counts then falls with it.
    assert 1 <= int(replies[-1].headers["retry-after"]) <= 80
    assert f"Try again in {replies[-1].headers['retry-after']} s." in error["message"]


def test_real_tokens_count_and_not_what_was_asked_for(start_gateway: StartGateway) -> None:
    gateway = start_gateway(api_keys_file="keys", secrets=keys_file(alice(tokens_per_minute=1000)))
    with gateway.client() as client:
        # Each may take 900; each took 16.
        replies = [ask(client, max_tokens=900, mock={"usage": USAGE}) for _ in range(5)]
        last = ask(client, max_tokens=10, mock={"usage": USAGE})
        whole = ask(client, max_tokens=1001)
    assert [reply.status_code for reply in replies] == [200] * 5
    assert 1000 - 5 * 16 - 30 <= int(last.headers["x-ratelimit-remaining-tokens"]) <= 1000 - 5 * 16
    assert (whole.status_code, whole.json()["error"]["type"]) == (429, "tokens")
    assert whole.headers["x-should-retry"] == "false"
    assert "retry-after" not in whole.headers


def test_a_failed_request_costs_nothing(start_gateway: StartGateway, replicas: dict[str, Replica]) -> None:
    limited = alice(requests_per_minute=9, tokens_per_minute=1000, concurrency=1)
    gateway = start_gateway(api_keys_file="keys", secrets=keys_file(limited))
    for replica in replicas.values():
        replica.control(mode="503")
    with gateway.client() as client:
        failed = [ask(client, max_tokens=900).status_code for _ in range(3)]
        for replica in replicas.values():
            replica.reset()
        # nginx may take a moment to ask a replica again that failed.
        eventually(lambda: (reply := ask(client, max_tokens=900)).status_code == 200 or reply.status_code == 503)
        reply = ask(client, max_tokens=1)
    assert set(failed) == {503}
    assert int(reply.headers["x-ratelimit-remaining-requests"]) >= 6
    assert int(reply.headers["x-ratelimit-remaining-tokens"]) > 900


def test_so_many_requests_at_a_time_and_an_ended_one_makes_room(start_gateway: StartGateway) -> None:
    gateway = start_gateway(api_keys_file="keys", secrets=keys_file(alice(concurrency=2)))
    with gateway.client() as client, ThreadPoolExecutor(6) as pool:
        for attempt in attempts():
            replies = list(pool.map(lambda _: ask(client, mock={"delay": 0.7}), range(6)))
            with attempt:  # the last has come while the first still runs
                assert sorted(reply.status_code for reply in replies) == [200] * 2 + [429] * 4
        refused = next(reply for reply in replies if reply.status_code == 429)
        assert refused.json()["error"]["type"] == "concurrency"
        assert refused.headers["retry-after"] == "1"
        assert [ask(client).status_code for _ in range(4)] == [200] * 4


def test_a_client_that_leaves_makes_room(start_gateway: StartGateway) -> None:
    gateway = start_gateway(api_keys_file="keys", secrets=keys_file(alice(concurrency=1)))
    with gateway.client() as client:
        body = {"model": "smoke", "messages": [], "stream": True, "mock": {"chunks": 200, "interval": 0.05}}
        with client.stream("POST", CHAT, json=body, headers=bearer(ALICE)) as stream:
            chunks = stream.iter_bytes()  # one that nobody keeps closes the connection
            next(chunks)
            assert ask(client).status_code == 429
        eventually(lambda: ask(client).status_code == 200, seconds=3)


def test_a_revoked_key_gives_its_place_back(start_gateway: StartGateway) -> None:
    gateway = start_gateway(api_keys_file="keys", secrets=keys_file(alice(concurrency=1)))
    with gateway.client() as client:
        body = {"model": "smoke", "messages": [], "stream": True, "mock": {"chunks": 60, "interval": 0.05}}
        with client.stream("POST", CHAT, json=body, headers=bearer(ALICE)) as stream:
            chunks = stream.iter_bytes()
            next(chunks)
            change(gateway, gateway_text([], OWN))
            effective(gateway, (ALICE,), [401])
            # What it was asking already ends as usual.
            assert sum(part.count(b"data:") for part in chunks) >= 40
        change(gateway, gateway_text([alice(concurrency=1)], OWN))
        effective(gateway, (ALICE,), [200])
        assert ask(client).status_code == 200
