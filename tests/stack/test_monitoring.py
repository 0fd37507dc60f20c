"""Prometheus on the running stack."""

import json
from typing import Any

from tests.stack.conftest import Stack, await_condition
from tests.stack.test_serving import ask


def query(stack: Stack, expression: str) -> list[dict[str, Any]]:
    """The result vector, asked for inside Prometheus' own container: nothing of it is published."""
    command = ["/bin/promtool", "query", "instant", "--format=json", "http://127.0.0.1:9090", expression]
    # On a busy machine Docker 20.10 was seen to hand over nothing; promtool itself always says something.
    outputs = (stack.container("prometheus").exec_run(command).output for _ in range(3))
    output = next((one for one in outputs if one), None)
    assert isinstance(output, bytes)
    result: list[dict[str, Any]] = json.loads(output)
    return result


def test_each_replica_and_the_gateway_are_scraped_with_their_labels(stack: Stack) -> None:
    def all_up() -> bool:
        return len(query(stack, "up == 1")) == 8

    await_condition(all_up, seconds=30, what="three engines, the gateway and what watches them up")

    engines = {(row["metric"]["model"], row["metric"]["replica"]) for row in query(stack, 'up{job="engines"}')}
    assert engines == {
        ("smoke", "engine-smoke-1"),
        ("smoke", "engine-smoke-2"),
        ("other/smoke", "engine-other-smoke-1"),
    }


def test_an_engines_tokens_are_counted(stack: Stack) -> None:
    def counted() -> float:
        rows = query(stack, 'sum(vllm:generation_tokens_total{model="other/smoke"})')
        return float(rows[0]["value"][1]) if rows else 0.0

    before = counted()
    answer = stack.client().completions.create(
        model="other/smoke", prompt="Hello", max_tokens=50, extra_body={"ignore_eos": True}
    )

    assert answer.usage
    assert answer.usage.completion_tokens == 50
    await_condition(lambda: counted() >= before + 50, seconds=15, what="50 tokens more in Prometheus")


def test_recording_rules_give_values(stack: Stack) -> None:
    ask(stack.client(), "Hello!")

    names = {row["metric"]["__name__"] for row in query(stack, '{__name__=~"[a-z]+:.*:.*", __name__!~"vllm:.*"}')}
    assert names, "no recording rule has a value"


def test_the_gateway_counts_requests_by_model_and_replica(stack: Stack) -> None:
    ask(stack.client(), "Hello!")

    def counted() -> bool:
        rows = query(stack, "vllmstack_gateway_requests_total")
        return any(row["metric"].get("model") == "smoke" for row in rows)

    await_condition(counted, seconds=15, what="a request of the model smoke in the gateway's metrics")
