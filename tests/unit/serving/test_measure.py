"""Throughput and latency, of an engine and of a server."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.commands.test_chat import events
from tests.unit.conftest import FakeGateway
from vllmstack.errors import InvalidInput, StackError
from vllmstack.serving import Distribution, create_llm, create_sampling_params, measure_latency, measure_throughput

CHAT = "/v1/chat/completions"


@pytest.fixture
def llm(fake_vllm: Path, model: str) -> Any:
    return create_llm(model)


@pytest.fixture
def url(gateway: FakeGateway) -> str:
    listed = {"object": "list", "data": [{"id": "smoke", "object": "model", "created": 1, "owned_by": "x"}]}
    gateway.answer("/v1/models", json.dumps(listed))
    gateway.answer(CHAT, events("Par", "is", tokens=4), kind="text/event-stream")
    return f"{gateway.url}/v1"


def test_percentiles_are_values_that_were_measured() -> None:
    found = Distribution.of([value / 100 for value in range(100, 0, -1)])

    assert found == Distribution(count=100, mean=pytest.approx(0.505), p50=0.5, p95=0.95, p99=0.99)  # type: ignore[arg-type]
    assert Distribution.of([3.0]) == Distribution(count=1, mean=3, p50=3, p95=3, p99=3)
    assert Distribution.of([]) is None


def test_an_engines_throughput_is_of_all_at_once(llm: Any) -> None:
    found = measure_throughput(llm, ["one", "three"], max_tokens=9)

    assert llm.calls == [("generate", 2)]
    assert (found.requests, found.failed, found.prompt_tokens, found.output_tokens) == (2, 0, 8, 10)
    assert found.output_tokens_per_second == pytest.approx(10 / found.seconds)
    assert found.prompt_tokens_per_second == pytest.approx(8 / found.seconds)
    assert found.requests_per_second == pytest.approx(2 / found.seconds)
    assert found.latency.p50 == 2.5


def test_an_engines_latency_is_of_one_at_a_time(llm: Any) -> None:
    found = measure_latency(llm, ["one", "two"], create_sampling_params(), runs=5, warmup=1)

    assert llm.calls == [("generate", 1)] * 6
    assert found.latency == Distribution(count=5, mean=2.5, p50=2.5, p95=2.5, p99=2.5)
    assert found.ttft == Distribution(count=5, mean=0.5, p50=0.5, p95=0.5, p99=0.5)
    assert found.tpot == found.ttft


def test_one_prompt_will_do_for_latency(llm: Any) -> None:
    assert measure_latency(llm, "one", runs=1, warmup=0).latency.count == 1
    assert measure_latency(llm, [{"role": "user", "content": "hi"}], runs=1, warmup=0).latency.count == 1
    assert llm.calls == [("generate", 1), ("chat", 1)]


def test_a_server_is_measured_as_its_users_see_it(url: str, gateway: FakeGateway) -> None:
    speed = measure_throughput(url, ["a", "b", "c"], concurrency=2, max_tokens=5)
    slow = measure_latency(url, "a", runs=3, warmup=1, max_tokens=5)

    assert (speed.requests, speed.prompt_tokens, speed.output_tokens) == (3, 9, 12)
    assert slow.latency.count == 3
    assert slow.ttft is not None
    assert slow.ttft.p50 <= slow.latency.p99
    bodies = [json.loads(body) for path, _, body in gateway.requests if path == CHAT]
    assert [body["max_tokens"] for body in bodies] == [5] * 7


def test_it_works_where_a_loop_runs_already(url: str) -> None:
    async def notebook() -> int:
        return measure_throughput(url, ["a"]).requests

    assert asyncio.run(notebook()) == 1


def test_a_server_that_refuses_all_is_told(url: str, gateway: FakeGateway) -> None:
    gateway.answer(CHAT, json.dumps({"error": {"message": "no such thing"}}), status=400)

    with pytest.raises(StackError, match="no such thing"):
        measure_throughput(url, ["a", "b"])
    with pytest.raises(StackError, match="no such thing"):
        measure_latency(url, "a", runs=2)


@pytest.mark.parametrize(
    ("given", "fact"),
    [
        ({"prompts": []}, "there is no prompt"),
        ({"prompts": "one"}, "one text is no list"),
        ({"prompts": ["one"], "params": True, "max_tokens": 5}, "params and max_tokens are both given"),
    ],
)
def test_what_cannot_be_measured_is_told(llm: Any, given: dict[str, Any], fact: str) -> None:
    if given.get("params"):
        given = given | {"params": create_sampling_params()}

    with pytest.raises(InvalidInput, match=fact):
        measure_throughput(llm, **given)


def test_runs_must_count(llm: Any) -> None:
    with pytest.raises(InvalidInput, match="measures nothing"):
        measure_latency(llm, "one", runs=0)


def test_a_server_takes_no_sampling_params(url: str, fake_vllm: Path) -> None:
    with pytest.raises(InvalidInput, match="a server takes no SamplingParams"):
        measure_throughput(url, ["a"], create_sampling_params())
