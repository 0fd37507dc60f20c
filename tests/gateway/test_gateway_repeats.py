"""Requests that are sent more than once: how long they may wait in all, and what is believed and counted of them."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.gateway.conftest import StartGateway
from tests.gateway.containers import HTTP, GatewayContainer, Replica, eventually
from tests.gateway.test_gateway_queue import control
from tests.gateway.test_gateway_unreached import CHAT, LONE, LONE_MODEL, LOOKS_SECONDS, SMOKE, left, refuse

DEBUG = {"X-Vllmstack-Debug": "1"}
OFFER = """
    location = /-/offer { content_by_lua_block { ngx.shared.load:set("a|" .. ngx.var.arg_replica, 64) } }
"""
"""What a look does that finds a replica well."""

CONTROL = """
    location /-/replicas/ { content_by_lua_block { require("gateway.control").answer() } }
"""
"""What `gateway-control` asks, without the second that a program in the container takes to start."""


def chat(text: str, model: str = "smoke", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def in_flight(gateway: GatewayContainer) -> float:
    return sum(gateway.metrics()[f'requests_in_flight{{model="smoke",replica="{name}"}}'] for name in SMOKE)


def queued(gateway: GatewayContainer) -> float:
    return gateway.metrics()['queued_requests{model="smoke",priority="interactive"}']


def crash_once_more(gateway: GatewayContainer, replica: str) -> None:
    """It is taken back, and refuses the request that waits for it."""
    HTTP.get(f"{gateway.url}/-/offer", params={"replica": replica}).raise_for_status()
    eventually(lambda: gateway.metrics()[f'replica_takes_requests{{model="smoke",replica="{replica}"}}'] == 0)


# ---------------------------------------------------------------------------------------------------------------------
# How long a request waits


def test_a_request_waits_no_longer_however_often_its_replica_comes_back_and_goes(
    start_gateway: StartGateway, replicas: dict[str, Replica]
) -> None:
    admission = {"hold_seconds": 3, "max_queue_seconds": 0.5}
    gateway = start_gateway(server=OFFER, model={"admission": admission})
    refuse(gateway, *(replicas[service] for service in SMOKE), seconds=9)

    with ThreadPoolExecutor(1) as pool, gateway.client() as client:
        asked = pool.submit(client.post, CHAT, json=chat("x"))
        for _ in range(2):
            time.sleep(1)
            crash_once_more(gateway, SMOKE[0])
        reply = asked.result()

    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "no_replica_available")
    assert 3.4 < reply.elapsed.total_seconds() < 4.8
    assert gateway.metrics()['sheds_total{model="smoke",reason="no_replica"}'] == 1
    (line,) = gateway.logged(reply)
    assert line["tries"] == 6, "both replicas, three times"
    eventually(lambda: left(gateway) == {})


def test_a_request_whose_replicas_go_while_it_queues_is_held_like_any_other(start_gateway: StartGateway) -> None:
    admission = {"max_in_flight": 1, "max_queue_seconds": 3, "hold_seconds": 30}
    gateway = start_gateway(server=CONTROL, model={"admission": admission})
    with ThreadPoolExecutor(2) as pool, gateway.client() as client:
        # Both replicas must be drained before it ends: else the second has its turn.
        first = pool.submit(client.post, CHAT, json=chat("first", mock={"delay": 5}))
        eventually(lambda: in_flight(gateway) == 1)
        second = pool.submit(client.post, CHAT, json=chat("second"))
        eventually(lambda: queued(gateway) == 1)
        for replica in SMOKE:
            HTTP.post(f"{gateway.url}/-/replicas/{replica}/drain").raise_for_status()
        assert in_flight(gateway) == 1, "the machine stood still while the replicas were drained"
        time.sleep(7)  # longer than it would have waited for its turn
        assert queued(gateway) == 1
        control(gateway, "resume")
        assert [reply.result().status_code for reply in (first, second)] == [200, 200]
    eventually(lambda: left(gateway) == {})


def test_a_body_that_went_to_a_file_is_sent_again_whole(
    start_gateway: StartGateway, replicas: dict[str, Replica]
) -> None:
    gateway = start_gateway()
    refuse(gateway, replicas[LONE], seconds=1)
    with gateway.client() as client:
        reply = client.post(CHAT, json=chat("é" * 1_000_000, LONE_MODEL))
    assert reply.status_code == 200
    (seen,) = replicas[LONE].seen()["requests"]
    assert seen["bytes"] == len(reply.request.content) > 2_000_000


def test_a_client_that_leaves_before_its_request_is_sent_again_reaches_nobody(
    start_gateway: StartGateway, replicas: dict[str, Replica]
) -> None:
    gateway = start_gateway()
    refuse(gateway, replicas[LONE], seconds=2)
    with gateway.client() as client, pytest.raises(httpx2.TimeoutException):
        client.post(CHAT, json=chat("x", LONE_MODEL, mock={"delay": 60}), timeout=1)
    eventually(lambda: [line["status"] for line in gateway.requests_logged()] == [499])
    eventually(lambda: left(gateway) == {})
    assert replicas[LONE].seen()["active"] == 0


def test_a_reload_loses_no_request_that_is_held(start_gateway: StartGateway, replicas: dict[str, Replica]) -> None:
    gateway = start_gateway()
    refuse(gateway, replicas[LONE], seconds=3)
    with ThreadPoolExecutor(1) as pool, gateway.client() as client:
        asked = pool.submit(client.post, CHAT, json=chat("x", LONE_MODEL))
        eventually(lambda: gateway.metrics()[f'queued_requests{{model="{LONE_MODEL}",priority="interactive"}}'] == 1)
        gateway.reload()
        assert asked.result().status_code == 200
    eventually(lambda: left(gateway) == {})


# ---------------------------------------------------------------------------------------------------------------------
# What is believed and counted


def test_a_request_that_is_sent_again_finds_no_prefix_of_its_own(
    start_gateway: StartGateway, replicas: dict[str, Replica]
) -> None:
    gateway = start_gateway()
    refuse(gateway, replicas[LONE], seconds=0.3)
    with gateway.client() as client:
        assert client.post(CHAT, json=chat("a prompt of some length " * 40, LONE_MODEL)).status_code == 200
    metrics = gateway.metrics()
    assert metrics[f'prompt_tokens_routed_total{{model="{LONE_MODEL}"}}'] == 240, "once"
    assert f'prompt_tokens_matched_total{{model="{LONE_MODEL}"}}' not in metrics
    with gateway.client() as client:
        assert client.post(CHAT, json=chat("a prompt of some length " * 40, LONE_MODEL)).status_code == 200
    assert gateway.metrics()[f'prompt_tokens_matched_total{{model="{LONE_MODEL}"}}'] == 240


def test_a_prefix_is_believed_where_it_was_served_and_not_where_it_failed(
    start_gateway: StartGateway, replicas: dict[str, Replica]
) -> None:
    gateway = start_gateway()
    prompts = [chat(f"prompt {number} " * 60) for number in range(8)]
    replicas[SMOKE[0]].control(mode="close")
    with gateway.client(headers=DEBUG) as client:
        first = [client.post(CHAT, json=prompt) for prompt in prompts]
        replicas[SMOKE[0]].control(mode="ok")
        again = [client.post(CHAT, json=prompt) for prompt in prompts]
    assert {line["tries"] for line in gateway.logged(*first)} == {1, 2}, "some were given to the one that failed"
    told = [(reply.json()["served_by"], reply.headers["X-Vllmstack-Route-Reason"]) for reply in again]
    assert told == [(SMOKE[1], "prefix")] * 8


def test_a_wait_for_a_replica_is_no_time_of_a_replicas(start_gateway: StartGateway) -> None:
    gateway = start_gateway(model={"admission": {"max_in_flight": 1, "max_queue_seconds": 1.5, "hold_seconds": 30}})
    with ThreadPoolExecutor(1) as pool, gateway.client() as client:
        control(gateway, "drain")
        held = pool.submit(client.post, CHAT, json=chat("held"))
        time.sleep(3)
        control(gateway, "resume")
        assert held.result().elapsed.total_seconds() > 3
        time.sleep(LOOKS_SECONDS)  # in which the mean is made
        running = pool.submit(client.post, CHAT, json=chat("running", mock={"delay": 0.7}))
        eventually(lambda: in_flight(gateway) == 1)
        assert client.post(CHAT, json=chat("next")).status_code == 200, "its turn comes in less than 1.5 s"
        assert running.result().status_code == 200


def test_a_client_that_left_while_it_waited_tells_nothing_of_a_replicas_time(start_gateway: StartGateway) -> None:
    gateway = start_gateway(model={"admission": {"max_in_flight": 1, "max_queue_seconds": 0, "hold_seconds": 30}})

    def leave(number: int) -> None:
        with gateway.client() as client, pytest.raises(httpx2.TimeoutException):
            client.post(CHAT, json=chat(f"leaves {number}", mock={"delay": 60}), timeout=1)

    with ThreadPoolExecutor(20) as pool, gateway.client() as client:
        assert client.post(CHAT, json=chat("first", mock={"delay": 2.2})).status_code == 200
        time.sleep(LOOKS_SECONDS)
        control(gateway, "drain")
        list(pool.map(leave, range(20)))
        time.sleep(3)  # their requests wait longer than the first took
        control(gateway, "resume")
        eventually(lambda: [line["status"] for line in gateway.requests_logged()].count(499) == 20, 20)
        time.sleep(LOOKS_SECONDS)
        running = pool.submit(client.post, CHAT, json=chat("running", mock={"delay": 1}))
        eventually(lambda: in_flight(gateway) == 1)
        refused = client.post(CHAT, json=chat("next"))
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "3")
        assert running.result().status_code == 200
