"""Streams, replicas that fail, and what a reload or a stop does to requests in flight."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.attempts import attempts
from tests.gateway.containers import GatewayContainer, Replica, eventually

CHAT = "/v1/chat/completions"
SMOKE = ("engine-smoke-1", "engine-smoke-2")
StartGateway = Callable[..., GatewayContainer]


def body(model: str = "smoke", **mock: Any) -> dict[str, Any]:
    return {"model": model, "mock": mock}


def events(reply: httpx2.Response) -> Iterator[dict[str, Any]]:
    for line in reply.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def served_by(gateway: GatewayContainer, count: int) -> list[str]:
    with gateway.client() as client:
        replies = [client.post(CHAT, json=body()) for _ in range(count)]
    assert [reply.status_code for reply in replies] == [200] * count
    return [reply.json()["served_by"] for reply in replies]


def requests_seen(replicas: dict[str, Replica]) -> int:
    return sum(len(replica.seen()["requests"]) for replica in replicas.values())


def test_events_arrive_one_by_one_as_the_replica_sends_them(gateway: GatewayContainer) -> None:
    for attempt in attempts():
        with gateway.client() as client, client.stream("POST", CHAT, json=body(chunks=10, interval=0.05)) as reply:
            delays = [time.time() - event["sent"] for event in events(reply)]
        assert len(delays) == 10
        with attempt:
            assert max(delays) < 0.04, "an event was held back until the next"


def test_a_stream_that_dies_ends_visibly_and_is_not_tried_again(
    gateway: GatewayContainer, replicas: dict[str, Replica]
) -> None:
    seen: list[int] = []
    with (
        pytest.raises(httpx2.RemoteProtocolError),
        gateway.client() as client,
        client.stream("POST", CHAT, json=body(chunks=10, die_after=3, interval=0.01)) as reply,
    ):
        seen.extend(event["number"] for event in events(reply))
    assert seen == [0, 1, 2]
    assert requests_seen(replicas) == 1


def test_a_client_that_goes_stops_the_engine(gateway: GatewayContainer, replicas: dict[str, Replica]) -> None:
    with gateway.client() as client, client.stream("POST", CHAT, json=body("org/Other:1", chunks=3000, interval=0.02)):
        eventually(lambda: replicas["engine-org-other-1-1"].seen()["active"] == 1)
        eventually(
            lambda: gateway.metrics()['requests_in_flight{model="org/Other:1",replica="engine-org-other-1-1"}'] == 1
        )
    eventually(lambda: replicas["engine-org-other-1-1"].seen()["aborted"] == 1, seconds=2)
    eventually(lambda: gateway.metrics()['requests_in_flight{model="org/Other:1",replica="engine-org-other-1-1"}'] == 0)


@pytest.mark.parametrize("path", [CHAT, "/generate"])
def test_a_client_that_goes_before_the_first_byte_stops_the_engine_too(
    gateway: GatewayContainer, replicas: dict[str, Replica], path: str
) -> None:
    content = json.dumps(body("org/Other:1", delay=60) | {"prompt": "x"}).encode()
    with socket.create_connection((gateway.host, gateway.port), 20) as connection:
        connection.sendall(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(content)))
        connection.sendall(content)
        eventually(lambda: replicas["engine-org-other-1-1"].seen()["active"] == 1)
    eventually(lambda: replicas["engine-org-other-1-1"].seen()["aborted"] == 1, seconds=2)


def test_requests_at_the_same_time_go_to_different_replicas(gateway: GatewayContainer) -> None:
    with gateway.client() as client, ThreadPoolExecutor(8) as pool:
        for attempt in attempts():
            replies = list(pool.map(lambda _: client.post(CHAT, json=body(delay=0.3)), range(8)))
            names = [reply.json()["served_by"] for reply in replies]
            with attempt:  # the last has come while the first still runs
                assert {name: names.count(name) for name in SMOKE} == dict.fromkeys(SMOKE, 4)


def in_flight(gateway: GatewayContainer) -> float:
    started = 'requests_in_flight{model="smoke"'
    return sum(value for name, value in gateway.metrics().items() if name.startswith(started))


@pytest.mark.parametrize("mode", ["503", "close"])
def test_a_replica_that_fails_before_the_first_byte_is_replaced_by_another(
    gateway: GatewayContainer, replicas: dict[str, Replica], mode: str
) -> None:
    retries = 'upstream_retries_total{model="smoke",replica="engine-smoke-1"}'
    before = gateway.metrics().get(retries, 0)
    replicas["engine-smoke-1"].control(mode=mode)
    eventually(lambda: set(served_by(gateway, 4)) == {"engine-smoke-2"} and gateway.metrics().get(retries, 0) > before)
    replicas["engine-smoke-1"].control(mode="ok")


def test_a_replica_that_failed_is_asked_again_after_a_few_seconds(
    gateway: GatewayContainer, replicas: dict[str, Replica]
) -> None:
    replicas["engine-smoke-1"].control(mode="close")
    eventually(lambda: set(served_by(gateway, 4)) == {"engine-smoke-2"})
    replicas["engine-smoke-1"].control(mode="ok")
    eventually(lambda: set(served_by(gateway, 4)) == set(SMOKE))


def test_a_dead_replica_costs_no_request_and_comes_back(
    gateway: GatewayContainer, replicas: dict[str, Replica]
) -> None:
    with ThreadPoolExecutor(4) as pool:
        load = [pool.submit(served_by, gateway, 60) for _ in range(3)]
        replicas["engine-smoke-2"].stop()
        for done in load:
            done.result()
    assert set(served_by(gateway, 4)) == {"engine-smoke-1"}
    replicas["engine-smoke-2"].start()
    # Idle as the other is, it gets nothing before its slow start has ended.
    eventually(lambda: set(served_by(gateway, 4)) == set(SMOKE), seconds=25)


def test_no_replica_is_a_503_that_says_when_to_ask_again(gateway: GatewayContainer) -> None:
    reply = gateway.client().post(CHAT, json=body("absent"))
    assert reply.status_code == 503
    assert reply.json()["error"]["code"] == "no_replica_available"
    assert reply.headers["retry-after"] == "5"


def test_the_503_of_every_replica_is_passed_on_as_it_is(
    start_gateway: StartGateway, replicas: dict[str, Replica]
) -> None:
    gateway = start_gateway()
    replicas["engine-org-other-1-1"].control(mode="503")
    reply = gateway.client().post(CHAT, json=body("org/Other:1"))
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "replica")


def test_a_lone_replica_that_hangs_up_is_a_502(start_gateway: StartGateway, replicas: dict[str, Replica]) -> None:
    gateway = start_gateway()
    replicas["engine-org-other-1-1"].control(mode="close")
    reply = gateway.client().post(CHAT, json=body("org/Other:1"))
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "replica_failed")


def test_a_slow_replica_is_a_504_and_nobody_else_is_asked(
    start_gateway: StartGateway, replicas: dict[str, Replica]
) -> None:
    gateway = start_gateway(first_byte_seconds=1)
    reply = gateway.client().post(CHAT, json=body(delay=30))
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "replica_timeout")
    assert requests_seen(replicas) == 1


def test_a_reload_and_a_stop_let_streams_end(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    numbers: list[int] = []

    def stream() -> None:
        with gateway.client() as client, client.stream("POST", CHAT, json=body(chunks=100, interval=0.05)) as reply:
            numbers.extend(event["number"] for event in events(reply))

    thread = threading.Thread(target=stream)
    thread.start()
    eventually(lambda: len(numbers) > 2)
    gateway.reload()
    assert served_by(gateway, 2)
    assert in_flight(gateway) == 1
    gateway.container.stop(timeout=20)
    thread.join()
    assert numbers == list(range(100))
    assert gateway.container.wait()["StatusCode"] == 0


def test_a_killed_worker_leaves_no_request_in_flight(start_gateway: StartGateway) -> None:
    gateway = start_gateway()

    with gateway.client() as client, client.stream("POST", CHAT, json=body(chunks=500, interval=0.02)) as reply:
        eventually(lambda: in_flight(gateway) == 1)
        workers = gateway.container.exec_run(["bash", "-c", "kill -9 $(cat /proc/1/task/1/children)"])
        assert workers.exit_code == 0, workers.output
        with pytest.raises(httpx2.TransportError):
            list(events(reply))
    eventually(lambda: in_flight(gateway) == 0)
    assert served_by(gateway, 2)
