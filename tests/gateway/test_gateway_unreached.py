"""Requests that were given to a replica before the gateway had noticed that it takes no connections any more."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.attempts import attempts
from tests.gateway.conftest import StartGateway
from tests.gateway.containers import GatewayContainer, Replica, eventually
from tests.standstill import running_seconds
from vllmstack.deployment.api_keys import gateway_text, make_key

CHAT = "/v1/chat/completions"
SMOKE = ("engine-smoke-1", "engine-smoke-2")
LONE, LONE_MODEL = "engine-org-other-1-1", "org/Other:1"
LOOKS_SECONDS = 1.2
"""Time in which the gateway has asked each replica for its health."""


def refuse(gateway: GatewayContainer, *replicas: Replica, seconds: float) -> None:
    """Closes their ports for so long, with the gateway's looks at them left unanswered: nobody has told it yet."""

    def taken() -> float:
        return sum(value for name, value in gateway.metrics().items() if name.startswith("replica_takes_requests"))

    for attempt in attempts():
        for replica in replicas:
            replica.reset()
        eventually(lambda: taken() >= 3, 20)
        for replica in replicas:
            replica.control(health=0)
        time.sleep(LOOKS_SECONDS)
        for replica in replicas:
            replica.control(refuse=seconds)
        with attempt:  # an engine that is silent for longer than this is known to be
            assert taken() >= 3, "the gateway has noticed"


def left(gateway: GatewayContainer) -> dict[str, float]:
    """What is still counted of requests that have ended."""
    names = ("requests_in_flight", "pending_prompt_tokens", "queued_requests")
    return {name: value for name, value in gateway.metrics().items() if name.startswith(names) and value}


@pytest.mark.parametrize("path", [CHAT, "/generate"])
def test_a_request_that_its_only_replica_refuses_waits_for_it(
    start_gateway: StartGateway, replicas: dict[str, Replica], path: str
) -> None:
    # A key of one request at a time and two a minute: it counts once, however often it is sent.
    key = "sk-alice-0123456789"
    secrets = {
        "api_keys": gateway_text([make_key("alice", key, requests_per_minute=2, concurrency=1)], "sk-own-0123456789")
    }
    gateway = start_gateway(api_keys_file="keys", secrets=secrets)
    refuse(gateway, replicas[LONE], seconds=4)

    with gateway.client(headers={"Authorization": f"Bearer {key}"}) as client:
        reply = client.post(path, json={"model": LONE_MODEL, "prompt": "x"})

    assert reply.status_code == 200, reply.text
    assert reply.elapsed.total_seconds() > 1
    assert ("text" in reply.json()) == (path == "/generate")
    assert reply.headers["x-ratelimit-remaining-requests"] == "1"
    assert len(replicas[LONE].seen()["requests"]) == 1
    assert gateway.metrics()[f'requests_total{{model="{LONE_MODEL}",replica="{LONE}",key="alice",code="200"}}'] == 1
    eventually(lambda: left(gateway) == {})


def test_more_requests_than_the_replica_may_have_wait_and_then_take_turns(
    start_gateway: StartGateway, replicas: dict[str, Replica]
) -> None:
    gateway = start_gateway(model={"admission": {"max_in_flight": 2}})
    refuse(gateway, *(replicas[service] for service in SMOKE), seconds=2)

    def ask(number: int) -> httpx2.Response:
        with gateway.client() as client:
            return client.post(CHAT, json={"model": "smoke", "number": number})

    with ThreadPoolExecutor(8) as pool:
        statuses = [reply.status_code for reply in pool.map(ask, range(8))]

    assert statuses == [200] * 8
    eventually(lambda: left(gateway) == {})


def test_a_request_that_every_replica_refuses_is_a_503_when_it_has_waited(
    start_gateway: StartGateway, replicas: dict[str, Replica]
) -> None:
    gateway = start_gateway(model={"admission": {"hold_seconds": 2, "max_queue_seconds": 0.5}})
    refuse(gateway, *(replicas[service] for service in SMOKE), seconds=8)

    began = running_seconds()
    reply = gateway.client().post(CHAT, json={"model": "smoke"})

    assert running_seconds() - began < 4
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "no_replica_available")
    assert reply.elapsed.total_seconds() > 2.5
    assert reply.headers["retry-after"] == "5"
    assert gateway.metrics()['sheds_total{model="smoke",reason="no_replica"}'] == 1
    eventually(lambda: left(gateway) == {})


def test_a_replica_that_only_seemed_to_be_away_serves_again_at_the_next_look(
    start_gateway: StartGateway, replicas: dict[str, Replica]
) -> None:
    gateway = start_gateway()

    def ejections() -> float:
        return sum(value for name, value in gateway.metrics().items() if name.startswith("ejections_total"))

    for attempt in attempts():
        before = ejections()
        refuse(gateway, replicas[LONE], seconds=0.3)

        began = running_seconds()
        reply = gateway.client().post(CHAT, json={"model": LONE_MODEL})

        assert running_seconds() - began < 4
        assert reply.status_code == 200
        with attempt:  # no look came while the port was closed
            assert ejections() == before


def test_no_request_fails_while_the_only_replica_is_killed_and_started_again(
    start_gateway: StartGateway, replicas: dict[str, Replica]
) -> None:
    gateway = start_gateway()
    replies: list[Any] = []

    def ask() -> None:
        with gateway.client() as client:
            replies.append(client.post(CHAT, json={"model": LONE_MODEL}))

    replicas[LONE].stop()
    with ThreadPoolExecutor(40) as pool:
        for _ in range(30):
            pool.submit(ask)
            time.sleep(0.1)
        replicas[LONE].start()

    assert [reply.status_code for reply in replies] == [200] * 30
    assert len(replicas[LONE].seen()["requests"]) == 30
    eventually(lambda: left(gateway) == {})


def test_a_mirrors_copy_that_reaches_no_replica_goes_to_nobody_else(
    start_gateway: StartGateway, replicas: dict[str, Replica]
) -> None:
    mirror = {"model": "absent", "ratio": 1}
    gateway = start_gateway(splits=({"name": "chat", "weights": {"smoke": 1}, "mirror": mirror},))

    with gateway.client() as client:
        answers = [client.post(CHAT, json={"model": "chat"}) for _ in range(5)]

    assert [answer.status_code for answer in answers] == [200] * 5
    assert sum(len(replicas[service].seen()["requests"]) for service in SMOKE) == 5
