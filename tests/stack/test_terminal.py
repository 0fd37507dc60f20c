"""What an operator without a browser has: figures in the terminal, and all lines of one request."""

import json
from typing import Any

from tests.stack.conftest import Stack, await_condition
from tests.stack.test_monitoring import query
from tests.stack.test_serving import ask

TAKING = 'up{job="engines"} == 1 and on (replica) vllmstack_gateway_replica_takes_requests == 1'


def top(stack: Stack) -> dict[str, Any]:
    """One frame of `vllmstack top`, for scripts."""
    document: dict[str, Any] = json.loads(stack.clone.vllmstack("top", "--once", "--json").stdout)
    return document


def test_top_shows_the_models_and_what_they_do(stack: Stack) -> None:
    def busy() -> bool:
        ask(stack.client(), "Hello!")
        figures = {model["model"]: model for model in top(stack)["models"]}
        return bool(figures["smoke"]["requests_per_second"] and figures["smoke"]["ttft_p95_seconds"])

    await_condition(
        lambda: len(query(stack, TAKING)) == 3,
        seconds=60,
        what="three replicas that answer Prometheus and take requests",
    )
    await_condition(busy, seconds=30, what="requests a second and a TTFT of the model smoke")

    seen = top(stack)
    assert [model["model"] for model in seen["models"]] == ["other/smoke", "smoke"]
    assert {replica["replica"]: (replica["model"], replica["takes_requests"]) for replica in seen["replicas"]} == {
        "engine-other-smoke-1": ("other/smoke", 1),
        "engine-smoke-1": ("smoke", 1),
        "engine-smoke-2": ("smoke", 1),
    }
    assert all(0 <= replica["kv_cache_ratio"] <= 1 for replica in seen["replicas"])
    assert seen["models"][1]["output_tokens_per_second"] > 0


def test_a_frame_fits_a_terminal_of_80_columns(stack: Stack) -> None:
    shown = stack.clone.vllmstack("top").stdout

    assert "engine-other-smoke-1" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_requests_lines_are_joined_over_gateway_and_engine(stack: Stack) -> None:
    with stack.http() as client:
        answer = client.post(
            "/v1/completions",
            json={"model": "other/smoke", "prompt": "Hello", "max_tokens": 3},
            headers={"X-Request-Id": "terminal-test.1"},
        )
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == "terminal-test.1"

    def lines() -> list[dict[str, Any]]:
        done = stack.clone.vllmstack("logs", "--request", "terminal-test.1", "--json", check=False)
        return [json.loads(line) for line in done.stdout.splitlines()]

    await_condition(
        lambda: {line["service"] for line in lines()} == {"engine-other-smoke-1", "gateway"},
        seconds=15,
        what="the request's lines of engine and gateway",
    )
    engine, gateway = (
        next(line for line in lines() if line["service"] == service) for service in ("engine-other-smoke-1", "gateway")
    )
    assert engine["line"]["message"].startswith("Added request cmpl-terminal-test.1-0")
    assert gateway["line"]["request_id"] == "terminal-test.1"
    assert gateway["line"]["replica"] == "engine-other-smoke-1"
    assert engine["time"] < gateway["time"]


def test_engines_log_json_without_prompts_or_health_checks(stack: Stack) -> None:
    ask(stack.client(), "An unmistakable question?")

    logged = stack.container("engine-smoke-1").logs().decode() + stack.container("engine-smoke-2").logs().decode()

    assert '"message": "Application startup complete."' in logged
    assert "Added request chatcmpl-" in logged
    assert "unmistakable" not in logged
    assert "Received request" not in logged
    assert "GET /health" not in logged


def test_logs_are_text_for_people(stack: Stack) -> None:
    shown = stack.clone.vllmstack("logs", "other/smoke", "--tail", "all").stdout

    assert "Application startup complete." in shown
    assert '"message"' not in shown
