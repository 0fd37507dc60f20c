"""What clients see when something of the running stack goes away."""

import concurrent.futures
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from scripts import chaos_faults
from scripts.chaos_load import Load
from scripts.chaos_watch import Watch
from tests.stack.conftest import PROJECT, Stack, await_condition
from tests.stack.test_serving import ask
from vllmstack.engine_metrics import read_numbers
from vllmstack.host.containers import HEALTH_PROGRAM


@contextmanager
def stopped(stack: Stack, service: str) -> Iterator[None]:
    """Stops a container for as long as the block lasts, and ends with it healthy again."""
    stack.container(service).stop()
    try:
        yield
    finally:
        stack.container(service).start()
        await_condition(
            lambda: stack.container(service).attrs["State"]["Health"]["Status"] == "healthy",
            seconds=180,
            what=f"{service} healthy again",
        )


def test_no_request_fails_while_a_replica_stops_and_it_serves_again_when_it_is_back(stack: Stack) -> None:
    client = stack.client()
    answers: list[str] = []
    enough = threading.Event()

    def keep_asking() -> None:
        while not enough.is_set():
            answers.append(ask(client, "What is the capital of France?"))

    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        askers = [pool.submit(keep_asking) for _ in range(2)]
        try:
            await_condition(lambda: len(answers) > 10, seconds=60, what="10 answers from both replicas")
            # Docker returns when the engine has gone; with both askers at work all the time.
            with stopped(stack, "engine-smoke-2"):
                answered = len(answers)
                await_condition(lambda: len(answers) > answered + 40, seconds=60, what="40 answers without the replica")
                # On two cores a busy client would keep the engine from starting again.
                enough.set()
        finally:
            enough.set()
        for asker in askers:
            asker.result(timeout=60)

    assert [answer for answer in answers if "Paris" not in answer] == []

    def served_by_it() -> bool:
        began = int(time.time())
        with concurrent.futures.ThreadPoolExecutor(max_workers=4) as pool:
            list(pool.map(lambda _: ask(client, "Count from 1 to 9."), range(8)))
        return "engine-smoke-2" in stack.container("gateway").logs(since=began).decode()

    await_condition(served_by_it, seconds=30, what="a request served by the replica that came back")


def test_a_request_in_flight_ends_when_its_engine_is_asked_to_stop(stack: Stack) -> None:
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
        long = pool.submit(
            stack.client().completions.create,
            model="other/smoke", prompt="Hello", max_tokens=1900, extra_body={"ignore_eos": True},
        )  # fmt: skip
        await_condition(
            lambda: running(stack, "engine-other-smoke-1") == 1, seconds=30, what="the request in the engine"
        )
        with stopped(stack, "engine-other-smoke-1"):
            usage = long.result(timeout=60).usage

    assert usage
    assert usage.completion_tokens == 1900


def test_an_engine_that_ends_what_it_has_begun_takes_nothing_new(stack: Stack) -> None:
    client = stack.client()
    engine = stack.container("engine-smoke-2")
    answers: list[str] = []
    longs: list[concurrent.futures.Future[int]] = []

    def long() -> int:
        answer = client.completions.create(
            model="smoke", prompt="Hello", max_tokens=1900, extra_body={"ignore_eos": True}
        )
        return answer.usage.completion_tokens if answer.usage else 0

    def one_is_in_it() -> bool:
        longs.append(pool.submit(long))
        return running(stack, "engine-smoke-2") > 0

    def refuses() -> bool:
        said = engine.exec_run([*HEALTH_PROGRAM, "warm", "smoke"], stderr=False).output
        assert isinstance(said, bytes)
        return said.startswith(b"503 ") and b"no_replica_available" in said

    with concurrent.futures.ThreadPoolExecutor(max_workers=32) as pool:
        await_condition(one_is_in_it, seconds=30, what="a request in the engine")
        stopping = pool.submit(engine.stop)
        try:
            await_condition(refuses, seconds=10, what="a 503 of the engine's own")
            while not stopping.done():
                answers.append(ask(client, "What is the capital of France?"))
        finally:
            stopping.result()
            with stopped(stack, "engine-smoke-2"):
                pass

    assert {one.result() for one in longs} == {1900}
    assert answers
    assert [answer for answer in answers if "Paris" not in answer] == []


def running(stack: Stack, service: str) -> int:
    """Requests that the engine works on."""
    output = stack.container(service).exec_run([*HEALTH_PROGRAM, "metrics"], stderr=False).output
    assert isinstance(output, bytes)
    return read_numbers(output.decode()).running


def test_a_model_without_a_replica_is_a_503_with_retry_after_and_ready_names_it(stack: Stack) -> None:
    with stopped(stack, "engine-other-smoke-1"), stack.http() as http:
        answer = http.post("/v1/completions", json={"model": "other/smoke", "prompt": "Hello", "max_tokens": 1})

        def says_so() -> bool:
            ready = http.get("/ready")
            return ready.status_code == httpx2.codes.SERVICE_UNAVAILABLE and "other/smoke" in ready.text

        await_condition(says_so, seconds=15, what="/ready names the model")
        other = http.post("/v1/completions", json={"model": "smoke", "prompt": "Hello", "max_tokens": 1})
        status = stack.clone.vllmstack("status", "--json")

    assert answer.status_code == 503
    assert answer.elapsed.total_seconds() >= 2  # it waited for one, for as long as the deployment says
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["error"]["message"]
    assert other.status_code == 200
    states = {row["service"]: row["state"] for row in json.loads(status.stdout)["services"]}
    assert states["engine-other-smoke-1"] == "stopped"


@pytest.fixture
def broken(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> chaos_faults.Stack:
    """The stack, for `make chaos`' faults."""
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", PROJECT)
    return chaos_faults.Stack(client=stack.engine)


def load(stack: Stack, **how: float) -> Load:
    return Load(port=18080, model="smoke", key=stack.key, rate=how["rate"], tokens=int(how["tokens"]))


def test_a_paused_engine_is_out_within_ten_seconds_and_serves_again_without_help(
    stack: Stack, broken: chaos_faults.Stack, figures: list[str]
) -> None:
    replica = "engine-smoke-2"
    before = restarts(stack, replica)
    with load(stack, rate=2, tokens=100) as requests, Watch(broken, requests) as watch:
        assert watch.until(lambda sample: sample.in_flight.get(replica, 0) > 0, seconds=30)
        paused = chaos_faults.pause(broken, replica).at
        assert watch.until(lambda sample: not sample.takes[replica], seconds=20, since=paused)
        out = next(sample.at for sample in watch.since(paused) if not sample.takes[replica])
        # The watchdog in its container ends it, Docker starts it again. A busy client would keep it from its cores.
        await_condition(lambda: restarts(stack, replica) == before + 1, seconds=60, what="the container started again")
        ended = time.monotonic()
    assert watch_until_it_serves(broken, replica)
    figures.append(
        f"an engine that was paused was out after {out - paused:.1f} s, ended after {ended - paused:.1f} s, and served "
        f"again after {time.monotonic() - paused:.1f} s"
    )

    assert out - paused < 10
    assert [request for request in requests.requests if request.failed_before_a_byte] == []
    # Who had a part of an answer from it can have no more; all others were answered.
    assert all(request.sent < paused + 10 for request in requests.requests if request.cut)
    assert "health.py: ending this engine" in stack.container(replica).logs(tail=2000).decode()
    await_condition(
        lambda: stack.container(replica).attrs["State"]["Health"]["Status"] == "healthy", seconds=60, what="healthy"
    )


def restarts(stack: Stack, service: str) -> int:
    return int(stack.container(service).attrs["RestartCount"])


def watch_until_it_serves(broken: chaos_faults.Stack, replica: str) -> bool:
    with Watch(broken) as watch:
        return watch.until(lambda sample: sample.takes.get(replica, False), seconds=240)
