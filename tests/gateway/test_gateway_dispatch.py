"""Which replica gets a request, how many may wait, and what is told of it: the real image before scripted replicas."""

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docker
import httpx2
import pytest
from docker.models.networks import Network

from tests.gateway.conftest import StartGateway
from tests.gateway.containers import GatewayContainer, Replica, deployment, eventually
from tests.standstill import running_seconds

DEBUG = {"X-Vllmstack-Debug": "1"}


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "smoke", "messages": [{"role": "user", "content": text}], **more}


def ask(client: httpx2.Client, body: dict[str, Any], **headers: str) -> httpx2.Response:
    return client.post("/v1/chat/completions", json=body, headers=DEBUG | headers)


def in_flight(gateway: GatewayContainer, model: str = "smoke") -> float:
    started = f'requests_in_flight{{model="{model}"'
    return sum(value for name, value in gateway.metrics().items() if name.startswith(started))


def models(**of_smoke: Any) -> dict[str, Any]:
    return {"model": of_smoke}


# ---------------------------------------------------------------------------------------------------------------------
# Choice


def test_a_conversation_stays_with_the_replica_that_knows_it(gateway: GatewayContainer) -> None:
    with gateway.client() as client:
        for number in range(6):
            messages = [{"role": "system", "content": f"You are assistant {number}. " * 40}]
            answers = []
            for turn in range(4):
                messages.append({"role": "user", "content": f"Question {turn}. " * 30})
                answers.append(ask(client, {"model": "smoke", "messages": messages}))
                messages.append({"role": "assistant", "content": "An answer. " * 30})
            replicas = {answer.headers["X-Vllmstack-Replica"] for answer in answers}
            assert len(replicas) == 1
            reasons = [answer.headers["X-Vllmstack-Route-Reason"] for answer in answers]
            assert reasons[1:] == ["prefix"] * 3


def test_requests_without_a_common_prefix_are_spread(gateway: GatewayContainer) -> None:
    with gateway.client() as client:
        replicas = Counter(ask(client, chat(f"{number} " * 200)).headers["X-Vllmstack-Replica"] for number in range(60))
    assert len(replicas) == 2
    assert min(replicas.values()) >= 15


def test_one_hot_prefix_is_shared_by_all_replicas_when_there_is_load(gateway: GatewayContainer) -> None:
    prefix = "The same system prompt for everyone. " * 50
    with gateway.client() as client, ThreadPoolExecutor(max_workers=16) as pool:
        answers = pool.map(lambda n: ask(client, chat(prefix + str(n), mock={"delay": 0.1})), range(160))
        replicas = Counter(answer.headers["X-Vllmstack-Replica"] for answer in answers)
    assert max(replicas.values()) <= 1.2 * sum(replicas.values()) / 2


@pytest.mark.parametrize("how", ["header", "user", "prompt_cache_key"])
def test_a_session_has_its_replica(start_gateway: StartGateway, how: str) -> None:
    gateway = start_gateway(**models(routing="session"))
    seen: dict[int, set[str]] = {}
    with gateway.client() as client:
        for number in range(12):
            for turn in range(3):
                body = chat(f"{turn} of many", **({} if how == "header" else {how: f"s{number}"}))
                answer = ask(client, body, **({"X-Session-Id": f"s{number}"} if how == "header" else {}))
                assert answer.headers["X-Vllmstack-Route-Reason"] == "session"
                seen.setdefault(number, set()).add(answer.headers["X-Vllmstack-Replica"])
    assert {len(replicas) for replicas in seen.values()} == {1}
    assert len(set.union(*seen.values())) == 2


def test_round_robin_takes_turns(start_gateway: StartGateway) -> None:
    gateway = start_gateway(**models(routing="round-robin"))
    with gateway.client() as client:
        replicas = [ask(client, chat("the same")).headers["X-Vllmstack-Replica"] for _ in range(8)]
    assert replicas[0::2] == [replicas[0]] * 4
    assert replicas[1::2] == [replicas[1]] * 4
    assert replicas[0] != replicas[1]


def test_nobody_is_told_of_replicas_who_did_not_ask(gateway: GatewayContainer) -> None:
    with gateway.client() as client:
        answer = client.post("/v1/chat/completions", json=chat("hello"))
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("x-vllmstack")]


def test_a_retried_request_is_charged_to_the_replica_that_served_it(
    gateway: GatewayContainer, replicas: dict[str, Replica]
) -> None:
    replicas["engine-smoke-1"].control(mode="close")
    with gateway.client() as client:
        bodies = [chat(f"{number} " * 100, mock={"chunks": 30, "interval": 0.1}) for number in range(4)]
        with ThreadPoolExecutor(max_workers=4) as pool:
            running = [pool.submit(ask, client, body) for body in bodies]
            name = 'requests_in_flight{model="smoke",replica="engine-smoke-2"}'
            eventually(lambda: gateway.metrics()[name] == 4)
            assert {answer.result().headers["X-Vllmstack-Replica"] for answer in running} == {"engine-smoke-2"}
    eventually(lambda: in_flight(gateway) == 0)
    assert sum(value for key, value in gateway.metrics().items() if key.startswith("pending_prompt_tokens")) == 0


# ---------------------------------------------------------------------------------------------------------------------
# Admission


def test_beyond_the_queue_a_request_is_refused_at_once_and_told_when_to_come_again(start_gateway: StartGateway) -> None:
    gateway = start_gateway(**models(admission={"max_in_flight": 2, "max_queue_seconds": 0}))
    with gateway.client() as client, ThreadPoolExecutor(max_workers=2) as pool:
        running = [pool.submit(ask, client, chat(str(n), mock={"delay": 5})) for n in range(2)]
        eventually(lambda: in_flight(gateway) == 2)
        seconds = []
        for number in range(3):
            began = running_seconds()
            refused = ask(client, chat(f"{number} more"))
            seconds.append(running_seconds() - began)
            assert refused.status_code == 429
            assert refused.json()["error"]["code"] == "model_overloaded"
            assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert min(seconds) < 0.2
        assert [answer.result().status_code for answer in running] == [200, 200]
    assert gateway.metrics()['sheds_total{model="smoke",reason="full"}'] == 3


def test_who_waits_goes_in_order_and_never_more_than_the_limit_run(
    start_gateway: StartGateway, replicas: dict[str, Replica]
) -> None:
    gateway = start_gateway(**models(admission={"max_in_flight": 2, "max_queue_seconds": 60}))
    ended: list[int] = []
    lock = threading.Lock()

    def one(number: int) -> int:
        with gateway.client() as client:
            status = ask(client, chat(str(number), mock={"delay": 0.6})).status_code
        with lock:
            ended.append(number)
        return status

    most = 0
    with ThreadPoolExecutor(max_workers=12) as pool:
        running = []
        for number in range(12):
            running.append(pool.submit(one, number))
            time.sleep(0.06)
        while not all(answer.done() for answer in running):
            most = max(most, sum(replica.seen()["active"] for replica in replicas.values()))
        assert {answer.result() for answer in running} == {200}
    assert most <= 3, "two, and one more where two workers saw room at the same moment"
    assert max(abs(number - place) for place, number in enumerate(ended)) <= 4
    metrics = gateway.metrics()
    assert metrics['queue_seconds_count{model="smoke"}'] >= 8
    assert metrics['queued_requests{model="smoke",priority="interactive"}'] == 0


def test_a_client_that_leaves_the_queue_holds_nobody_up(start_gateway: StartGateway) -> None:
    gateway = start_gateway(**models(admission={"max_in_flight": 1, "max_queue_seconds": 60}))
    with gateway.client() as client, ThreadPoolExecutor(max_workers=2) as pool:
        running = pool.submit(ask, client, chat("first", mock={"delay": 1.5}))
        eventually(lambda: in_flight(gateway) == 1)
        for _ in range(3):
            with pytest.raises(httpx2.TimeoutException):
                client.post("/v1/chat/completions", json=chat("leaves"), timeout=0.1)
        assert ask(client, chat("stays")).status_code == 200
        assert running.result().status_code == 200
    eventually(lambda: in_flight(gateway) == 0)
    eventually(lambda: gateway.metrics()['queued_requests{model="smoke",priority="interactive"}'] == 0)


# ---------------------------------------------------------------------------------------------------------------------
# Names that stand for more than a model


def test_a_split_spreads_by_weight_and_the_metrics_tell_its_models_apart(
    start_gateway: StartGateway, replicas: dict[str, Replica]
) -> None:
    gateway = start_gateway(splits=({"name": "chat", "weights": {"smoke": 3, "org/Other:1": 1}},))
    with gateway.client() as client:
        answers = [client.post("/v1/chat/completions", json=chat("x", model="chat")) for _ in range(120)]
        names = {entry["id"]: entry for entry in client.get("/v1/models").json()["data"]}
    served = Counter(answer.json()["served_by"] for answer in answers)
    assert 12 <= served["engine-org-other-1-1"] <= 50, "a quarter of 120"
    assert names["chat"]["root"] == "smoke"
    metrics = gateway.metrics()
    assert metrics['split_requests_total{split="chat",model="org/Other:1"}'] == served["engine-org-other-1-1"]
    assert metrics['split_requests_total{split="chat",model="smoke"}'] == 120 - served["engine-org-other-1-1"]


def test_a_mirror_gets_its_share_and_its_answers_reach_nobody(
    start_gateway: StartGateway, replicas: dict[str, Replica]
) -> None:
    mirror = {"model": "org/Other:1", "ratio": 0.5}
    gateway = start_gateway(splits=({"name": "chat", "weights": {"smoke": 1}, "mirror": mirror},))
    body = chat("x", model="chat", mock={"delay": 0.01})
    with gateway.client() as client:
        answers = [client.post("/v1/chat/completions", json=body) for _ in range(80)]
    assert {answer.json()["served_by"] for answer in answers} <= {"engine-smoke-1", "engine-smoke-2"}
    copies = gateway.metrics()['mirrored_total{model="org/Other:1"}']
    assert 20 <= copies <= 60, "half of 80"
    eventually(lambda: len(replicas["engine-org-other-1-1"].seen()["requests"]) == copies)
    seen = replicas["engine-org-other-1-1"].seen()["requests"]
    assert {(request["path"], request["bytes"]) for request in seen} == {
        ("/v1/chat/completions", len(json.dumps(body, separators=(",", ":"))))
    }
    assert in_flight(gateway, "org/Other:1") == 0


def test_a_mirror_that_fails_fails_nobody(start_gateway: StartGateway, replicas: dict[str, Replica]) -> None:
    mirror = {"model": "absent", "ratio": 1}
    gateway = start_gateway(splits=({"name": "chat", "weights": {"smoke": 1}, "mirror": mirror},))
    with gateway.client() as client:
        answers = [client.post("/v1/chat/completions", json=chat("x", model="chat")) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 5


def test_an_adapter_is_routed_by_its_name_and_listed_with_its_model(start_gateway: StartGateway) -> None:
    serve = {"enable_lora": True, "lora_modules": ["sql=org/sql"]}
    gateway = start_gateway(**models(serve=serve))
    with gateway.client() as client:
        answer = client.post("/v1/chat/completions", json=chat("x", model="sql"))
        entry = client.get("/v1/models/sql").json()
    assert answer.json()["model"] == "sql"
    assert answer.json()["served_by"].startswith("engine-smoke")
    assert (entry["id"], entry["parent"]) == ("sql", "smoke")


# ---------------------------------------------------------------------------------------------------------------------
# Answers


USAGE = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
SECRET = "sk-test-0123456789abcdef"


@pytest.fixture(scope="module")
def keyed(
    engine: docker.DockerClient,
    network: Network,
    fleet: dict[str, Replica],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[GatewayContainer]:
    """A gateway with a key, which settles its tokens."""
    key = {"name": "alice", "sha256": hashlib.sha256(SECRET.encode()).hexdigest(), "priority": "interactive"}
    secrets = {"api_keys": json.dumps({"keys": [key]})}
    described = deployment(api_keys_file="keys.json")
    gateway = GatewayContainer(engine, network, tmp_path_factory.mktemp("keyed"), described, secrets)
    try:
        yield gateway.start()
    finally:
        gateway.container.remove(force=True)


def events(answer: httpx2.Response) -> list[Any]:
    found = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    return [part if part == "[DONE]" else json.loads(part) for part in found]


@pytest.mark.parametrize("split", [0, 7, 60])
@pytest.mark.parametrize(
    ("asked", "in_each", "at_the_end"),
    [(None, False, False), ({}, False, True), ({"continuous_usage_stats": True}, True, True)],
)
def test_usage_is_counted_and_shown_to_who_asked(
    keyed: GatewayContainer, asked: dict[str, Any] | None, in_each: bool, at_the_end: bool, split: int
) -> None:
    """The replica tells it with every event, as engines are made to; ``split``: bytes at a time, 0: an event."""
    options = {} if asked is None else {"stream_options": {"include_usage": True} | asked}
    key = 'tokens_total{{model="smoke",key="alice",kind="{}"}}'
    before = keyed.metrics()
    with keyed.client() as client:
        mock = {"chunks": 5, "usage": USAGE, "continuous": True, "split": split}
        answer = ask(client, chat("hello", stream=True, mock=mock, **options), Authorization=f"Bearer {SECRET}")
    seen = events(answer)
    assert seen[-1] == "[DONE]"
    assert [event["number"] for event in seen[:5]] == list(range(5))
    assert [event.get("usage") for event in seen[:5]] == [USAGE if in_each else None] * 5
    assert seen[5:-1] == ([{"choices": [], "usage": USAGE}] if at_the_end else [])
    (line,) = keyed.logged(answer)
    after = keyed.metrics()
    for kind, tokens in (("prompt", 11), ("completion", 5)):
        assert after[key.format(kind)] - before.get(key.format(kind), 0) == tokens
    assert (line["prompt_tokens"], line["completion_tokens"]) == (11, 5)


def test_usage_of_an_answer_that_comes_whole_is_counted_too(keyed: GatewayContainer) -> None:
    with keyed.client() as client:
        answer = ask(client, chat("hello", mock={"usage": USAGE, "bytes": 50_000}), Authorization=f"Bearer {SECRET}")
    assert answer.json()["usage"] == USAGE
    (line,) = keyed.logged(answer)
    assert (line["prompt_tokens"], line["completion_tokens"]) == (11, 5)


def test_without_keys_an_answer_stays_as_it_is(gateway: GatewayContainer) -> None:
    with gateway.client() as client:
        mock = {"chunks": 5, "usage": USAGE, "continuous": True}
        seen = events(ask(client, chat("hello", stream=True, mock=mock)))
    assert [event["usage"] for event in seen[:-1]] == [USAGE] * 6
