"""What clients see when something of the running stack goes away."""

import concurrent.futures
import json
import time

import httpx2

from tests.stack.conftest import Stack, await_condition
from tests.stack.test_serving import ask


def test_a_stopped_replica_is_left_out_and_comes_back(stack: Stack) -> None:
    client = stack.client()
    replica = stack.container("engine-smoke-2")
    stop = concurrent.futures.ThreadPoolExecutor(max_workers=1)

    stopped = stop.submit(replica.stop)
    answers = [ask(client, "What is the capital of France?") for _ in range(20)]
    stopped.result(timeout=60)
    answers += [ask(client, "What is the capital of France?") for _ in range(20)]

    assert all("Paris" in answer for answer in answers)

    replica.start()
    await_condition(
        lambda: stack.container("engine-smoke-2").attrs["State"]["Health"]["Status"] == "healthy",
        seconds=180,
        what="the replica healthy again",
    )

    def served_by_it() -> bool:
        with concurrent.futures.ThreadPoolExecutor(max_workers=4) as pool:
            list(pool.map(lambda _: ask(client, "Count from 1 to 9."), range(8)))
        return "engine-smoke-2" in stack.container("gateway").logs(since=int(time.time()) - 3).decode()

    await_condition(served_by_it, seconds=30, what="a request served by the replica that came back")


def test_a_request_in_flight_ends_when_its_engine_is_asked_to_stop(stack: Stack) -> None:
    replica = stack.container("engine-other-smoke-1")
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
        long = pool.submit(
            stack.client().completions.create,
            model="other/smoke", prompt="Hello", max_tokens=1500, extra_body={"ignore_eos": True},
        )  # fmt: skip
        time.sleep(1)  # long enough to be decoding, short against its 1,500 tokens
        assert not long.done()
        replica.stop()
        usage = long.result(timeout=60).usage
    replica.start()
    await_condition(
        lambda: stack.container("engine-other-smoke-1").attrs["State"]["Health"]["Status"] == "healthy",
        seconds=180,
        what="the engine healthy again",
    )

    assert usage
    assert usage.completion_tokens == 1500


def test_a_model_without_a_replica_is_a_503_with_retry_after_and_ready_names_it(stack: Stack) -> None:
    replica = stack.container("engine-other-smoke-1")
    replica.stop()
    try:
        with stack.http() as http:
            answer = http.post("/v1/completions", json={"model": "other/smoke", "prompt": "Hello", "max_tokens": 1})

            def says_so() -> bool:
                ready = http.get("/ready")
                return ready.status_code == httpx2.codes.SERVICE_UNAVAILABLE and "other/smoke" in ready.text

            await_condition(says_so, seconds=15, what="/ready names the model")
            other = http.post("/v1/completions", json={"model": "smoke", "prompt": "Hello", "max_tokens": 1})
            status = stack.clone.vllmstack("status", "--json")
    finally:
        replica.start()
    await_condition(
        lambda: stack.container("engine-other-smoke-1").attrs["State"]["Health"]["Status"] == "healthy",
        seconds=180,
        what="the engine healthy again",
    )

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["error"]["message"]
    assert other.status_code == 200
    states = {row["service"]: row["state"] for row in json.loads(status.stdout)["services"]}
    assert states["engine-other-smoke-1"] == "stopped"
