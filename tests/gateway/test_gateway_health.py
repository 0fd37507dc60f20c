"""Which replicas get requests: real nginx, and replicas that refuse, hang, start again and are drained."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.attempts import attempts
from tests.gateway.containers import GatewayContainer, Replica, eventually
from tests.standstill import running_seconds

CHAT = "/v1/chat/completions"
FIRST, SECOND = "engine-smoke-1", "engine-smoke-2"
HUNG_SECONDS = 3
RUNNING = "vllm:num_requests_running"
StartGateway = Callable[..., GatewayContainer]
MODEL = {"health": {"hung_seconds": HUNG_SECONDS, "slow_start_seconds": 1}, "routing": "round-robin"}


@pytest.fixture
def gateway(start_gateway: StartGateway) -> GatewayContainer:
    """One that notices a hang in seconds."""
    return start_gateway(model=MODEL)


def control(gateway: GatewayContainer, *words: str) -> tuple[int, str]:
    """Exit status and output of `gateway-control`."""
    done = gateway.container.exec_run(["gateway-control", *words])
    assert isinstance(done.output, bytes)
    assert done.exit_code is not None
    return done.exit_code, done.output.decode()


def seen(gateway: GatewayContainer, replica: str) -> dict[str, Any]:
    """What the gateway tells of a replica."""
    status, said = control(gateway, "replicas")
    assert status == 0, said
    found: dict[str, Any] = next(one for one in json.loads(said)["replicas"] if one["replica"] == replica)
    return found


def state(gateway: GatewayContainer, replica: str) -> str:
    return str(seen(gateway, replica)["state"])


def becomes(gateway: GatewayContainer, replica: str, wanted: str, seconds: float) -> None:
    eventually(lambda: state(gateway, replica) == wanted, seconds)


def out(gateway: GatewayContainer, replica: str) -> bool:
    """Whether it gets no requests; asked for without the time that a program in the container takes to start."""
    return gateway.metrics()[f'replica_takes_requests{{model="smoke",replica="{replica}"}}'] == 0


def served_by(gateway: GatewayContainer, count: int = 6) -> set[str]:
    with gateway.client() as client:
        replies = [client.post(CHAT, json={"model": "smoke"}) for _ in range(count)]
    assert [reply.status_code for reply in replies] == [200] * count
    return {reply.json()["served_by"] for reply in replies}


def ejections(gateway: GatewayContainer, replica: str, reason: str) -> float:
    return gateway.metrics().get(f'ejections_total{{model="smoke",replica="{replica}",reason="{reason}"}}', 0)


@contextmanager
def asking(gateway: GatewayContainer) -> Iterator[list[int]]:
    """Requests one after the other for as long as the block lasts; their statuses."""
    statuses: list[int] = []
    enough = threading.Event()

    def ask() -> None:
        with gateway.client() as client:
            while not enough.is_set():
                statuses.append(client.post(CHAT, json={"model": "smoke"}).status_code)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        enough.set()
        for thread in threads:
            thread.join()


def test_a_replica_that_dies_is_out_at_the_next_look_and_back_after_a_token(
    gateway: GatewayContainer, replicas: dict[str, Replica]
) -> None:
    with asking(gateway) as statuses:
        replicas[FIRST].stop()
        eventually(lambda: out(gateway, FIRST), 5)
        assert state(gateway, FIRST) == "dead"
        assert served_by(gateway) == {SECOND}
        replicas[FIRST].control_when_started(stuck=True)
        becomes(gateway, FIRST, "starting", seconds=5)
        assert served_by(gateway) == {SECOND}
        replicas[FIRST].control(stuck=False)
        becomes(gateway, FIRST, "serving", seconds=10)
        eventually(lambda: served_by(gateway) == {FIRST, SECOND})
    assert set(statuses) == {200}
    assert ejections(gateway, FIRST, "refused") + ejections(gateway, FIRST, "unnamed") == 1
    assert replicas[FIRST].seen()["tokens"] >= 1  # another gateway of the session may ask, too


def test_a_replica_that_is_paused_is_out_within_ten_seconds_and_back_by_itself(
    gateway: GatewayContainer, replicas: dict[str, Replica]
) -> None:
    replicas[FIRST].container.kill(signal="SIGSTOP")
    try:
        eventually(lambda: out(gateway, FIRST), 10)
        assert state(gateway, FIRST) == "dead"
        assert served_by(gateway) == {SECOND}
    finally:
        replicas[FIRST].container.kill(signal="SIGCONT")
    becomes(gateway, FIRST, "serving", seconds=8)
    assert ejections(gateway, FIRST, "silent") == 1


def test_a_request_that_waits_on_a_replica_whose_network_goes_is_answered_by_another(
    gateway: GatewayContainer, replicas: dict[str, Replica]
) -> None:
    answers: list[Any] = []

    def ask() -> None:
        with gateway.client() as client:
            answers.append(client.post(CHAT, json={"model": "smoke", "mock": {"delay": 6}}, timeout=120))

    thread = threading.Thread(target=ask)
    thread.start()
    eventually(lambda: [replicas[name].seen()["active"] for name in (FIRST, SECOND)] in ([1, 0], [0, 1]))
    busy = FIRST if replicas[FIRST].seen()["active"] else SECOND
    replicas[busy].unplug()
    try:
        eventually(lambda: out(gateway, busy), 10)
        # The kernel's probes end the wait; nobody tells nginx that the replica is gone.
        thread.join(60)
        assert [answer.status_code for answer in answers] == [200]
        assert {answer.json()["served_by"] for answer in answers} == {FIRST, SECOND} - {busy}
        assert seen(gateway, busy)["in_flight"] == 0
    finally:
        replicas[busy].plug()
    becomes(gateway, busy, "serving", seconds=10)


def test_a_replica_with_requests_and_without_a_step_hangs(
    gateway: GatewayContainer, replicas: dict[str, Replica]
) -> None:
    replicas[FIRST].control(stuck=True, metrics={RUNNING: 2.0})
    started = time.monotonic()
    eventually(lambda: out(gateway, FIRST), HUNG_SECONDS + 6)
    assert time.monotonic() - started > HUNG_SECONDS - 1
    assert state(gateway, FIRST) == "hung"
    assert "makes no step" in seen(gateway, FIRST)["detail"]
    assert served_by(gateway) == {SECOND}
    assert ejections(gateway, FIRST, "hung") == 1
    # /health has said 200 all the time.
    assert gateway.metrics()[f'replica_answers{{model="smoke",replica="{FIRST}"}}'] == 1
    assert gateway.metrics()[f'replica_takes_requests{{model="smoke",replica="{FIRST}"}}'] == 0
    replicas[FIRST].control(stuck=False, metrics={})
    becomes(gateway, FIRST, "serving", seconds=8)


def test_a_request_of_this_gateways_that_gets_nowhere_shows_a_hang_that_no_metric_tells(
    gateway: GatewayContainer, replicas: dict[str, Replica]
) -> None:
    replicas[FIRST].control(stuck=True)
    with gateway.client() as client, client.stream(
        "POST", CHAT, json={"model": "smoke", "mock": {"chunks": 1000, "interval": 0.05}}
    ), client.stream("POST", CHAT, json={"model": "smoke", "mock": {"chunks": 1000, "interval": 0.05}}):  # fmt: skip
        assert seen(gateway, FIRST)["in_flight"] == 1
        becomes(gateway, FIRST, "hung", seconds=HUNG_SECONDS + 8)
        assert state(gateway, SECOND) == "serving"
    replicas[FIRST].control(stuck=False)
    becomes(gateway, FIRST, "serving", seconds=8)


def test_steps_and_tokens_keep_a_slow_replica_in(start_gateway: StartGateway, replicas: dict[str, Replica]) -> None:
    # The gateway looks every two seconds: a limit that is far from that, for a machine that stands still in between.
    hung_seconds = 8
    gateway = start_gateway(model=MODEL | {"health": {"hung_seconds": hung_seconds, "slow_start_seconds": 1}})
    # A gauge that stands, though the engine gives tokens; and an engine that gives none, but whose cache fills.
    replicas[FIRST].control(metrics={RUNNING: 1.0})
    replicas[SECOND].control(stuck=True)
    until = time.monotonic() + 2 * hung_seconds
    while time.monotonic() < until:
        replicas[SECOND].control(metrics={RUNNING: 1.0, "vllm:kv_cache_usage_perc": time.monotonic()})
        time.sleep(0.5)
    assert (state(gateway, FIRST), state(gateway, SECOND)) == ("serving", "serving")
    assert replicas[FIRST].seen()["tokens"] > 0


def test_an_engine_that_was_started_again_between_two_looks_begins_anew(
    gateway: GatewayContainer, replicas: dict[str, Replica]
) -> None:
    for attempt in attempts():
        time.sleep(2.5)  # the gateway has read /metrics once, unless it was late
        replicas[FIRST].control(start=time.time())
        with attempt:
            eventually(lambda: ejections(gateway, FIRST, "restarted") == 1)
    becomes(gateway, FIRST, "serving", seconds=8)
    assert replicas[FIRST].seen()["tokens"] >= 1  # another gateway of the session may ask, too


def test_a_model_that_only_embeds_comes_back_after_an_embedding(
    gateway: GatewayContainer, replicas: dict[str, Replica]
) -> None:
    replicas[FIRST].control(health=500, embeds=True)
    becomes(gateway, FIRST, "dead", seconds=5)
    assert ejections(gateway, FIRST, "status") == 1
    replicas[FIRST].control(health=200)
    becomes(gateway, FIRST, "serving", seconds=10)
    assert replicas[FIRST].seen()["tokens"] >= 1  # another gateway of the session may ask, too


def test_a_drained_replica_gets_nothing_until_it_is_resumed_and_has_given_a_token(
    gateway: GatewayContainer, replicas: dict[str, Replica]
) -> None:
    eventually(lambda: served_by(gateway) == {FIRST, SECOND})
    with gateway.client() as client, client.stream(
        "POST", CHAT, json={"model": "smoke", "mock": {"chunks": 1000, "interval": 0.02}}
    ) as stream:  # fmt: skip
        busy = FIRST if seen(gateway, FIRST)["in_flight"] else SECOND
        other = SECOND if busy == FIRST else FIRST
        status, said = control(gateway, "drain", busy)
        assert (status, json.loads(said)["state"], json.loads(said)["in_flight"]) == (0, "draining", 1)
        assert served_by(gateway, 20) == {other}
        assert next(stream.iter_lines()), "what is in flight goes on"
    eventually(lambda: seen(gateway, busy)["in_flight"] == 0)

    replicas[busy].stop()
    replicas[busy].control_when_started(stuck=True)
    time.sleep(2.5)
    assert state(gateway, busy) == "draining"
    status, _ = control(gateway, "resume", busy)
    assert status == 0
    time.sleep(2.5)
    assert state(gateway, busy) == "starting"
    assert served_by(gateway, 20) == {other}
    replicas[busy].control(stuck=False)
    becomes(gateway, busy, "serving", seconds=8)
    eventually(lambda: served_by(gateway) == {FIRST, SECOND})
    # Who drained it wanted it to go.
    metrics = gateway.metrics()
    ejected = {name: value for name, value in metrics.items() if name.startswith("ejections_total") and busy in name}
    assert ejected
    assert not any(ejected.values())


def test_a_drain_survives_a_reload(gateway: GatewayContainer) -> None:
    control(gateway, "drain", FIRST)
    gateway.reload()
    time.sleep(1.5)
    assert (state(gateway, FIRST), served_by(gateway)) == ("draining", {SECOND})


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("drain", "engine-smoke-9"), 1, "there is no replica engine-smoke-9; there are: engine-smoke-1"),
        (("resume", "a b"), 1, "is no service's name"),
        (("drain", "../../health"), 1, "is no service's name"),
        (("eject", FIRST), 2, "usage: gateway-control replicas | drain REPLICA | resume REPLICA"),
        ((), 2, "usage:"),
    ],
)
def test_what_cannot_be_done_is_said(
    shared_gateway: GatewayContainer, words: tuple[str, ...], status: int, text: str
) -> None:
    done, said = control(shared_gateway, *words)
    assert done == status
    assert text in said


def test_nobody_outside_the_container_drains_a_replica(shared_gateway: GatewayContainer) -> None:
    with shared_gateway.client() as client:
        base = f"http://{shared_gateway.host}:9113/-"
        assert client.post(f"{base}/replicas/{FIRST}/drain").status_code == 403
        assert client.get(f"{base}/replicas").status_code == 403
        assert client.post("/-/replicas/engine-smoke-1/drain").status_code == 404


def test_a_gateway_that_starts_again_trusts_its_engines_at_once(
    gateway: GatewayContainer, replicas: dict[str, Replica]
) -> None:
    for replica in replicas.values():
        replica.control(stuck=True)  # no token is asked for
    gateway.container.kill()
    gateway.container.wait()
    gateway.container.start()
    started = running_seconds()

    def serves() -> bool:
        # Its first requests may come before nginx has looked up a name.
        return gateway.alive() and gateway.client().post(CHAT, json={"model": "smoke"}).status_code == 200

    eventually(serves, 5)
    assert running_seconds() - started < 3
    eventually(lambda: served_by(gateway, 4) == {FIRST, SECOND}, 5)
    becomes(gateway, FIRST, "serving", seconds=3)


def test_the_checks_go_on_when_the_worker_that_makes_them_is_killed(
    gateway: GatewayContainer, replicas: dict[str, Replica]
) -> None:
    gateway.container.exec_run(["bash", "-c", "kill -9 $(cat /proc/1/task/1/children)"])
    time.sleep(1)
    replicas[SECOND].control(health=500)
    becomes(gateway, SECOND, "dead", seconds=5)
    replicas[SECOND].control(health=200)
    becomes(gateway, SECOND, "serving", seconds=8)
    assert "killing previous instance" not in gateway.logs()


def available(gateway: GatewayContainer, model: str = "smoke") -> float | None:
    return gateway.metrics().get(f'model_available{{model="{model}"}}')


@contextmanager
def stopped(replica: Replica) -> Iterator[None]:
    """Dead for as long as the block lasts."""
    replica.stop()
    try:
        yield
    finally:
        replica.start()


def states(gateway: GatewayContainer, replica: str) -> set[str]:
    """Those that the metrics have as 1."""
    found = {name: value for name, value in gateway.metrics().items() if name.startswith("replica_state")}
    return {name.rpartition('state="')[2].removesuffix('"}') for name in found if replica in name and found[name]}


def test_the_metrics_tell_a_replicas_state(gateway: GatewayContainer, replicas: dict[str, Replica]) -> None:
    eventually(lambda: states(gateway, FIRST) == {"serving"})

    with stopped(replicas[FIRST]):
        eventually(lambda: states(gateway, FIRST) == {"dead"}, 10)
    control(gateway, "drain", SECOND)

    assert states(gateway, SECOND) == {"draining"}


def test_a_model_is_available_from_its_first_replica_on(
    gateway: GatewayContainer, replicas: dict[str, Replica]
) -> None:
    # The deployment has a model that nothing serves: it has never been there, and is no outage.
    eventually(lambda: available(gateway) == 1)
    assert available(gateway, "absent") is None

    with stopped(replicas[FIRST]):
        eventually(lambda: out(gateway, FIRST), 10)
        assert available(gateway) == 1
        with stopped(replicas[SECOND]):
            eventually(lambda: available(gateway) == 0, 10)


def test_a_model_whose_only_replica_is_drained_is_neither(
    gateway: GatewayContainer, replicas: dict[str, Replica]
) -> None:
    eventually(lambda: available(gateway) == 1)

    control(gateway, "drain", FIRST)
    control(gateway, "drain", SECOND)

    assert available(gateway) is None
